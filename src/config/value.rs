//! Texts of configuration into values. Every error says what is accepted, and none repeats the text.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::{HeaderName, Method, header};
use percent_encoding::percent_decode_str;

use super::settings::{LogLevel, MetadataMode, ParentProxy, WaitFor};
use crate::{
    authority::{Authority, Target},
    credential::is_service_account,
    policy::{Action, ClientAuthorization, Fallback, HostPattern, QuotaProject, TokenKind, Unmatched},
    secret::Secret,
};

type Parsed<T> = Result<T, String>;

/// A name of a credential or route: it becomes a label and a part of an annotation.
pub(super) fn name(text: &str) -> Parsed<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && text.len() <= 63 && text.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("want a name of 1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit".to_owned())
    }
}

/// `1h`, `40m`, `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let bad = || "want a duration such as 10s, 40m, 1h or 1m30s".to_owned();
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(unit);
        let millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(bad()),
        };
        let number: u32 = number.parse().map_err(|_| bad())?;
        total += Duration::from_millis(u64::from(number) * millis);
        rest = tail;
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

pub(super) fn duration_within(text: &str, least: &str, most: &str) -> Parsed<Duration> {
    let value = duration(text)?;
    if value < duration(least)? || value > duration(most)? {
        return Err(format!("want a duration from {least} to {most}"));
    }
    Ok(value)
}

/// `off`, or an address with port; with `loopback` nothing but loopback.
pub(super) fn listener(text: &str, loopback: bool) -> Parsed<Option<SocketAddr>> {
    if text == "off" {
        return Ok(None);
    }
    let want = "want 'off' or an address with port such as 127.0.0.1:14180";
    let address: SocketAddr = text.parse().map_err(|_| want.to_owned())?;
    check_loopback(address, loopback)?;
    Ok(Some(address))
}

/// A port on loopback, or a loopback address with port.
pub(super) fn endpoint_listen(text: &str) -> Parsed<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let want = "want a port or a loopback address with port such as 127.0.0.1:14200";
    let address: SocketAddr = text.parse().map_err(|_| want.to_owned())?;
    check_loopback(address, true)?;
    Ok(address)
}

fn check_loopback(address: SocketAddr, loopback: bool) -> Parsed<()> {
    if loopback && !address.ip().to_canonical().is_loopback() {
        return Err(
            "not loopback, want 127.0.0.1 or [::1]: anyone who reaches this port uses the credential".to_owned()
        );
    }
    Ok(())
}

pub(super) fn pattern(text: &str) -> Parsed<HostPattern> {
    if text.contains("://") || text.contains('/') {
        return Err("a URL or path, want only the name such as storage.googleapis.com".to_owned());
    }
    HostPattern::parse(text).map_err(|error| error.to_string())
}

/// The API an endpoint is: a name, at the only port that credentials go to.
pub(super) fn endpoint_upstream(text: &str) -> Parsed<Authority> {
    let authority = Authority::parse(text, Some(443)).map_err(|error| error.to_string())?;
    match authority {
        Authority { target: Target::Name(_), port: 443 } => Ok(authority),
        _ => Err("want a host name such as pubsub.googleapis.com: credentials go to names at port 443 only".to_owned()),
    }
}

/// A broker: a name with its port. The certificate is checked for the name, which an address does not have.
pub(super) fn broker(text: &str) -> Parsed<Authority> {
    let want = "want a host name with its port such as mqtt.example.com:8883";
    let authority = Authority::parse(text, None).map_err(|error| error.to_string())?;
    match authority.target {
        Target::Name(_) => Ok(authority),
        Target::Ip(_) => Err(format!("an address has no certificate to check, {want}")),
    }
}

/// The user that a broker is told, which few of them read.
pub(super) fn username(text: &str) -> Parsed<String> {
    if (1..=MOST_AUDIENCE).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("want 1 to {MOST_AUDIENCE} bytes of text without control characters, such as unused"))
    }
}

/// The name and port of a `connectTo` entry.
pub(super) fn connect_from(text: &str) -> Parsed<(HostPattern, u16)> {
    let want = "want host:port or *.zone:port, such as storage.googleapis.com:443";
    let (host, port) = text.rsplit_once(':').ok_or(want)?;
    let pattern = HostPattern::parse(host).map_err(|error| error.to_string())?;
    // The zone stands in for the host: only the port is read here.
    let authority = Authority::parse(&format!("{}:{port}", pattern.zone()), None).map_err(|error| error.to_string())?;
    Ok((pattern, authority.port))
}

pub(super) fn authority(text: &str) -> Parsed<Authority> {
    Authority::parse(text, None).map_err(|error| error.to_string())
}

/// `http://user:password@proxy.corp:3128`. Everything before the `@` is a secret, so no error repeats it.
pub(super) fn parent_proxy(text: &str) -> Parsed<Option<ParentProxy>> {
    if text.is_empty() {
        return Ok(None);
    }
    let want = "want http://host:port or https://host:port, with user:password@ before the host if need be";
    let (scheme, rest) = text.split_once("://").ok_or(want)?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(want.to_owned()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user_info, host) = match rest.rsplit_once('@') {
        Some((user_info, host)) => (Some(user_info), host),
        None => (None, rest),
    };
    let default_port = if tls { 443 } else { 80 };
    let authority = Authority::parse(host, Some(default_port)).map_err(|error| format!("{error}; {want}"))?;
    let user_info = user_info.map(|text| Secret::new(percent_decode_str(text).collect::<Vec<u8>>()));
    Ok(Some(ParentProxy { tls, authority, user_info }))
}

