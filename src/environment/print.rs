//! The printed forms of an environment, each quoted as its reader wants. Pure.

use super::{How, Variable};

/// How to print it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `export NAME='value'` for `eval`.
    #[default]
    Shell,
    /// `NAME=value`, for `docker --env-file`, systemd and dotenv libraries.
    Dotenv,
    /// One object.
    Json,
    /// The `env` list of a container.
    K8s,
}

/// Prints what is to be set; kept variables are the user's own and are not repeated.
pub fn print(variables: &[Variable], format: Format) -> String {
    let ours = variables.iter().filter(|variable| variable.how != How::Kept);
    let line = |variable: &Variable| {
        let Variable { name, value, .. } = variable;
        match format {
            Format::Shell => format!("export {name}='{}'\n", value.replace('\'', r"'\''")),
            Format::Dotenv => format!("{name}={}\n", dotenv(value)),
            // A JSON string is a YAML string.
            Format::Json | Format::K8s => {
                format!("- name: {name}\n  value: {}\n", serde_json::Value::from(value.as_str()))
            }
        }
    };
    if format == Format::Json {
        let object: serde_json::Map<_, _> =
            ours.map(|variable| (variable.name.to_owned(), variable.value.clone().into())).collect();
        return format!("{:#}\n", serde_json::Value::Object(object));
    }
    ours.map(line).collect()
}

/// Raw where that is safe: `docker --env-file` takes quotes as part of the value.
fn dotenv(value: &str) -> String {
    let special = |c: char| matches!(c, '#' | '\'' | '"' | '\\' | '$' | '`') || c.is_control();
    if !value.contains(special) && value.trim() == value {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' | '`' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
