//! Draws the status as a page of its own: no script, no file beside it, readable in the dark. Pure.
//!
//! Text from outside goes in through `Escaped` and no other way.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use super::status::{Credential, Phase, Problem, RestingKey, Status, TokenState, Verdict, When};

/// The whole document.
pub(super) fn render(status: &Status) -> String {
    let mut page = String::with_capacity(16 * 1024);
    // Writing to a `String` cannot fail.
    let _ = draw(&mut page, status);
    page
}

/// Text made safe for content and for quoted attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A point in time as people say it, with the exact one on hover.
struct Spoken<'a>(&'a When);

impl fmt::Display for Spoken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let When { at, in_seconds } = self.0;
        let span = span(in_seconds.unsigned_abs());
        write!(f, "<time datetime=\"{0}\" title=\"{0}\">", Escaped(at))?;
        match in_seconds {
            0 => f.write_str("now")?,
            1.. => write!(f, "in {span}")?,
            _ => write!(f, "{span} ago")?,
        }
        f.write_str("</time>")
    }
}

/// The two largest units of a time span.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => format!("{minutes} min {} s", seconds % 60),
        600..3600 => format!("{minutes} min"),
        3600..86_400 if minutes % 60 == 0 => format!("{hours} h"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        86_400..31_536_000 => format!("{days} d {} h", hours % 24),
        _ => format!("{} y {} d", days / 365, days % 365),
    }
}

fn draw(page: &mut String, status: &Status) -> fmt::Result {
    let verdict = status.verdict();
    let title = match verdict {
        Verdict::Good => "bearerd: all well",
        Verdict::Attention => "bearerd: needs attention",
        Verdict::Trouble => "bearerd: trouble",
    };
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta http-equiv=\"refresh\" content=\"5\">\
         <link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body><main><header><h1>bearerd</h1>\
         <span class=\"soft\">{version} · {phase} · started {started}</span></header>",
        version = Escaped(&status.version),
        phase = phase(status.phase),
        started = Spoken(&status.started),
    )?;
    banner(page, status, verdict)?;
    credentials(page, status)?;
    routes(page, status)?;
    tokens(page, status)?;
    page.push_str("<div class=\"pair\">");
    counts(page, "Refused or failed since the start", &status.refusals)?;
    counts(page, "Passed without a token", &status.passed)?;
    page.push_str("</div>");
    doors(page, status)?;
    page.push_str("<footer>Refreshed every 5 seconds. The same as <a href=\"/status.json\">JSON</a>.</footer>");
    page.push_str("</main></body></html>\n");
    Ok(())
}

/// The answer to "is it well?", and everything that says otherwise.
fn banner(page: &mut String, status: &Status, verdict: Verdict) -> fmt::Result {
    let without = status.credentials.iter().filter(|credential| credential.verdict() == Verdict::Trouble).count();
    let headline = match (verdict, status.credentials.len()) {
        (Verdict::Trouble, all) => {
            let (s, have) = (if all == 1 { "" } else { "s" }, if without == 1 { "has" } else { "have" });
            format!("{without} of {all} credential{s} {have} no token: requests that need it fail")
        }
        (Verdict::Attention, _) if status.phase == Phase::Starting => "Starting".to_owned(),
        (Verdict::Attention, _) => "Requests get through, but something needs attention".to_owned(),
        (Verdict::Good, 0) => "Running, with no credential configured".to_owned(),
        (Verdict::Good, _) => "Every credential has a fresh token".to_owned(),
    };
    write!(page, "<section class=\"banner {}\" role=\"status\">{headline}", class(verdict))?;
    for unmet in &status.waiting_for {
        write!(page, "<p>Waiting for {}: {}</p>", Escaped(&unmet.name), Escaped(&unmet.reason))?;
    }
    if let Some(problem) = &status.config.last_error {
        write!(page, "<p>A newer configuration was not taken {}</p>", problem_text(problem))?;
    }
    for warning in &status.warnings {
        write!(page, "<p>{}</p>", Escaped(warning))?;
    }
    page.push_str("</section>");
    Ok(())
}

fn credentials(page: &mut String, status: &Status) -> fmt::Result {
    if status.credentials.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>Credentials</h2><div class=\"cards\">");
    for credential in &status.credentials {
        card(page, credential)?;
    }
    page.push_str("</div>");
    Ok(())
}

fn card(page: &mut String, credential: &Credential) -> fmt::Result {
    let (class, state) = (class(credential.verdict()), state(credential.state));
    write!(
        page,
        "<article class=\"card\"><div class=\"top\"><h3>{}</h3><span class=\"pill {class}\">{state}</span></div>\
         <span class=\"soft\">{}</span>",
        Escaped(&credential.name),
        Escaped(&credential.kind)
    )?;
    if let Some(token) = &credential.token {
        let left = u64::try_from(token.expires.in_seconds).unwrap_or(0).min(token.lifetime_seconds);
        let max = token.lifetime_seconds.max(1);
        let word = if credential.state == TokenState::Expired { "expired" } else { "expires" };
        write!(
            page,
            "<progress class=\"{class}\" value=\"{left}\" max=\"{max}\" aria-label=\"life left\"></progress>\
             <div class=\"life\"><span>Token {word} {}</span><span class=\"soft\">of {}</span></div>",
            Spoken(&token.expires),
            // Google says 3599.
            span(token.lifetime_seconds.div_ceil(60) * 60),
        )?;
    }
    page.push_str("<dl>");
    for (name, value) in [("Account", &credential.email), ("Key", &credential.key_id)] {
        if let Some(value) = value {
            write!(page, "<dt>{name}</dt><dd class=\"mono\">{}</dd>", Escaped(value))?;
        }
    }
    for (name, when) in [("Refreshed", &credential.last_refresh), ("Next try", &credential.next_try)] {
        if let Some(when) = when {
            write!(page, "<dt>{name}</dt><dd>{}</dd>", Spoken(when))?;
        }
    }
    if let Some(problem) = &credential.last_error {
        write!(page, "<dt>Error</dt><dd class=\"error\">{}</dd>", problem_text(problem))?;
    }
    for key in &credential.resting_keys {
        resting_key(page, key)?;
    }
    page.push_str("</dl></article>");
    Ok(())
}

