//! Quantities of resources, as Kubernetes writes them.

use super::settings::Resources;

/// In billionths, rounded up.
pub(super) fn parse(text: &str) -> Option<u128> {
    let end = text.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.len() > 18 || fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, per) = unit(suffix)?;
    let value = digits.checked_mul(BILLION)?.checked_mul(times)?;
    Some(value.div_ceil(scale.checked_mul(per)?))
}

/// What a suffix multiplies and divides by.
fn unit(suffix: &str) -> Option<(u128, u128)> {
    if let Some(power) = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|unit| *unit == suffix) {
        return Some((1 << (10 * (power + 1)), 1));
    }
    if let Some(power) = ["", "k", "M", "G", "T", "P", "E"].iter().position(|unit| *unit == suffix) {
        return Some((1000_u128.pow(u32::try_from(power).ok()?), 1));
    }
    if let Some(power) = ["m", "u", "n"].iter().position(|unit| *unit == suffix) {
        return Some((1, 1000_u128.pow(u32::try_from(power + 1).ok()?)));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs().min(18))?;
    (exponent.abs() <= 18).then_some(if exponent < 0 { (1, power) } else { (power, 1) })
}

/// What is wrong with requests and limits: the field, and why.
pub(super) fn problems(resources: &Resources) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (kind, values) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, value) in values {
            if parse(value).is_none() {
                found.push((
                    format!("{kind}.{name}"),
                    format!("{} is no quantity, want one such as 10m or 64Mi", super::finding::shown(value)),
                ));
            }
        }
    }
    for (name, request) in &resources.requests {
        let limit = resources.limits.get(name);
        let larger = limit.and_then(|limit| Some(parse(request)? > parse(limit)?)).unwrap_or_default();
        if larger {
            found.push((format!("requests.{name}"), "larger than the limit, want at most that".to_owned()));
        }
    }
    found
}

const BILLION: u128 = 1_000_000_000;
