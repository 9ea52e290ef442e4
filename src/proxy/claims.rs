//! What a request says about where it goes, and whether it always says the same.
//!
//! The result is the one authority that everything after reads. All claims must agree after canonicalisation;
//! the first disagreement ends the request before a single byte goes upstream.

use http::{HeaderMap, Uri, header, uri::Scheme};

use super::error::{Failure, Kind};
use crate::authority::Authority;

/// The authority of a request on the proxy port: absolute-form, with an equal `Host` where there is one.
pub(super) fn of_forward(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Failure> {
    let Some(claimed) = uri.authority() else {
        return Err(Failure::new(
            Kind::Malformed,
            "not_a_proxy_request",
            "this port is a proxy: send CONNECT or an absolute URL, for example through HTTPS_PROXY",
        ));
    };
    let port = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => HTTPS,
        Some(scheme) if *scheme == Scheme::HTTP => HTTP,
        _ => return Err(malformed("only http and https URLs are accepted")),
    };
    let authority = Authority::parse(claimed.as_str(), Some(port)).map_err(unreadable)?;
    agree_with_hosts(&authority, headers, port)?;
    Ok(authority)
}

/// Checks a request inside a TLS tunnel against the name that the tunnel was opened for.
pub(super) fn of_intercept(authority: &Authority, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    if let Some(claimed) = uri.authority() {
        if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
            return Err(malformed("inside TLS only the scheme https is accepted"));
        }
        agree(authority, claimed.as_str(), HTTPS)?;
    } else if !headers.contains_key(header::HOST) {
        return Err(malformed("the request names no host"));
    }
    agree_with_hosts(authority, headers, HTTPS)
}

fn agree_with_hosts(authority: &Authority, headers: &HeaderMap, port: u16) -> Result<(), Failure> {
    for host in headers.get_all(header::HOST) {
        let claimed = host.to_str().map_err(|_| malformed("the host is not ASCII"))?;
        agree(authority, claimed, port)?;
    }
    Ok(())
}

fn agree(authority: &Authority, claimed: &str, port: u16) -> Result<(), Failure> {
    // The common case costs no allocation: the plain name, on the default port.
    if authority.port == port && authority.host().is_some_and(|host| host.as_str() == claimed) {
        return Ok(());
    }
    let claimed = Authority::parse(claimed, Some(port)).map_err(unreadable)?;
    if claimed == *authority { Ok(()) } else { Err(misdirected()) }
}

fn misdirected() -> Failure {
    Failure::new(Kind::Misdirected, "authority_mismatch", "the request names different hosts in different places")
}

fn malformed(message: &'static str) -> Failure {
    Failure::new(Kind::Malformed, "bad_authority", message)
}

fn unreadable(error: crate::authority::AuthorityError) -> Failure {
    Failure::new(Kind::Malformed, "bad_authority", error.to_string())
}

const HTTP: u16 = 80;
const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn hosts(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::HOST, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn forward_claims_must_agree() {
        for (uri, host, expected) in [
            ("http://storage.googleapis.com/b", &["storage.googleapis.com"][..], Ok("storage.googleapis.com:80")),
            ("https://storage.googleapis.com/b", &["STORAGE.googleapis.com."], Ok("storage.googleapis.com:443")),
            ("http://storage.googleapis.com:443/b", &["storage.googleapis.com:443"], Ok("storage.googleapis.com:443")),
            ("http://storage.googleapis.com/b", &[], Ok("storage.googleapis.com:80")),
            ("http://storage.googleapis.com/b", &["evil.test"], Err("authority_mismatch")),
            ("http://evil.test/b", &["storage.googleapis.com"], Err("authority_mismatch")),
            ("http://storage.googleapis.com/b", &["storage.googleapis.com:8080"], Err("authority_mismatch")),
            ("http://storage.googleapis.com/b", &["storage.googleapis.com", "evil.test"], Err("authority_mismatch")),
            ("ftp://storage.googleapis.com/b", &["storage.googleapis.com"], Err("bad_authority")),
            ("http://a@storage.googleapis.com/b", &["storage.googleapis.com"], Err("bad_authority")),
            ("/b", &["storage.googleapis.com"], Err("not_a_proxy_request")),
        ] {
            let result = of_forward(&uri.parse().unwrap(), &hosts(host));
            let got = result.as_ref().map(ToString::to_string).map_err(|failure| failure.reason);
            assert_eq!(got, expected.map(str::to_owned), "{uri} {host:?}");
        }
    }

    #[test]
    fn claims_inside_a_tunnel_must_name_its_host() {
        let authority = Authority::parse("storage.googleapis.com:443", None).unwrap();
        for (uri, host, expected) in [
            ("/b", &["storage.googleapis.com"][..], Ok(())),
            ("/b", &["storage.googleapis.com:443"], Ok(())),
            ("/b", &["pubsub.googleapis.com"], Err("authority_mismatch")),
            ("/b", &["storage.googleapis.com:8443"], Err("authority_mismatch")),
            ("/b", &[], Err("bad_authority")),
            ("/b", &["storage.googleapis.com", "evil.test"], Err("authority_mismatch")),
            ("https://storage.googleapis.com/b", &[], Ok(())),
            ("https://storage.googleapis.com/b", &["evil.test"], Err("authority_mismatch")),
            ("https://evil.test/b", &[], Err("authority_mismatch")),
            ("https://evil.test/b", &["storage.googleapis.com"], Err("authority_mismatch")),
            ("http://storage.googleapis.com/b", &["storage.googleapis.com"], Err("bad_authority")),
        ] {
            let result = of_intercept(&authority, &uri.parse().unwrap(), &hosts(host));
            assert_eq!(result.map_err(|failure| failure.reason), expected, "{uri} {host:?}");
        }
    }
}
