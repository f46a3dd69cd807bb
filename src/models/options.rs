//! Options that one system has and others do not: `--option KEY=VALUE`, checked against the system's own
//! list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// What an option may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptionKind {
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A number in a closed range.
    Number(f64, f64),
    /// A whole number in a closed range.
    Whole(usize, usize),
}

/// One option of a system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionInfo {
    /// Name, as in `--option KEY=VALUE`.
    pub key: &'static str,
    /// Value where none is given.
    pub default: &'static str,
    /// What it may hold.
    pub kind: OptionKind,
    /// What it does.
    pub help: &'static str,
}

impl OptionKind {
    /// What is allowed, in words.
    pub fn describe(self) -> String {
        match self {
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Number(low, high) => format!("a number from {low} to {high}"),
            Self::Whole(low, high) => format!("a whole number from {low} to {high}"),
        }
    }

    fn allows(self, value: &str) -> bool {
        match self {
            Self::Choice(words) => words.contains(&value),
            Self::Number(low, high) => value.parse().is_ok_and(|v: f64| (low..=high).contains(&v)),
            Self::Whole(low, high) => value.parse().is_ok_and(|v: usize| (low..=high).contains(&v)),
        }
    }
}

/// The options of one model: every option of its system has a value that the system allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Takes the pairs given and the defaults for the others.
    ///
    /// # Errors
    /// [`ConfigError`] for an option that the system does not have, or a value that it does not allow.
    pub fn new<'a>(
        known: &[OptionInfo],
        given: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut all: BTreeMap<_, _> =
            known.iter().map(|o| (o.key.to_owned(), o.default.to_owned())).collect();
        for (key, value) in given {
            let Some(option) = known.iter().find(|o| o.key == key) else {
                let keys: Vec<_> = known.iter().map(|o| o.key).collect();
                let allowed = match keys.is_empty() {
                    true => "left out: this system has no options".to_owned(),
                    false => format!("one of {}", keys.join(", ")),
                };
                return Err(ConfigError::new("option", key, allowed));
            };
            if !option.kind.allows(value) {
                return Err(ConfigError::new(format!("option {key}"), value, option.kind.describe()));
            }
            all.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self(all))
    }

    /// Checks options that were read from a file.
    ///
    /// # Errors
    /// As [`Options::new`].
    pub fn checked(&self, known: &[OptionInfo]) -> Result<Self, ConfigError> {
        Self::new(known, self.iter())
    }

    /// The value of an option; empty for one that the system does not have.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// The value of a [`OptionKind::Number`].
    pub fn number(&self, key: &str) -> f32 {
        self.text(key).parse().unwrap_or_default()
    }

    /// The value of a [`OptionKind::Whole`].
    pub fn whole(&self, key: &str) -> usize {
        self.text(key).parse().unwrap_or_default()
    }

    /// Whether a choice is this word.
    pub fn is(&self, key: &str, word: &str) -> bool {
        self.text(key) == word
    }

    /// Keys and values in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [OptionInfo; 2] = [
        OptionInfo { key: "nets", default: "lite", kind: OptionKind::Choice(&["lite", "resnet"]), help: "" },
        OptionInfo { key: "kappa", default: "1", kind: OptionKind::Number(0.0, 10.0), help: "" },
    ];

    #[test]
    fn defaults_fill_what_is_not_given() {
        let options = Options::new(&KNOWN, [("nets", "resnet")]).unwrap();
        assert!(options.is("nets", "resnet"));
        assert_eq!(options.number("kappa"), 1.0);
    }

    #[test]
    fn unknown_keys_and_values_are_refused() {
        let key = Options::new(&KNOWN, [("net", "lite")]).unwrap_err().to_string();
        assert!(key.contains("nets, kappa"), "{key}");
        let value = Options::new(&KNOWN, [("kappa", "nan")]).unwrap_err().to_string();
        assert!(value.contains("a number from 0 to 10"), "{value}");
        assert!(Options::new(&[], [("a", "b")]).unwrap_err().to_string().contains("no options"));
    }
}
