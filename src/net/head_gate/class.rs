//! Classes of bytes: one table, looked up once per byte.

/// RFC 9110 `tchar`.
pub(super) const TOKEN: u8 = 1;
/// What a field line or request line may hold at all: HTAB, SP, visible ASCII and obs-text.
pub(super) const TEXT: u8 = 2;
/// A path. The bytes are those `http::Uri` takes as well, but for `#`, DEL and non-ASCII: so hyper
/// never refuses a target that passed here, and never cuts one.
pub(super) const PATH: u8 = 4;
/// A query; differs from a path in the double quote and the backtick.
pub(super) const QUERY: u8 = 8;
/// A label of a host name.
pub(super) const LABEL: u8 = 16;

static CLASSES: [u8; 256] = classes();

/// Whether `byte` is in `class`.
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// How many bytes at the start are in `class`.
pub(super) fn span(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// `span` for [`TEXT`], sixteen bytes at a time: this is the pass that sees every byte of a head.
pub(super) fn text(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        while let Some(block) = bytes[at..].first_chunk::<16>() {
            // No early exit, so that the compiler makes it a few vector instructions. HTAB counts as
            // foreign here; the slow loop below knows better.
            let foreign = block.iter().fold(0, |found, &byte| found | u8::from(byte < 0x20) | u8::from(byte == 0x7f));
            if foreign != 0 {
                break;
            }
            at += 16;
        }
        let block = &bytes[at..bytes.len().min(at + 16)];
        let good = span(block, TEXT);
        at += good;
        if good < 16 {
            return at;
        }
    }
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    loop {
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            class |= TOKEN;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            class |= TEXT;
        }
        if byte.is_ascii_graphic() && !matches!(byte, b'#' | b'<' | b'>') {
            class |= if byte == b'`' { 0 } else { PATH };
            class |= if byte == b'"' { 0 } else { QUERY };
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            class |= LABEL;
        }
        table[byte as usize] = class;
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}
