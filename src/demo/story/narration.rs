//! How the story looks: plain lines of at most 90 columns, colours only where they are wanted.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{
    Ending,
    steps::{Failed, Told},
};

/// Writes the story.
pub(super) struct Narrator<'a> {
    out: &'a mut dyn Write,
    color: bool,
    /// Columns used by the title that waits for its result.
    column: usize,
}

impl<'a> Narrator<'a> {
    pub(super) fn new(out: &'a mut dyn Write, color: bool) -> Self {
        Self { out, color, column: 0 }
    }

    pub(super) fn opening(&mut self) -> io::Result<()> {
        let title = self.painted(BOLD, "bearerd demo");
        writeln!(self.out, "{title}: a key, a sidecar, a client, and a Google of their own.")?;
        writeln!(self.out, "Real sockets, real TLS, real signatures; nothing leaves this machine.\n")
    }

    /// The title alone, so that one sees what is being waited for.
    pub(super) fn begin(&mut self, number: usize, title: &str) -> io::Result<()> {
        let text = format!("{number}  {title} ");
        self.column = text.chars().count();
        let text = self.painted(BOLD, &text);
        write!(self.out, "{text}")?;
        self.out.flush()
    }

    pub(super) fn held(&mut self, told: &Told, took: Duration) -> io::Result<()> {
        self.result(GREEN, '✓', took)?;
        for (label, text) in &told.rows {
            self.row(label, text, PLAIN)?;
        }
        self.row("why", told.why, DIM)?;
        writeln!(self.out)
    }

    pub(super) fn failed(&mut self, failed: &Failed, took: Duration) -> io::Result<()> {
        self.result(RED, '✗', took)?;
        self.row("expected", &failed.expected, PLAIN)?;
        self.row("seen", &failed.seen, PLAIN)?;
        writeln!(self.out)
    }

    pub(super) fn ending(&mut self, ending: &Ending) -> io::Result<()> {
        let (all, held, took) = (ending.all, ending.held, shown(ending.took));
        let Some((title, _)) = &ending.failed else {
            let line = self.painted(GREEN, &format!("{held} of {all} held in {took}."));
            writeln!(self.out, "{line}")?;
            for line in wrapped(&ending.sum.to_string(), WIDTH) {
                writeln!(self.out, "{line}")?;
            }
            return write!(self.out, "\n{NEXT}");
        };
        let line = self.painted(RED, &format!("{held} of {all} held in {took}."));
        let rest = match all - held - 1 {
            0 => String::new(),
            1 => " The last one was not tried.".to_owned(),
            left => format!(" The {left} after it were not tried."),
        };
        writeln!(self.out, "{line} Step {} did not: {title}.{rest}", held + 1)
    }

    /// A line of the story's own margin.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A heading.
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted(BOLD, text);
        writeln!(self.out, "\n{text}")
    }

    fn result(&mut self, color: &str, mark: char, took: Duration) -> io::Result<()> {
        let dots = ".".repeat(MARK.saturating_sub(self.column + 1));
        let (dots, mark) = (self.painted(DIM, &dots), self.painted(color, &mark.to_string()));
        writeln!(self.out, "{dots} {mark} {:>7}", shown(took))
    }

    fn row(&mut self, label: &str, text: &str, style: &str) -> io::Result<()> {
        let mut label = label;
        for line in wrapped(text, WIDTH - TEXT) {
            let (margin, line) =
                (self.painted(DIM, &format!("   {label:<width$}", width = TEXT - 3)), self.painted(style, &line));
            writeln!(self.out, "{margin}{line}")?;
            label = "";
        }
        Ok(())
    }

    fn painted(&self, style: &str, text: &str) -> String {
        if self.color && !style.is_empty() { format!("{style}{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn shown(took: Duration) -> String {
    match took.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}

/// Cut between words; a word longer than a line stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().filter(|line| line.is_empty() || columns(line) + 1 + columns(word) <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

const WIDTH: usize = 90;
/// Where texts begin.
const TEXT: usize = 15;
/// Where the mark of a step stands.
const MARK: usize = 80;

const PLAIN: &str = "";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[1;32m";
const RED: &str = "\x1b[1;31m";

const NEXT: &str = "\
Next:
  bearerd demo --all               the same, and tokens for phones, devices and services
  bearerd demo --stay              the same, then left running, with curl lines to paste
  bearerd check --key key.json     reads your own key and tries one exchange
  bearerd exec --key key.json -- curl -sS \\
    'https://storage.googleapis.com/storage/v1/b?project=MY_PROJECT'
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_words() {
        for (text, width, lines) in [
            ("one two three", 7, &["one two", "three"][..]),
            ("one two three", 80, &["one two three"]),
            ("incomprehensibilities are long", 5, &["incomprehensibilities", "are", "long"]),
            ("", 5, &[""]),
        ] {
            assert_eq!(wrapped(text, width), lines, "{text}");
        }
    }

    #[test]
    fn a_step_that_held_and_one_that_did_not() {
        let mut out = Vec::new();
        let mut narrator = Narrator::new(&mut out, false);
        narrator.begin(1, "A key goes in").unwrap();
        narrator.held(&Told::new("it did").google("it too").because("so"), Duration::from_millis(12)).unwrap();
        narrator.begin(2, "And out").unwrap();
        narrator.failed(&Failed::new("a token", "none"), Duration::from_millis(2340)).unwrap();
        let dots = |count| ".".repeat(count);
        let expected = format!(
            "1  A key goes in {} ✓   12 ms\n   what        it did\n   Google saw  it too\n   why         so\n\n2  And out {} \
             ✗   2.3 s\n   expected    a token\n   seen        none\n\n",
            dots(62),
            dots(68)
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn colours_are_used_only_where_they_are_wanted() {
        for color in [false, true] {
            let mut out = Vec::new();
            Narrator::new(&mut out, color).heading("title").unwrap();
            assert_eq!(out.contains(&0x1b), color);
        }
    }
}
