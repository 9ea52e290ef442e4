//! Files, directories and standard input.
//!
//! Owns what is read and how much of it. Refuses to know what is in it. Called by `cli`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A file's content and the name it is reported under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// As the user gave it, or as the directory has it.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// Reads what was asked for; `-` is `stdin`.
///
/// # Errors
/// One line for each that cannot be read.
pub fn read(paths: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Input>, Vec<String>> {
    let mut errors = Vec::new();
    let mut inputs: Vec<Input> = Vec::new();
    let mut left = MOST_ALTOGETHER;
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(vec!["-f -: standard input can be read once".to_owned()]);
    }
    for path in paths {
        let files = match files(path) {
            Ok(files) => files,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for file in files {
            match one(&file, stdin) {
                Ok(input) if input.text.len() > left => {
                    return Err(vec![format!("{}: more than {MOST_ALTOGETHER} bytes altogether", input.name)]);
                }
                Ok(input) => {
                    left -= input.text.len();
                    inputs.push(input);
                }
                Err(error) => errors.push(error),
            }
        }
    }
    if errors.is_empty() { Ok(inputs) } else { Err(errors) }
}

/// The manifests of a directory, as `kubectl` takes them: by name, none from folders in it.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.as_os_str() == "-" || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_manifest = file.extension().is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|known| ext == *known));
        if is_manifest && !file.is_dir() {
            found.push(file);
        }
        if found.len() > MOST_FILES {
            return Err(format!("{}: more than {MOST_FILES} files", path.display()));
        }
    }
    if found.is_empty() {
        return Err(format!("{}: no *.yaml, *.yml or *.json in it", path.display()));
    }
    found.sort();
    Ok(found)
}

fn one(path: &Path, stdin: &mut dyn Read) -> Result<Input, String> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "stdin".to_owned() } else { path.display().to_string() };
    let bytes = if is_stdin { all(stdin) } else { File::open(path).and_then(|mut file| all(&mut file)) };
    let bytes = bytes.map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() > MOST_BYTES {
        return Err(format!("{name}: larger than {MOST_BYTES} bytes"));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(format!("{name}: this is UTF-16, want UTF-8 (PowerShell: Out-File -Encoding utf8)"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Input { name, text }),
        Err(error) => {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
            Err(format!("{name}:{line}: a byte that is not UTF-8"))
        }
    }
}

fn all(source: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Of one file.
pub(super) const MOST_BYTES: usize = 16 << 20;

/// Of all files.
const MOST_ALTOGETHER: usize = 64 << 20;

/// In one directory.
const MOST_FILES: usize = 10_000;
