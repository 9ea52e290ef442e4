use super::*;
use AuthorityError as E;

fn with_https_port(text: &str) -> Result<String, AuthorityError> {
    Authority::parse(text, Some(443)).map(|authority| authority.to_string())
}

#[test]
fn one_spelling_is_left_of_every_good_authority() {
    for (text, canonical) in [
        ("storage.googleapis.com", "storage.googleapis.com:443"),
        ("storage.googleapis.com.", "storage.googleapis.com:443"),
        ("storage.googleapis.com.:443", "storage.googleapis.com:443"),
        ("STORAGE.GoogleAPIs.com", "storage.googleapis.com:443"),
        ("storage.googleapis.com:8443", "storage.googleapis.com:8443"),
        ("storage.googleapis.com:1", "storage.googleapis.com:1"),
        ("storage.googleapis.com:65535", "storage.googleapis.com:65535"),
        ("my_bucket.storage.googleapis.com", "my_bucket.storage.googleapis.com:443"),
        ("googleapis.com.evil.test", "googleapis.com.evil.test:443"),
        ("evilgoogleapis.com", "evilgoogleapis.com:443"),
        ("xn--googleapis-.com", "xn--googleapis-.com:443"),
        ("svc", "svc:443"),
        ("1password.com", "1password.com:443"),
        ("10.0.0.1:5432", "10.0.0.1:5432"),
        ("[fd00::1]:8443", "[fd00::1]:8443"),
        ("[FD00::1]", "[fd00::1]:443"),
    ] {
        assert_eq!(with_https_port(text).as_deref(), Ok(canonical), "{text:?}");
    }
}

#[test]
fn whatever_two_parsers_could_read_differently_is_refused() {
    for (text, error) in [
        ("", E::Empty),
        (":443", E::Empty),
        (".", E::EmptyLabel),
        (".googleapis.com", E::EmptyLabel),
        ("storage..googleapis.com", E::EmptyLabel),
        ("storage.googleapis.com..", E::EmptyLabel),
        ("storage.googleapis.com@evil.test", E::UserInfo),
        ("user:pw@storage.googleapis.com", E::UserInfo),
        ("@storage.googleapis.com", E::UserInfo),
        ("storage.googleapis.com@evil.test:443", E::UserInfo),
        ("evil.test#.googleapis.com", E::Byte),
        ("evil.test?.googleapis.com", E::Byte),
        ("evil.test/.googleapis.com", E::Byte),
        ("evil.test\\.googleapis.com", E::Byte),
        ("evil.test\0.googleapis.com", E::Byte),
        ("evil.test\t.googleapis.com", E::Byte),
        ("evil.test\x7f.googleapis.com", E::Byte),
        ("evil.test%2e.googleapis.com", E::Byte),
        (" storage.googleapis.com", E::Byte),
        ("storage.googleapis.com ", E::Byte),
        ("storage.googleapis.com:65536", E::Port),
        ("storage.googleapis.com:99999999999", E::Port),
        ("storage.googleapis.com:abc", E::Port),
        ("storage.googleapis.com:", E::Port),
        ("storage.googleapis.com:0", E::Port),
        ("storage.googleapis.com:+443", E::Port),
        ("storage.googleapis.com:-443", E::Port),
        ("storage.googleapis.com:000443", E::Port),
        ("storage.googleapis.com:443:443", E::Port),
        ("storage.googleapis.com: 443", E::Port),
        ("[storage.googleapis.com]", E::Brackets),
        ("[1.2.3.4]", E::Brackets),
        ("[::1%25.googleapis.com]", E::Brackets),
        ("[fe80::1%eth0]:443", E::Brackets),
        ("[::1", E::Brackets),
        ("[::1]x:443", E::Brackets),
        ("[]", E::Brackets),
        ("::1", E::Empty),
        ("fd00::1", E::Port),
        ("storage.googleapis.com]", E::Byte),
        ("storage。googleapis.com", E::NonAscii),
        ("storage．googleapis．com", E::NonAscii),
        ("storage｡googleapis.com", E::NonAscii),
        ("\u{212a}ms.googleapis.com", E::NonAscii),
        ("ｓtorage.googleapis.com", E::NonAscii),
        ("stor\u{ad}age.googleapis.com", E::NonAscii),
        ("1.2.3.4.5", E::Ipv4),
        ("256.1.1.1", E::Ipv4),
        ("1.2.3.256", E::Ipv4),
        ("1.2.65536", E::Ipv4),
        ("4294967296", E::Ipv4),
        ("08.0.0.1", E::Ipv4),
        ("googleapis.com.1", E::Ipv4),
        ("googleapis.com.0xzz", E::Ipv4),
    ] {
        assert_eq!(with_https_port(text), Err(error), "{text:?}");
    }
    for byte in ";,'!$&=~*()+\"<>^`{}|".chars() {
        let text = format!("evil.test{byte}.googleapis.com");
        assert_eq!(with_https_port(&text), Err(E::Byte), "{text:?}");
    }
}

#[test]
fn length_is_bounded_by_label_and_in_all() {
    let label = "a".repeat(63);
    assert!(Host::parse(&format!("{label}.googleapis.com")).is_ok());
    assert_eq!(Host::parse(&format!("{label}a.googleapis.com")), Err(E::TooLong));
    let long = [label.as_str(); 4].join(".");
    assert_eq!(long.len(), 255);
    assert!(Host::parse(&long[2..]).is_ok(), "253 bytes");
    assert_eq!(Host::parse(&long[1..]), Err(E::TooLong), "254 bytes");
}

