//! Where the search begins: the cases of `tests/data`, and what this program and its libraries make themselves.

use std::{fs, path::Path};

/// Writes each seed to a file of its own.
pub fn write(folder: &Path, seeds: Vec<Vec<u8>>) {
    fs::create_dir_all(folder).unwrap();
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{index:04}")), seed).unwrap();
    }
}

/// Texts, one seed a line.
pub fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines().filter(|line| !line.is_empty()).map(|line| line.as_bytes().to_vec()).collect()
}

/// Texts, one seed a section; sections are divided by lines of `%%`.
pub fn sections(text: &str) -> Vec<Vec<u8>> {
    text.split("%%\n").map(|section| section.as_bytes().to_vec()).collect()
}

/// The requests of `tests/data/http1`, each behind a byte that says where it is cut.
pub fn http1() -> Vec<Vec<u8>> {
    let files = [include_str!("../../data/http1/must-accept"), include_str!("../../data/http1/must-reject")];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for line in files.iter().flat_map(|file| file.lines()).filter(|line| !line.starts_with('#')) {
        if line.starts_with("== ") {
            seeds.push(vec![seeds.len() as u8]);
        } else if let Some(seed) = seeds.last_mut() {
            seed.extend(unescaped(line));
        }
    }
    seeds.extend(requests_in_bodies());
    // Long ones slow everything down and are what single tests are for.
    seeds.retain(|seed| seed.len() < 2000);
    seeds
}

/// What smuggling is made of: to whoever reads the length wrongly, the body is the next request.
fn requests_in_bodies() -> Vec<Vec<u8>> {
    const INNER: &str = "GET /inner HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let head = |framing: &str| format!("\0POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n");
    let length = INNER.len();
    let texts = [
        format!("{}{INNER}{INNER}", head(&format!("Content-Length: {length}"))),
        format!("{}x{INNER}", head("Content-Length: 1")),
        format!("{}{length:x}\r\n{INNER}\r\n0\r\n\r\n{INNER}", head("Transfer-Encoding: chunked")),
        format!("{}{length:016x};a=b\r\n{INNER}\r\n0\r\nx: y\r\n\r\n{INNER}", head("Transfer-Encoding: chunked")),
        format!("{}0\r\n\r\n{INNER}", head("Expect: 100-continue\r\nTransfer-Encoding: chunked")),
    ];
    texts.map(String::into_bytes).into()
}

/// A line of `tests/data/http1` as bytes: its escapes are described there.
fn unescaped(line: &str) -> Vec<u8> {
    let (mut rest, end) = line.strip_suffix("\\c").map_or((line, "\r\n"), |line| (line, ""));
    let mut bytes = Vec::new();
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (escape, after) = after.split_at(1);
        rest = after;
        match escape {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "x" => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            "{" => {
                let (repetition, after) = rest.split_once('}').unwrap();
                let (text, count) = repetition.rsplit_once('*').unwrap();
                bytes.extend(unescaped(&format!("{text}\\c")).repeat(count.parse().unwrap()));
                rest = after;
            }
            other => bytes.extend_from_slice(other.as_bytes()),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes.extend_from_slice(end.as_bytes());
    bytes
}
