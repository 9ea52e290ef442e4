//! Plain scalars, read and written: what `kubectl` takes a bare word for, and when a word needs quotes.
//!
//! Refuses to know collections. Called by `tree` and `render`.

use serde_json::{Number, Value};

/// What a plain scalar means to `kubectl`, which reads YAML 1.1: `on` is true and `0444` octal. `None` = text.
pub(super) fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Some(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Some(Value::Bool(false));
        }
        _ => {}
    }
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || b"+-.".contains(&first)) {
        return None;
    }
    integer(&text.replace('_', "")).or_else(|| float(&text.replace('_', "")))
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // The standard library would take a second sign.
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let number = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        false => Some(Value::from(number)),
        true => i64::try_from(-i128::from(number)).ok().map(Value::from),
    }
}

fn float(text: &str) -> Option<Value> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number: f64 = if is_number { text.parse().ok()? } else { return None };
    Number::from_f64(number).map(Value::Number)
}

/// Whether a plain scalar is a number that JSON, and so Kubernetes, does not have.
pub(super) fn is_no_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    [".nan", ".NaN", ".NAN"].contains(&text) || [".inf", ".Inf", ".INF"].contains(&unsigned)
}

/// A scalar for block style: plain where nobody can take it for anything else.
pub(super) fn block(text: &str) -> String {
    let first_is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.-:@+".contains(c);
    if first_is_plain && text.chars().all(plain) && !text.ends_with(':') && resolve(text).is_none() {
        return text.to_owned();
    }
    let one_line = text.chars().all(|c| c == ' ' || !(c.is_control() || c.is_whitespace() || c == '\u{feff}'));
    if one_line && text.contains(['"', '\\']) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    quoted(text)
}

/// A double-quoted scalar, read alike as YAML and as JSON.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Line breaks to YAML 1.1, and what must not stand in a stream.
            '\u{2028}' | '\u{2029}' | '\u{feff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
