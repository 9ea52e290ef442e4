//! The page about the house: modules, steps and arithmetic are those of the code.

use std::{fs, time::Duration};

use bearerd::token::schedule::{self, GUARD, refresh_age};

use super::page::{codes, page, top};

#[test]
fn every_module_stands_in_the_table_in_its_order() {
    let lib = fs::read_to_string(top().join("src/lib.rs")).unwrap();
    let table = lib.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).unwrap();
    let order: Vec<&str> = table.lines().flat_map(|line| line.trim_start_matches("//!").split_whitespace()).collect();
    assert_eq!(page("docs/architecture.md").first_codes("## The house"), order);
}

#[test]
fn the_steps_of_a_request_are_those_of_the_pipeline() {
    let source = fs::read_to_string(top().join("src/proxy/request.rs")).unwrap();
    let head: String = source.lines().take_while(|line| line.starts_with("//!")).map(|line| &line[3..]).collect();
    let real: Vec<(String, String)> = head.split('→').map(step).collect();
    let section = page("docs/architecture.md").section("## Life of a request");
    let item = |line: &str| {
        let (number, rest) = line.split_once(". **")?;
        number.parse::<u8>().ok()?;
        Some((number.to_owned(), first_word(rest)))
    };
    let documented: Vec<(String, String)> = section.lines().filter_map(item).collect();
    assert_eq!(documented, real);
    assert_eq!(real.len(), 7);
}

/// `… 2 `policy.decide`` as number and name.
fn step(text: &str) -> (String, String) {
    let at = text.find(|letter: char| letter.is_ascii_digit()).unwrap();
    (text[at..=at].to_owned(), first_word(&text[at + 1..]))
}

fn first_word(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap();
    word.trim_matches(|letter: char| !letter.is_alphanumeric()).to_lowercase()
}

#[test]
fn the_arithmetic_of_the_schedule_is_right() {
    let hour = Duration::from_secs(3600);
    let minutes = |time: Duration| format!("{:.1}", time.as_secs_f64() / 60.0).trim_end_matches(".0").to_owned();
    let table = page("docs/architecture.md").table("## Life of a token");
    for availability in [40, 55] {
        let settings = schedule::Settings { availability: Duration::from_secs(availability * 60) };
        let (low, high) = (refresh_age(hour, settings, 0.0), refresh_age(hour, settings, 1.0));
        let left = hour - high - GUARD;
        let row = table.iter().find(|row| codes(&row[0]) == [format!("{availability}m")]).unwrap();
        assert!(row[1].ends_with(&format!(": {} to {} min", minutes(low), minutes(high))), "{row:?}");
        assert_eq!(row[2], format!("{:.1} min", left.as_secs_f64() / 60.0));
    }
}
