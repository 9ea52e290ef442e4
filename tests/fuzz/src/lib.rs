//! What the targets share: streams in memory, seeds, and readers of our own to compare with.
//!
//! A target is one function of bytes that panics when a promise is broken. It uses what the program itself
//! uses, through its public functions, and a second reading of the same bytes that shares no code with the first.

pub mod hello;
pub mod http1;
pub mod memory;
pub mod mqtt;
pub mod seeds;
pub mod words;

/// A target: `target!(seeds, |data: &[u8]| { … })`.
///
/// With `BEARERD_FUZZ_SEEDS=DIR` it writes its seeds there and ends; seeds are made where their makers are linked
/// anyway, so that they need no build of their own.
#[macro_export]
macro_rules! target {
    ($seeds:expr, |$data:ident: &[u8]| $body:block) => {
        libfuzzer_sys::fuzz_target!(
            init: {
                if let Some(folder) = std::env::var_os("BEARERD_FUZZ_SEEDS") {
                    $crate::seeds::write(folder.as_ref(), $seeds);
                    #[allow(clippy::disallowed_methods, reason = "main is libFuzzer's")]
                    std::process::exit(0);
                }
            },
            |$data: &[u8]| $body
        );
    };
}
