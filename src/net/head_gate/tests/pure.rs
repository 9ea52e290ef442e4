use std::collections::HashSet;

use super::{super::machine::*, super::*, must_accept, must_reject};

const GOOD: &[u8] = b"POST /first HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nok";

/// Shows `segments` to a machine as the gate does; what it released, and its last word.
fn shown<'a>(allows_h2: bool, segments: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Verdict) {
    let mut machine = Machine::new(allows_h2);
    let (mut held, mut released) = (Vec::new(), Vec::new());
    for segment in segments {
        held.extend_from_slice(segment);
        let judgement = machine.judge(&held);
        released.extend(held.drain(..judgement.release));
        if judgement.verdict != Verdict::More {
            return (released, judgement.verdict);
        }
    }
    (released, Verdict::More)
}

/// Every way to cut `bytes` in two; of long ones some.
fn halves(bytes: &[u8]) -> impl Iterator<Item = [&[u8]; 2]> {
    let step = if bytes.len() > 2000 { 97 } else { 1 };
    (1..bytes.len()).step_by(step).map(|at| [&bytes[..at], &bytes[at..]])
}

fn label_of(verdict: Verdict) -> Option<(bool, Reason)> {
    match verdict {
        Verdict::Refuse(reason) => Some((true, reason)),
        Verdict::Break(reason) => Some((false, reason)),
        _ => None,
    }
}

#[test]
fn every_bad_request_is_refused_for_its_reason_wherever_segments_end() {
    let cases = must_reject();
    assert!(cases.len() >= 700, "{} cases", cases.len());
    for case in &cases {
        let (status, rest) = case.title.split_once(' ').unwrap();
        let (label, _) = rest.split_once(':').unwrap();
        let whole = shown(false, [&case.bytes[..]]);
        let Some((in_head, reason)) = label_of(whole.1) else { panic!("{}: {:?}", case.title, whole.1) };
        assert_eq!(reason.label(), label, "{}", case.title);
        if status == "break" {
            assert!(!in_head && !whole.0.is_empty(), "{}: {:?}", case.title, whole.1);
        } else {
            assert!(in_head && whole.0.is_empty(), "{}: {:?}, {} bytes", case.title, whole.1, whole.0.len());
            assert_eq!(reason.status().as_str(), status, "{}", case.title);
        }
        assert_eq!(shown(false, case.bytes.chunks(1)), whole, "{} in single bytes", case.title);
        for cut in halves(&case.bytes) {
            assert_eq!(shown(false, cut), whole, "{} cut at {}", case.title, cut[0].len());
        }
        let after_good = [GOOD, &case.bytes].concat();
        let expected = ([GOOD, &whole.0].concat(), whole.1);
        assert_eq!(shown(false, [&after_good[..]]), expected, "{} after a good one", case.title);
        assert_eq!(shown(false, after_good.chunks(1)), expected, "{} after a good one, in single bytes", case.title);
    }
}

#[test]
fn every_legal_request_passes_byte_for_byte_wherever_segments_end() {
    let cases = must_accept();
    assert!(cases.len() >= 180, "{} cases", cases.len());
    for case in &cases {
        let whole = shown(false, [&case.bytes[..]]);
        assert!(label_of(whole.1).is_none(), "{}: {:?}", case.title, whole.1);
        // One empty line at the end is the beginning of a further request.
        let passed =
            if case.title.contains("after the last") { &case.bytes[..case.bytes.len() - 2] } else { &case.bytes };
        assert!(whole.0 == passed, "{}: {} of {} bytes", case.title, whole.0.len(), passed.len());
        assert_eq!(shown(false, case.bytes.chunks(1)), whole, "{} in single bytes", case.title);
        for cut in halves(&case.bytes) {
            assert_eq!(shown(false, cut), whole, "{} cut at {}", case.title, cut[0].len());
        }
        let after_good = [GOOD, &case.bytes].concat();
        assert_eq!(
            shown(false, [&after_good[..]]),
            ([GOOD, &whole.0].concat(), whole.1),
            "{} after a good one",
            case.title
        );
    }
}

#[test]
fn no_byte_of_a_bad_request_is_ever_released_early() {
    for case in must_reject().iter().filter(|case| !case.title.starts_with("break")) {
        for end in (1..case.bytes.len()).step_by(1 + case.bytes.len() / 500) {
            let (released, _) = shown(false, [&case.bytes[..end]]);
            assert!(released.is_empty(), "{}: {} bytes released after {end}", case.title, released.len());
        }
    }
}