#[test]
fn an_address_in_any_spelling_is_an_address() {
    let metadata = "169.254.169.254:443";
    for (text, canonical) in [
        ("169.254.169.254", metadata),
        ("169.254.169.254.", metadata),
        ("2852039166", metadata),
        ("0xa9fea9fe", metadata),
        ("0XA9FEA9FE", metadata),
        ("0xa9.0xfe.0xa9.0xfe", metadata),
        ("169.254.43518", metadata),
        ("169.16689662", metadata),
        ("0251.0376.0251.0376", metadata),
        ("025177524776", metadata),
        ("[::ffff:169.254.169.254]", metadata),
        ("[::ffff:a9fe:a9fe]", metadata),
        ("[64:ff9b::a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]:443"),
        ("0", "0.0.0.0:443"),
        ("0x", "0.0.0.0:443"),
        ("127.1", "127.0.0.1:443"),
    ] {
        assert_eq!(with_https_port(text).as_deref(), Ok(canonical), "{text:?}");
        assert!(Host::parse(text.trim_matches(['[', ']'])).is_err(), "{text:?} is no host");
        assert!(Authority::parse(text, Some(443)).unwrap().local().is_some(), "{text:?} is never dialled");
    }
}

#[test]
fn only_what_lies_inside_pod_or_node_is_local() {
    for (text, expected) in [
        ("127.0.0.1", Some(Local::Loopback)),
        ("127.255.0.9", Some(Local::Loopback)),
        ("0.0.0.0", Some(Local::Unspecified)),
        ("0.1.2.3", Some(Local::Unspecified)),
        ("169.254.0.1", Some(Local::LinkLocal)),
        ("224.0.0.1", Some(Local::Multicast)),
        ("239.255.255.255", Some(Local::Multicast)),
        ("255.255.255.255", Some(Local::Multicast)),
        ("10.0.0.1", None),
        ("172.16.0.1", None),
        ("192.168.1.1", None),
        ("100.64.0.1", None),
        ("199.36.153.8", None),
        ("169.253.169.254", None),
        ("::1", Some(Local::Loopback)),
        ("::", Some(Local::Unspecified)),
        ("fe80::1", Some(Local::LinkLocal)),
        ("febf::1", Some(Local::LinkLocal)),
        ("ff02::1", Some(Local::Multicast)),
        ("fd20:ce::254", Some(Local::MetadataServer)),
        ("fd20:ce::253", None),
        ("fd00::1", None),
        ("::ffff:127.0.0.1", Some(Local::Loopback)),
        ("::ffff:10.0.0.1", None),
        ("::127.0.0.1", Some(Local::Loopback)),
        ("::ffff:0:169.254.169.254", Some(Local::LinkLocal)),
        ("64:ff9b::7f00:1", Some(Local::Loopback)),
        ("64:ff9b::a9fe:a9fe", Some(Local::LinkLocal)),
        ("64:ff9b:1::a9fe:a9fe", Some(Local::LinkLocal)),
        ("64:ff9b::808:808", None),
        ("2002:7f00:1::", Some(Local::Loopback)),
        ("2002:a9fe:a9fe::1", Some(Local::LinkLocal)),
        ("2002:808:808::1", None),
        ("2a00:1450:4001::200a", None),
    ] {
        assert_eq!(local(text.parse().unwrap()), expected, "{text}");
    }
    for (text, expected) in [
        ("localhost", Some(Local::Loopback)),
        ("LOCALHOST.", Some(Local::Loopback)),
        ("a.b.localhost", Some(Local::Loopback)),
        ("notlocalhost", None),
        ("localhost.example.com", None),
        ("metadata", Some(Local::MetadataServer)),
        ("metadata.google.internal.", Some(Local::MetadataServer)),
        ("metadata.googleapis.com", None),
    ] {
        assert_eq!(Host::parse(text).unwrap().local(), expected, "{text}");
    }
}

#[test]
fn below_means_whole_labels() {
    let zone = Host::parse("googleapis.com").unwrap();
    for (name, expected) in [
        ("storage.googleapis.com", true),
        ("a.b.googleapis.com", true),
        ("googleapis.com", false),
        ("evilgoogleapis.com", false),
        ("googleapis.com.evil.test", false),
        ("com", false),
    ] {
        assert_eq!(Host::parse(name).unwrap().is_below(&zone), expected, "{name}");
    }
}

#[test]
fn a_port_is_required_where_there_is_no_default() {
    assert_eq!(Authority::parse("storage.googleapis.com", None), Err(E::NoPort));
    assert_eq!(Authority::parse("storage.googleapis.com:443", None).unwrap().port, 443);
}

#[test]
fn errors_do_not_repeat_the_input() {
    for text in ["marker@x", "marker/x", "marker..x", "marker:x", "marker.1", "[marker]", "marker\u{e9}"] {
        let error = with_https_port(text).unwrap_err().to_string();
        assert!(!error.contains("marker"), "{error}");
        assert!(error.contains(", want "), "{error} says what is accepted");
    }
}

/// What was accepted once is accepted again unchanged: no second reading exists.
#[test]
fn the_canonical_text_is_a_fixed_point_for_mangled_input() {
    let alphabet: Vec<char> = "abA01x.-_:[]@%/#é\0 f".chars().collect();
    let mut state = 1_u64;
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut text = String::new();
        let length = 1 + (state >> 60);
        for _ in 0..length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        let Ok(first) = Authority::parse(&text, Some(443)) else { continue };
        accepted += 1;
        assert_eq!(Authority::parse(&first.to_string(), None).as_ref(), Ok(&first), "{text:?}");
        if let Some(host) = first.host() {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
            assert!(host.as_str().bytes().all(legal), "{text:?}");
        }
    }
    assert!(accepted > 1_000, "{accepted} inputs were accepted");
}
