//! Finds the end of one CRLF line and refuses what must not be inside it.

use super::{Reason, class};

/// Looks on from `at` for CRLF in `bytes`, of which `limit` may be used.
///
/// `Ok(Some(end))`: the line ends before `end`, and `at` is behind its CRLF. `Ok(None)`: more bytes are
/// needed, or the limit is reached and `at` shows it. A forbidden byte is found as soon as it is there,
/// so that where segments end never changes the verdict.
pub(super) fn end(bytes: &[u8], at: &mut usize, limit: usize) -> Result<Option<usize>, Reason> {
    let seen = &bytes[..bytes.len().min(limit)];
    *at += class::text(&seen[*at..]);
    match seen[*at..] {
        [] => Ok(None),
        [b'\r'] => {
            if seen.len() == limit {
                *at = limit;
            }
            Ok(None)
        }
        [b'\r', b'\n', ..] => {
            *at += 2;
            Ok(Some(*at - 2))
        }
        [b'\r', ..] => Err(Reason::BareCr),
        [b'\n', ..] => Err(Reason::BareLf),
        _ => Err(Reason::ControlByte),
    }
}
