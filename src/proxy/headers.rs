//! Header hygiene, and the one place of the data plane that writes a credential.
//!
//! Order matters: the fields named in `Connection` are removed *before* the credential is written. After it,
//! `Connection: Authorization` would delete what was just signed.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};

use crate::{
    net::pool::Connection,
    policy::{Placeholder, Route},
    token::Bearer,
};

/// Removes what belongs to one hop only, and what claims to know where a request came from.
pub(super) fn strip_request(headers: &mut HeaderMap, ours: ProxyAuthorization) {
    let trailers = accepts_trailers(headers);
    strip_connection(headers);
    for name in [
        &header::TE,
        &header::EXPECT,
        &header::UPGRADE,
        &header::TRAILER,
        &header::VIA,
        &header::FORWARDED,
        &HTTP2_SETTINGS,
        &X_FORWARDED_FOR,
        &X_FORWARDED_HOST,
        &X_FORWARDED_PROTO,
    ] {
        headers.remove(name);
    }
    if ours == ProxyAuthorization::IsOurs {
        headers.remove(header::PROXY_AUTHORIZATION);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether `Proxy-Authorization` was meant for us. Inside a TLS tunnel it belongs to the origin (IAP reads it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyAuthorization {
    /// We are the proxy that it was meant for.
    IsOurs,
    /// It travels on.
    IsTheirs,
}

/// Takes the placeholder off, from whichever field: it is worth nothing to anybody else, and says who we are. What
/// else the client put into a field of that name stays.
pub(super) fn strip_placeholder(headers: &mut HeaderMap, placeholder: &Placeholder) {
    let holding: Vec<HeaderName> =
        headers.iter().filter(|(_, value)| placeholder.is(value)).map(|(name, _)| name.clone()).collect();
    for name in holding {
        if let Entry::Occupied(field) = headers.entry(&name) {
            let (name, values) = field.remove_entry_mult();
            let left: Vec<HeaderValue> = values.filter(|value| !placeholder.is(value)).collect();
            for value in left {
                headers.append(&name, value);
            }
        }
    }
}

/// Removes what belongs to one hop only, and `Alt-Svc`: HTTP/3 would be a way around us.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    strip_connection(headers);
    for name in [&header::UPGRADE, &header::ALT_SVC, &header::PROXY_AUTHENTICATE] {
        headers.remove(name);
    }
}

fn strip_connection(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [&PROXY_CONNECTION, &KEEP_ALIVE, &header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    })
}

/// Writes the credential: exactly one, last, and only in the presence of a connection that proved its name.
///
/// The proof is not looked at: that there is one is what counts, since only a finished, verified handshake makes it.
pub(super) fn write_authorization(headers: &mut HeaderMap, route: &Route, token: &Bearer, _proof: &Connection) {
    let value = if route.bears() { &token.header } else { &token.bare };
    headers.insert(route.header.clone(), value.clone());
}

/// Which trailers of a client's request travel on: gRPC's, and nothing that a server may merge into the head.
pub(super) fn keeps_trailer(name: &HeaderName) -> bool {
    name.as_str().starts_with("grpc-")
}

/// HTTP/2 clients may split `Cookie`; HTTP/1.1 knows only one (RFC 9113 §8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut parts = headers.get_all(header::COOKIE).iter();
    if parts.next().is_none() || parts.next().is_none() {
        return;
    }
    let joined = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Whether the answer to a request should have gRPC's shape.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().starts_with(b"application/grpc") && !value.as_bytes().starts_with(b"application/grpc-web")
    })
}

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn fields_named_in_any_connection_field_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-One"),
            ("connection", "\tx-two ,keep-alive"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
        ]);
        strip_request(&mut headers, ProxyAuthorization::IsOurs);
        assert_eq!(names(&headers), ["x-three"]);
    }

    #[test]
    fn the_placeholder_comes_off_every_field_and_nothing_else_does() {
        let placeholder = Placeholder::new("ya29.mark");
        let mut headers = map(&[
            ("authorization", "Bearer ya29.mark"),
            ("authorization", "Bearer own"),
            ("authorization", "bearer  ya29.mark "),
            ("x-own-token", "ya29.mark"),
            ("cookie", "ya29.mark"),
            ("x-other", "ya29.marker"),
        ]);
        strip_placeholder(&mut headers, &placeholder);
        assert_eq!(names(&headers), ["authorization", "x-other"]);
        assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer own"]);
    }

    #[test]
    fn only_trailers_survive_of_te() {
        for (te, kept) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false), ("xtrailers", false)] {
            let mut headers = map(&[("te", te)]);
            strip_request(&mut headers, ProxyAuthorization::IsOurs);
            assert_eq!(headers.get("te").is_some_and(|te| te == "trailers"), kept, "{te}");
        }
    }

    #[test]
    fn proxy_authorization_goes_on_only_inside_a_tunnel() {
        for (ours, left) in [(ProxyAuthorization::IsOurs, false), (ProxyAuthorization::IsTheirs, true)] {
            let mut headers = map(&[("proxy-authorization", "Basic x")]);
            strip_request(&mut headers, ours);
            assert_eq!(headers.contains_key("proxy-authorization"), left);
        }
    }

    #[test]
    fn answers_lose_alt_svc_and_hop_by_hop_fields_and_nothing_else() {
        let mut headers = map(&[
            ("alt-svc", "h3=\":443\""),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("etag", "\"1\""),
            ("www-authenticate", "Bearer"),
        ]);
        strip_response(&mut headers);
        assert_eq!(names(&headers), ["etag", "www-authenticate"]);
    }

    #[test]
    fn split_cookies_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn only_grpc_trailers_travel_on() {
        for (name, kept) in [("grpc-status", true), ("authorization", false), ("content-length", false), ("x", false)] {
            assert_eq!(keeps_trailer(&HeaderName::from_static(name)), kept, "{name}");
        }
    }
}
