//! Names, addresses and ports: one spelling comes out, and it is what a browser's reader understands too.

#![no_main]

use std::net::IpAddr;

use bearerd::{
    authority::{Authority, Host, Target, local},
    policy::HostPattern,
};
use bearerd_fuzz::{seeds, target};
use url::Url;

target!(seeds::lines(include_str!("../seeds/authority.txt")), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(authority) = Authority::parse(text, Some(443)) {
        one_spelling(&authority);
        as_browsers_read(text, &authority);
        as_the_standard_library_reads(text, &authority);
        zones_are_whole_labels(&authority);
        // A port that must be there may not change what is read.
        if let Ok(strict) = Authority::parse(text, None) {
            assert_eq!(strict, authority);
        }
    }
    if let Ok(host) = Host::parse(text) {
        let authority = Authority::parse(text, Some(443)).expect("a name is an authority");
        assert_eq!(authority.host(), Some(&host));
        assert_eq!(authority.port, 443);
    }
    if let Ok(pattern) = HostPattern::parse(text) {
        let again = HostPattern::parse(&pattern.to_string()).expect("its own text");
        assert_eq!(pattern, again);
        assert!(pattern.covers(&again));
        assert_eq!(pattern.is_exact(), pattern.matches(pattern.zone()));
    }
});

fn one_spelling(authority: &Authority) {
    let text = authority.to_string();
    assert_eq!(Authority::parse(&text, None).as_ref(), Ok(authority), "{text} is read differently from its source");
    assert_ne!(authority.port, 0);
    if let Target::Name(host) = &authority.target {
        let text = host.as_str();
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)), "{text}");
        assert!(text.len() <= 253 && text.split('.').all(|label| (1..=63).contains(&label.len())), "{text}");
        assert!(text.parse::<IpAddr>().is_err(), "{text} is an address");
    }
}

/// The URL standard reads names in every spelling that C libraries do.
fn as_browsers_read(text: &str, authority: &Authority) {
    let Ok(url) = Url::parse(&format!("https://{text}/")) else { return };
    assert!(url.username().is_empty() && url.password().is_none() && url.path() == "/", "{text} is more than a host");
    assert_eq!(url.port_or_known_default(), Some(authority.port), "{text}");
    match (url.host(), &authority.target) {
        (Some(url::Host::Domain(theirs)), Target::Name(ours)) => {
            assert_eq!(theirs.strip_suffix('.').unwrap_or(theirs), ours.as_str(), "{text}");
        }
        (Some(url::Host::Ipv4(theirs)), Target::Ip(ours)) => assert_eq!(IpAddr::from(theirs), *ours, "{text}"),
        (Some(url::Host::Ipv6(theirs)), Target::Ip(ours)) => assert_eq!(theirs.to_canonical(), *ours, "{text}"),
        (theirs, ours) => panic!("{text} is {theirs:?} to a browser and {ours:?} to us"),
    }
}

fn as_the_standard_library_reads(text: &str, authority: &Authority) {
    let Ok(address) = text.parse::<IpAddr>() else { return };
    assert_eq!(authority.target, Target::Ip(address.to_canonical()));
    let must_be_local = address.to_canonical().is_loopback() || address.is_unspecified() || address.is_multicast();
    assert!(!must_be_local || local(address).is_some(), "{text} would be dialled");
}

/// Byte for byte what the certificate, the pool key and the policy will say.
fn zones_are_whole_labels(authority: &Authority) {
    let Some(host) = authority.host() else { return };
    let labels: Vec<&str> = host.as_str().split('.').collect();
    let is_below = labels.len() > 2 && labels[labels.len() - 2..] == ["googleapis", "com"];
    let zone = HostPattern::parse("*.googleapis.com").expect("a pattern");
    assert_eq!(zone.matches(host), is_below, "{host}");
    assert!(HostPattern::exact(host.clone()).matches(host));
}