#[test]
fn a_chunked_head_waits_for_its_first_size_line_unless_the_client_waits_for_us() {
    let head = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut machine = Machine::new(false);
    assert_eq!(machine.judge(head).release, 0);
    assert!(machine.holds_a_head());
    let with_size = [&head[..], b"3\r\n"].concat();
    assert_eq!(machine.judge(&with_size).release, with_size.len());
    assert!(!machine.holds_a_head());

    let waiting = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(shown(false, [&waiting[..]]), (waiting.to_vec(), Verdict::More));
    // What is there already is looked at all the same.
    let bad_at_once = [&waiting[..], b"x\r\n"].concat();
    assert_eq!(shown(false, [&bad_at_once[..]]), (Vec::new(), Verdict::Refuse(Reason::ChunkSize)));
}

#[test]
fn a_head_let_go_goes_on_where_it_was() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0000";
    let mut machine = Machine::new(false);
    assert_eq!(machine.judge(bytes).release, 0);
    assert_eq!(machine.let_go(), bytes.len());
    assert_eq!(machine.let_go(), 0);
    let rest = b"03\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(machine.judge(rest), Judgement { release: rest.len(), verdict: Verdict::More });
    assert_eq!(machine.judge(b" "), Judgement { release: 0, verdict: Verdict::More });
    assert_eq!(machine.judge(b" /\n").verdict, Verdict::Refuse(Reason::BareLf));
}

#[test]
fn the_preface_of_http2_opens_the_gate_only_where_allowed_and_only_at_the_start() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let session = [&preface[..], b"\0\0\0\x04\0\0\0\0\0"].concat();
    assert_eq!(shown(true, [&session[..]]), (session.clone(), Verdict::Transparent));
    assert_eq!(shown(true, session.chunks(1)).1, Verdict::Transparent);
    assert_eq!(shown(false, [&session[..]]), (Vec::new(), Verdict::Refuse(Reason::Version)));
    let late = [GOOD, &session].concat();
    assert_eq!(shown(true, [&late[..]]), (GOOD.to_vec(), Verdict::Refuse(Reason::Version)));
    let not_quite = b"PRI * HTTP/2.0\r\n\r\nSMTP\r\n";
    assert_eq!(shown(true, not_quite.chunks(1)), (Vec::new(), Verdict::Refuse(Reason::Version)));
    let post = b"PUT / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(shown(true, post.chunks(1)), (post.to_vec(), Verdict::More));
}

#[test]
fn a_tls_hello_is_known_by_its_first_byte_only_at_the_start() {
    for allows_h2 in [false, true] {
        let verdict = shown(allows_h2, [&b"\x16\x03\x01\x02\x00"[..]]).1;
        assert_eq!(verdict, Verdict::Break(Reason::TlsOnPlainPort));
    }
    let late = [GOOD, b"\x16\x03\x01"].concat();
    assert_eq!(shown(false, [&late[..]]), (GOOD.to_vec(), Verdict::Refuse(Reason::ControlByte)));
}

#[test]
fn what_follows_a_connect_or_websocket_head_is_not_looked_at() {
    for head in [
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: foo, websocket\r\nConnection: upgrade\r\n\r\n",
    ] {
        let bytes = [head.as_bytes(), b"\x16\n\0GET /smuggled HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(shown(false, [&bytes[..]]), (head.as_bytes().to_vec(), Verdict::Opaque));
    }
}

#[test]
fn a_verdict_is_final() {
    let mut machine = Machine::new(false);
    assert_eq!(machine.judge(b"\n"), Judgement { release: 0, verdict: Verdict::Refuse(Reason::BareLf) });
    assert_eq!(machine.judge(GOOD), Judgement { release: 0, verdict: Verdict::Refuse(Reason::BareLf) });
}

#[test]
fn labels_are_distinct_and_fit_for_a_metric() {
    let labels: HashSet<_> = must_reject().iter().map(|case| case.title.split([' ', ':']).nth(1).unwrap()).collect();
    // Every reason but the one that is no request at all has a case.
    assert_eq!(labels.len(), 33);
    assert!(labels.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
}
