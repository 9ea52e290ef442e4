//! The files in `tests/data/http1`, read: cases of bytes that the gate must refuse or let through. The end-to-end
//! tests read them by the same code.

/// One section of a file in `tests/data/http1`.
pub(crate) struct Case {
    /// The first line without `== `.
    pub(crate) title: &'static str,
    /// What is sent.
    pub(crate) bytes: Vec<u8>,
}

/// The sections of a file.
pub(crate) fn cases(file: &'static str) -> Vec<Case> {
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
