//! The chunked coding, byte by byte, up to the line of the last chunk.

use super::{
    Reason,
    class::{self, TEXT},
};

/// Per chunk and per body; hyper allows 16 KiB per body, so that it never is the stricter one.
const MAX_EXTENSION: u16 = 256;
const MAX_EXTENSIONS: u16 = 4 * 1024;
/// As many as a `u64` has.
const MAX_DIGITS: u8 = 16;

/// Where in a chunked body the bytes seen so far end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunked {
    step: Step,
    size: u64,
    digits: u8,
    extension: u16,
    extensions: u16,
}

/// Why [`Chunked::take`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All bytes are used up.
    More,
    /// Behind the line of a chunk with data.
    Data,
    /// Behind the line of the last chunk.
    Trailers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Size,
    Extension,
    Quoted,
    Escaped,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Behind the line of the last chunk.
    Last,
}

impl Chunked {
    /// Goes on from `at`. On an error `at` is at the byte at fault.
    pub(super) fn take(&mut self, bytes: &[u8], at: &mut usize) -> Result<Stop, Reason> {
        while let Some(&byte) = bytes.get(*at) {
            if self.step == Step::Data {
                let data = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - *at);
                *at += data;
                self.size -= data as u64;
                if self.size == 0 {
                    self.step = Step::DataCr;
                }
                continue;
            }
            self.step = self.step(byte)?;
            *at += 1;
            match self.step {
                Step::Data => return Ok(Stop::Data),
                Step::Last => return Ok(Stop::Trailers),
                _ => {}
            }
        }
        Ok(Stop::More)
    }

    fn step(&mut self, byte: u8) -> Result<Step, Reason> {
        match (self.step, byte) {
            (Step::Size, _) => self.size(byte),
            (Step::Extension, b'\r') => Ok(Step::SizeLf),
            (Step::Extension | Step::Quoted | Step::Escaped, _) => self.extension(byte),
            (Step::SizeLf, b'\n') => Ok(if self.size == 0 { Step::Last } else { Step::Data }),
            (Step::DataCr, b'\r') => Ok(Step::DataLf),
            (Step::DataLf, b'\n') => {
                *self = Self { extensions: self.extensions, ..Self::default() };
                Ok(Step::Size)
            }
            (Step::SizeLf, _) => Err(Reason::ChunkSize),
            _ => Err(Reason::ChunkEnd),
        }
    }

    fn size(&mut self, byte: u8) -> Result<Step, Reason> {
        match char::from(byte).to_digit(16) {
            Some(digit) if self.digits < MAX_DIGITS => {
                self.digits += 1;
                self.size = self.size << 4 | u64::from(digit);
                // As for Content-Length: what is negative to somebody is refused.
                if i64::try_from(self.size).is_ok() { Ok(Step::Size) } else { Err(Reason::ChunkSize) }
            }
            None if self.digits > 0 && byte == b'\r' => Ok(Step::SizeLf),
            None if self.digits > 0 && byte == b';' => Ok(Step::Extension),
            _ => Err(Reason::ChunkSize),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<Step, Reason> {
        self.extension += 1;
        self.extensions += 1;
        if self.extension > MAX_EXTENSION || self.extensions > MAX_EXTENSIONS {
            return Err(Reason::ChunkExtensionTooLarge);
        }
        match (self.step, byte) {
            _ if !class::is(byte, TEXT) => Err(Reason::ChunkExtension),
            (Step::Escaped, _) => Ok(Step::Quoted),
            (Step::Quoted, b'\\') => Ok(Step::Escaped),
            (Step::Quoted, b'"') => Ok(Step::Extension),
            (Step::Extension, b'"') => Ok(Step::Quoted),
            (Step::Extension, 0x80..) => Err(Reason::ChunkExtension),
            (step, _) => Ok(step),
        }
    }
}