fn resting_key(page: &mut String, key: &RestingKey) -> fmt::Result {
    let name = key.key_id.as_ref().unwrap_or(&key.file);
    write!(page, "<dt>Not in use</dt><dd class=\"error\"><span class=\"mono\">{}</span>: ", Escaped(name))?;
    write!(page, "{}", Escaped(&key.message))?;
    if let Some(next) = &key.next_try {
        write!(page, "; next try {}", Spoken(next))?;
    }
    page.push_str("</dd>");
    Ok(())
}

fn routes(page: &mut String, status: &Status) -> fmt::Result {
    page.push_str("<h2>Routes, first match wins</h2><div class=\"scroll\"><table>");
    page.push_str("<tr><th>Route</th><th>Hosts</th><th>Action</th><th>Credential</th><th>Token</th>");
    page.push_str("<th class=\"number\">Requests</th></tr>");
    for route in &status.routes {
        let class = match route.action.as_str() {
            "inject" => "good",
            "deny" => "trouble",
            _ => "",
        };
        write!(
            page,
            "<tr><td>{}</td><td class=\"mono\">{}</td><td><span class=\"pill {class}\">{}</span></td><td>{}</td>\
             <td>{}</td><td class=\"number\">{}</td></tr>",
            Escaped(&route.name),
            Escaped(&route.hosts.join(" ")),
            Escaped(&route.action),
            Escaped(route.credential.as_deref().unwrap_or("–")),
            Escaped(route.token.as_deref().unwrap_or("–")),
            grouped(route.requests),
        )?;
    }
    if status.routes.is_empty() {
        page.push_str("<tr><td colspan=\"6\" class=\"soft\">None: no request gets a token.</td></tr>");
    }
    page.push_str("</table></div>");
    Ok(())
}

/// What is given away deserves a look, and a pod that gives nothing away no empty table.
fn tokens(page: &mut String, status: &Status) -> fmt::Result {
    if status.tokens.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>Tokens handed out</h2><div class=\"scroll\"><table>");
    page.push_str("<tr><th>Entry</th><th>Path</th><th>Credential</th><th>Token</th><th>File</th>");
    page.push_str("<th class=\"number\">Handed out</th></tr>");
    for entry in &status.tokens {
        write!(
            page,
            "<tr><td>{}</td><td class=\"mono\">{}</td><td>{}</td><td>{}</td><td class=\"mono\">{}</td>\
             <td class=\"number\">{}</td></tr>",
            Escaped(&entry.name),
            Escaped(&entry.path),
            Escaped(&entry.credential),
            Escaped(&entry.token),
            Escaped(entry.file.as_ref().map_or("–", |file| &file.path)),
            grouped(entry.handed_out),
        )?;
    }
    page.push_str("</table></div>");
    Ok(())
}

fn doors(page: &mut String, status: &Status) -> fmt::Result {
    page.push_str("<h2>Set-up</h2><div class=\"cards\"><article class=\"card\"><h3>Doors</h3><dl>");
    for listener in &status.listeners {
        let (door, address) = (Escaped(&listener.door), Escaped(&listener.address));
        write!(page, "<dt>{door}</dt><dd class=\"mono\">{address}</dd>")?;
    }
    page.push_str("</dl></article><article class=\"card\"><h3>Configuration</h3><dl>");
    if !status.config.source.is_empty() {
        write!(page, "<dt>Source</dt><dd class=\"mono\">{}</dd>", Escaped(&status.config.source))?;
    }
    if let Some(loaded) = &status.config.loaded {
        write!(page, "<dt>Loaded</dt><dd>{}</dd>", Spoken(loaded))?;
    }
    page.push_str("</dl></article>");
    if let Some(ca) = &status.ca {
        write!(page, "<article class=\"card\"><h3>Pod CA</h3><dl><dt>Expires</dt><dd>{}</dd>", Spoken(&ca.expires))?;
        let permitted = ca.permitted.join(" ");
        write!(page, "<dt>May sign below</dt><dd class=\"mono\">{}</dd></dl></article>", Escaped(&permitted))?;
    }
    page.push_str("</div>");
    Ok(())
}

/// Reasons that occurred; the many that did not would hide them.
fn counts(page: &mut String, title: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    write!(page, "<section><h2>{title}</h2>")?;
    let mut some: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    some.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    page.push_str("<table>");
    for (reason, count) in &some {
        let (reason, count) = (Escaped(reason), grouped(**count));
        write!(page, "<tr><td class=\"mono\">{reason}</td><td class=\"number\">{count}</td></tr>")?;
    }
    if some.is_empty() {
        page.push_str("<tr><td class=\"soft\">Nothing.</td></tr>");
    }
    page.push_str("</table></section>");
    Ok(())
}

/// `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn problem_text(problem: &Problem) -> String {
    format!("{}: {}", Spoken(&problem.when), Escaped(&problem.message))
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Attention => "attention",
        Verdict::Trouble => "trouble",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Draining => "draining",
    }
}

/// Never by colour alone.
fn state(state: TokenState) -> &'static str {
    match state {
        TokenState::Valid => "valid",
        TokenState::Stale => "valid, refresh failing",
        TokenState::Expired => "expired",
        TokenState::None => "no token yet",
    }
}

const STYLE: &str = include_str!("page.css");