/// Nothing, or an absolute path.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err("want the path of a file or directory".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// Short names expand to `https://www.googleapis.com/auth/…`.
pub(super) fn scope(text: &str) -> Parsed<String> {
    let legal = |extra: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte));
    if text.starts_with("https://") && text.len() > 8 && legal(b":/.-_") {
        return Ok(text.to_owned());
    }
    match text {
        "openid" => Ok(text.to_owned()),
        _ if !text.is_empty() && legal(b".-_/") && !text.starts_with('/') => {
            Ok(format!("https://www.googleapis.com/auth/{text}"))
        }
        _ => Err("want a scope such as cloud-platform, devstorage.read_only or its full https:// URL".to_owned()),
    }
}

/// Whom to act as: an address, or nobody.
pub(super) fn subject(text: &str) -> Parsed<Option<String>> {
    if text.is_empty() { Ok(None) } else { account(text).map(Some) }
}

/// The e-mail address of a person or service account.
pub(super) fn account(text: &str) -> Parsed<String> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"@\"<>()[],;:\\".contains(&byte);
    let good = text.len() <= 254
        && text.split_once('@').is_some_and(|(user, domain)| {
            !user.is_empty() && domain.contains('.') && user.bytes().chain(domain.bytes()).all(legal)
        });
    if good { Ok(text.to_owned()) } else { Err("want an e-mail address such as name@example.com".to_owned()) }
}

/// The e-mail address of a service account.
pub(super) fn service_account(text: &str) -> Parsed<String> {
    if is_service_account(text) {
        Ok(text.to_owned())
    } else {
        Err("want a service account's e-mail address such as name@project.iam.gserviceaccount.com".to_owned())
    }
}

/// Who a token is for: a URL, a client id, a project, or any other name without blanks.
pub(super) fn audience(text: &str) -> Parsed<String> {
    if (1..=MOST_AUDIENCE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!("want 1 to {MOST_AUDIENCE} visible ASCII characters, such as https://service-x.run.app"))
    }
}

/// A bucket, as access boundaries name it.
pub(super) fn bucket(text: &str) -> Parsed<String> {
    let name = text.strip_prefix("//storage.googleapis.com/projects/_/buckets/").unwrap_or_default();
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if (3..=222).contains(&name.len()) && name.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("want //storage.googleapis.com/projects/_/buckets/BUCKET: only Cloud Storage knows boundaries".to_owned())
    }
}

/// A permission, as access boundaries name it.
pub(super) fn in_role(text: &str) -> Parsed<String> {
    let role = text.strip_prefix("inRole:").unwrap_or_default();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"./_-".contains(&byte);
    if role.contains("roles/") && role.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("want inRole:ROLE, such as inRole:roles/storage.objectViewer".to_owned())
    }
}

pub(super) fn method(text: &str) -> Parsed<Method> {
    let want = || "want a method in capitals such as GET".to_owned();
    if text.is_empty() || text == "CONNECT" || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Err(want());
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| want())
}

pub(super) fn path_prefix(text: &str) -> Parsed<String> {
    if text.starts_with('/') && !text.contains(['?', '#', '%']) {
        Ok(text.to_owned())
    } else {
        Err("want a prefix of the decoded path, beginning with '/', without query".to_owned())
    }
}

/// A header that may carry a token: none that frames the message or that a proxy takes off.
pub(super) fn token_header(text: &str) -> Parsed<HeaderName> {
    let want = || "want the name of a header that carries a token, such as authorization".to_owned();
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| want())?;
    let taken = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::VIA,
    ];
    let is_taken = taken.contains(&name) || ["keep-alive", "proxy-connection"].contains(&name.as_str());
    if is_taken { Err(want()) } else { Ok(name) }
}

pub(super) fn quota_project(text: &str) -> Parsed<QuotaProject> {
    match text {
        "" => return Ok(QuotaProject::OfCredential),
        // No project can have this name: theirs have six letters at least.
        "none" => return Ok(QuotaProject::Unsaid),
        _ => {}
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
    if text.len() <= 63 && text.bytes().all(legal) {
        Ok(QuotaProject::Is(text.to_owned()))
    } else {
        Err("want a project id or number, or none".to_owned())
    }
}

pub(super) fn workers(text: &str) -> Parsed<usize> {
    text.parse().ok().filter(|count| (1..=64).contains(count)).ok_or_else(|| "want a number from 1 to 64".to_owned())
}

macro_rules! choices {
    ($($function:ident -> $type:ident { $($text:literal => $variant:ident),* }, $want:literal;)*) => {
        $(pub(super) fn $function(text: &str) -> Parsed<$type> {
            match text { $($text => Ok($type::$variant),)* _ => Err($want.to_owned()) }
        })*
    };
}

choices! {
    action -> Action { "inject" => Inject, "pass" => Pass, "deny" => Deny }, "want inject, pass or deny";
    unmatched -> Unmatched { "pass" => Pass, "deny" => Deny }, "want pass or deny";
    token -> TokenKind { "access" => Access, "selfSigned" => SelfSigned, "id" => Id, "jwt" => Jwt },
        "want access, selfSigned, id or jwt";
    fallback -> Fallback { "none" => None, "selfSigned" => SelfSigned }, "want none or selfSigned";
    client_authorization -> ClientAuthorization { "replace" => Replace, "keep" => Keep, "require" => Require },
        "want replace, keep or require";
    metadata_mode -> MetadataMode { "off" => Off, "placeholder" => Placeholder, "token" => Token },
        "want off, placeholder or token";
    wait_for -> WaitFor { "listening" => Listening, "credentials" => Credentials, "token" => Token },
        "want listening, credentials or token";
    log_level -> LogLevel { "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug, "trace" => Trace },
        "want error, warn, info, debug or trace";
}

const MOST_AUDIENCE: usize = 512;
