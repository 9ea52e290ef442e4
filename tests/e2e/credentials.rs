//! However a client spells a credential of its own: what arrives is exactly one, ours, or nothing.

use crate::{
    bed::{Bed, STORAGE},
    frames::{self, END_HEADERS, END_STREAM, HEADERS, block},
    h2::ask,
    raw,
};

/// Field lines beside an ordinary request's own.
const SPELLINGS: &[&[(&str, &str)]] = &[
    &[("Authorization", "Bearer x")],
    &[("authorization", "Bearer x")],
    &[("AUTHORIZATION", "Bearer x")],
    &[("aUtHoRiZaTiOn", "bearer x")],
    &[("Authorization", "")],
    &[("Authorization", " ")],
    &[("Authorization", "Bearer")],
    &[("Authorization", "Bearer x, Bearer y")],
    &[("Authorization", "Bearer x; y")],
    &[("Authorization", "Basic dTpw")],
    &[("Authorization", "Digest username=\"u\"")],
    &[("Authorization", "Negotiate abc")],
    &[("Authorization", "x")],
    &[("Authorization", "Bearer x\ty")],
    &[("Authorization", "Bearer x"), ("Authorization", "Bearer y")],
    &[("Authorization", ""), ("Authorization", "Bearer y")],
    &[("Authorization", "Bearer x"), ("authorization", "Bearer x")],
    &[("Authorization", "Bearer x"), ("X", "1"), ("authorization", "Bearer y")],
    &[("Authorization ", "Bearer x")],
    &[(" Authorization", "Bearer x")],
    &[("Authorization\t", "Bearer x")],
    &[("Authorization\0", "Bearer x")],
    &[("Authorization", "Bearer x\0")],
    &[("Authorization", "Bearer x\rX: y")],
    &[("X", "1\r\n Authorization: Bearer x")],
    &[("X", "1\nAuthorization: Bearer x")],
    &[("Authorization_", "Bearer x")],
    &[("_Authorization", "Bearer x")],
    &[("-authorization", "Bearer x")],
    &[("authorization-", "Bearer x")],
    &[("Proxy_Authorization", "Basic dTpw")],
    &[("X_Serverless_Authorization", "Bearer x")],
    &[("X-Forwarded-Authorization", "Bearer x")],
    &[("Connection", "Authorization")],
    &[("Connection", "close, authorization"), ("Authorization", "Bearer x")],
    &[("connection", "AUTHORIZATION"), ("Connection", "keep-alive")],
    &[("Connection", "\tauthorization\t")],
    &[("Proxy-Connection", "authorization"), ("Authorization", "Bearer x")],
    &[("Keep-Alive", "authorization"), ("Authorization", "Bearer x")],
    &[("Trailer", "Authorization")],
    &[("TE", "trailers, authorization"), ("Authorization", "Bearer x")],
    &[("Upgrade", "authorization"), ("Connection", "upgrade")],
    &[("Cookie", "authorization=Bearer x"), ("Authorization", "Bearer x")],
    &[("Authoriz\u{e4}tion", "Bearer x")],
    &[("\u{212a}authorization", "Bearer x")],
    &[("Authorization", "B\u{e9}arer x")],
    &[(":authorization", "Bearer x")],
    &[("Authorization:", "Bearer x")],
];

#[tokio::test]
async fn exactly_one_authorization_arrives_and_it_is_ours() {
    let bed = Bed::start().await;
    bed.exchanges_reach(1).await;
    let ours = format!("Bearer {}", bed.only_token());
    let (mut served, mut refused) = (0, 0);
    for fields in SPELLINGS {
        for way in 0..3 {
            let before = bed.google.request_count();
            let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let good = match way {
                0 => {
                    let mut stream = raw::proxy(&bed).await;
                    let head = format!("GET http://{STORAGE}/echo HTTP/1.1\r\nHost: {STORAGE}\r\n{lines}\r\n");
                    raw::write(&mut stream, head.as_bytes()).await;
                    raw::answer(&mut stream).await.status() == 200
                }
                1 => {
                    let mut stream = bed.connect(STORAGE, &[b"http/1.1"]).await;
                    let head = format!("GET /echo HTTP/1.1\r\nHost: {STORAGE}\r\n{lines}\r\n");
                    raw::write(&mut stream, head.as_bytes()).await;
                    raw::answer(&mut stream).await.status() == 200
                }
                _ => {
                    let lower: Vec<String> = fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
                    let mut all =
                        vec![(":method", "GET"), (":scheme", "https"), (":authority", STORAGE), (":path", "/echo")];
                    all.extend(lower.iter().zip(*fields).map(|(name, (_, value))| (name.as_str(), *value)));
                    let head = frames::frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&all));
                    !ask(&bed, &head).await.is_refused()
                }
            };
            assert_eq!(bed.google.request_count() - before, u64::from(good), "{fields:?} {way}");
            if good {
                let seen = bed.last();
                let all: Vec<_> = seen.headers.get_all("authorization").iter().collect();
                assert_eq!(all, [ours.as_str()], "{fields:?} {way}");
                assert!(seen.admission.is_good(), "{fields:?} {way}");
                let disguised = |name: &http::HeaderName| name.as_str().contains("authorization_");
                assert!(!seen.headers.keys().any(disguised), "{fields:?} {way}");
                served += 1;
            } else {
                refused += 1;
            }
        }
    }
    println!("{served} served with one, {refused} refused");
    assert!(served >= 50 && refused >= 40, "{served} {refused}");
}
