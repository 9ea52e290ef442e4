//! The gate alone (`pure`), in front of a real hyper server (`with_hyper`), and around tunnels (`sealed`).

mod pure;
mod sealed;
mod with_hyper;

/// One section of a file in `tests/data/http1`.
struct Case {
    /// The first line without `== `.
    title: &'static str,
    bytes: Vec<u8>,
}

fn must_reject() -> Vec<Case> {
    cases(include_str!("../../../../tests/data/http1/must-reject"))
}

fn must_accept() -> Vec<Case> {
    cases(include_str!("../../../../tests/data/http1/must-accept"))
}

fn cases(file: &'static str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        match (line.strip_prefix("== "), cases.last_mut()) {
            (Some(title), _) => cases.push(Case { title, bytes: Vec::new() }),
            (None, Some(case)) => case.bytes.extend(unescaped(line)),
            (None, None) => assert!(line.is_empty(), "text before the first section"),
        }
    }
    cases
}

fn unescaped(line: &str) -> Vec<u8> {
    let (mut rest, end) = line.strip_suffix("\\c").map_or((line, "\r\n"), |line| (line, ""));
    let mut bytes = Vec::new();
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (escape, after) = rest[at + 1..].split_at(1);
        rest = after;
        match escape {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "\\" => bytes.push(b'\\'),
            "x" => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            "{" => {
                let (repetition, after) = rest.split_once('}').unwrap();
                let (text, count) = repetition.rsplit_once('*').unwrap();
                let text = unescaped(&format!("{text}\\c"));
                bytes.extend(text.repeat(count.parse().unwrap()));
                rest = after;
            }
            other => panic!("unknown escape {other} in {line}"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes.extend_from_slice(end.as_bytes());
    bytes
}
