//! Owns the tokens that are handed out: by name on a door on loopback, and as files, for what no header can carry.
//! Refuses to know how tokens are made and how entries are written down: it gets checked entries and asks `token`.
//! Called by `app`, which serves the door and follows the configuration; `config` makes its entries.

mod answer;
mod entry;
mod files;
mod http;
mod path;
mod supply;

pub use self::http::Door;
pub use answer::{Field, Mapping, Refusal, SHORT_LIVED};
pub use entry::{Entry, FORMAT, FileFormat, FileSettings, MOST_DEFAULT_LIFE, Question, find, question};
pub use files::{FileStatus, Files};
pub use path::Path;

/// The header by which a client shows that it means this door: neither a web page nor a simple SSRF can send it.
pub const HEADER: &str = "x-bearerd-token-request";
