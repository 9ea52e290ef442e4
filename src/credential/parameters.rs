//! What whoever asks for a JWT may fill in: names and values of a template's parameters.

use std::{collections::BTreeMap, fmt};

/// Values by name, each an id: it goes into a claim that decides what the token may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parameters(BTreeMap<String, String>);

/// Why parameters are not taken. Names only parameters of the template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The template has one that was not given.
    #[error("the parameter {0} is missing")]
    Missing(String),
    /// One was given that the template does not have.
    #[error("a parameter that this token does not have; it has {0}")]
    Unknown(String),
    /// Given twice.
    #[error("the parameter {0} is given twice")]
    Repeated(String),
    /// No id.
    #[error("the parameter {0} must be 1 to {MOST_BYTES} of A-Z a-z 0-9 . _ ~ -")]
    Malformed(String),
}

impl Parameters {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes `given` for a template whose parameters are `names`: each once, nothing else.
    ///
    /// # Errors
    ///
    /// Says which parameter is wrong and what is accepted; never repeats a value, nor a name that is not in `names`.
    pub fn new(given: impl IntoIterator<Item = (String, String)>, names: &[String]) -> Result<Self, ParameterError> {
        let mut taken = BTreeMap::new();
        for (name, value) in given {
            if !names.contains(&name) {
                let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(ParameterError::Unknown(list));
            }
            if !is_id(&value) {
                return Err(ParameterError::Malformed(name));
            }
            if taken.insert(name.clone(), value).is_some() {
                return Err(ParameterError::Repeated(name));
            }
        }
        match names.iter().find(|name| !taken.contains_key(*name)) {
            Some(missing) => Err(ParameterError::Missing(missing.clone())),
            None => Ok(Self(taken)),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&pairs.join(", "))
    }
}

/// Fleet Engine reads `*` as every vehicle, so that a client must never get it in; nothing else of what is left means
/// anything in a URL, in JSON or in a resource name.
fn is_id(value: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    (1..=MOST_BYTES).contains(&value.len()) && value.bytes().all(legal)
}

const MOST_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn take(given: &[(&str, &str)], names: &[&str]) -> Result<Parameters, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Parameters::new(given, &names).map_err(|error| error.to_string())
    }

    #[test]
    fn each_parameter_is_given_once_as_an_id_and_no_other() {
        let long = "v".repeat(255);
        for value in ["v1", "A-Z.a_z~9", "-", &long] {
            assert!(take(&[("vehicleId", value)], &["vehicleId"]).is_ok(), "{value}");
        }
        let malformed = "the parameter vehicleId must be 1 to 255 of A-Z a-z 0-9 . _ ~ -";
        let too_long = "v".repeat(256);
        for value in ["", "*", "v*", "a/b", "a b", "a\"b", "a\\", "ä", "a\n", "{x}", "%2A", "a,b", &too_long] {
            assert_eq!(take(&[("vehicleId", value)], &["vehicleId"]).unwrap_err(), malformed, "{value}");
        }
        for (given, names, said) in [
            (&[][..], &["vehicleId"][..], "the parameter vehicleId is missing"),
            (&[("a", "1"), ("a", "1")], &["a"], "the parameter a is given twice"),
            (&[("evil", "1")], &["a", "b"], "a parameter that this token does not have; it has a, b"),
            (&[("evil", "1")], &[], "a parameter that this token does not have; it has none"),
        ] {
            assert_eq!(take(given, names).unwrap_err(), said);
        }
        assert_eq!(take(&[], &[]), Ok(Parameters::none()));
    }
}
