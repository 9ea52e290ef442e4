//! `check` and `explain` about the token API, in the words of its own module.

use http::Uri;

use super::{Mark, Report};
use crate::{
    authority::Authority,
    config,
    token_api::{self, Entry},
};

/// What an entry hands out, and whether its file has a place.
pub(super) fn check(report: &mut Report, entry: &Entry) {
    let what = format!("tokens {}", entry.name);
    let minutes = entry.min_life.as_secs().div_ceil(60);
    let kind = entry.kind();
    report.add(Mark::Good, what.clone(), format!("{}: {kind} of {}, {minutes} min left", entry.path, entry.credential));
    let directory = entry.file.as_ref().and_then(|file| file.path.parent());
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        report.add(
            Mark::Odd,
            what,
            format!("{} is no directory here: nothing can be written there", directory.display()),
        );
    }
}

/// What the token API does with a request that is for it.
pub(super) fn explain(config: &config::Settings, authority: &Authority, uri: &Uri) -> Option<String> {
    let listen = config.listeners.token_api.filter(|_| !config.tokens.is_empty())?;
    if authority.to_string() != listen.to_string() {
        return None;
    }
    let asked = token_api::find(&config.tokens, uri.path()).ok_or(token_api::Refusal::UnknownPath);
    let asked = asked.and_then(|(entry, in_path)| {
        token_api::question(entry, &in_path, uri.query().unwrap_or_default()).map(|_| entry)
    });
    let (entry, result) = match asked {
        Ok(entry) => {
            let result = format!(
                "the {} token of credential '{}' is handed out, with at least {} s to live, to whoever sends the header \
                 X-Bearerd-Token-Request: true",
                entry.kind(),
                entry.credential,
                entry.min_life.as_secs()
            );
            (entry.name.as_str(), result)
        }
        Err(refusal) => {
            let status = refusal.status().as_u16();
            ("none", format!("refused with {status}: {} ({})", refusal.message(), refusal.label()))
        }
    };
    Some(format!("goes to {authority}\nway     the token API\nentry   {entry}\nresult  {result}\n"))
}
