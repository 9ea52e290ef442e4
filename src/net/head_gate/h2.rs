//! The gate's rules about meaning, for the heads that no gate sees: those of HTTP/2.
//!
//! Syntax and framing are h2's work and it does it well. What a method or a name asks for it passes on as it is.

use http::{Method, Request, header};

use super::{Reason, field::Field, request_line};

/// Why a request that came by HTTP/2 is refused, if it is.
pub fn refuses_h2<B>(request: &Request<B>) -> Option<Reason> {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str).as_bytes();
    let method = request.method().as_str().as_bytes();
    if method.len() > request_line::MAX_METHOD {
        return Some(Reason::Method);
    }
    if request_line::echoes(method) {
        return Some(Reason::MethodRefused);
    }
    // CONNECT would open a tunnel to the upstream itself, with a token on its head.
    if request.method() == Method::CONNECT {
        return Some(Reason::TunnelRefused);
    }
    if target.len() > request_line::MAX_TARGET {
        return Some(Reason::TargetTooLong);
    }
    // Bytes that an http/1.1 upstream would read in another way than we do, or not at all.
    if !request_line::is_path_of_h2(method, target) {
        return Some(Reason::Target);
    }
    let is_met = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !headers.get_all(header::EXPECT).iter().all(is_met) {
        return Some(Reason::Expectation);
    }
    // h2 holds the body to the first of them; an http/1.1 upstream might believe the other.
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Some(Reason::ContentLength);
    }
    let is_disguised = |name: &http::HeaderName| Field::named(name.as_str().as_bytes()).is_guarded_in_disguise();
    headers.keys().any(is_disguised).then_some(Reason::UnderscoreName)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, fields: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(format!("https://storage.googleapis.com{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn an_asterisk_is_for_options_alone() {
        for (method, expected) in [("OPTIONS", None), ("GET", Some(Reason::Target)), ("POST", Some(Reason::Target))] {
            let mut request = request(method, "/", &[]);
            *request.uri_mut() = "*".parse().unwrap();
            assert_eq!(refuses_h2(&request), expected, "{method}");
        }
    }

    #[test]
    fn what_the_gate_refuses_by_meaning_is_refused_by_http2_too() {
        let long = format!("/{}", "x".repeat(request_line::MAX_TARGET));
        let longest = &long[1..].replacen('x', "/", 1);
        for (method, target, fields, expected) in [
            ("GET", "/b", &[][..], None),
            ("TRACE", "/b", &[], Some(Reason::MethodRefused)),
            ("TRACK", "/b", &[], Some(Reason::MethodRefused)),
            ("trace", "/b", &[], Some(Reason::MethodRefused)),
            ("CONNECT", "/b", &[], Some(Reason::TunnelRefused)),
            ("GET", longest, &[], None),
            ("GET", &long, &[], Some(Reason::TargetTooLong)),
            ("GET", "/a%2Fb//c/../d?e=/f?g", &[], None),
            ("GET", "/a\u{e9}", &[], Some(Reason::Target)),
            ("GET", "/a?b=\u{e9}", &[], Some(Reason::Target)),
            ("PUT", "/b", &[("expect", "100-Continue")], None),
            ("PUT", "/b", &[("expect", "200-ok")], Some(Reason::Expectation)),
            ("PUT", "/b", &[("expect", "100-continue"), ("expect", "x")], Some(Reason::Expectation)),
            ("POST", "/b", &[("content-length", "3")], None),
            ("POST", "/b", &[("content-length", "3"), ("content-length", "3")], Some(Reason::ContentLength)),
            ("GET", "/b", &[("x_goog_user_project", "p")], Some(Reason::UnderscoreName)),
            ("GET", "/b", &[("authorization_", "Bearer x")], Some(Reason::UnderscoreName)),
            ("GET", "/b", &[("x_other", "1"), ("authorization", "Bearer x")], None),
        ] {
            assert_eq!(refuses_h2(&request(method, target, fields)), expected, "{method} {fields:?}");
        }
    }
}
