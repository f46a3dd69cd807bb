//! Samples that belong together: slices of a patient, images of a lot. They are no independent samples, so
//! what is held out for calibration, and what intervals draw anew, goes by whole groups.

use std::collections::HashMap;
use std::fmt::{Debug, Formatter};
use std::str::FromStr;

use regex_lite::{Regex, RegexBuilder};

use crate::DataError;

/// Bytes that a compiled rule may take.
const MAX_COMPILED: usize = 1 << 20;
/// A file whose name begins with what ends in digits: the group is up to these.
const BY_NAME: &str = r"([^/\\]*?[0-9])[-_][^/\\]*$";
/// The group is the folder.
const BY_FOLDER: &str = r"^(.*)[/\\][^/\\]*$";
/// Groups below which names suggest none.
const FEWEST: usize = 3;
/// Images of a folder, in the mean, from which it looks like a class and not like a group.
const MOST_OF_A_FOLDER: usize = 64;

/// How the group of an image is read off its path: the first group in parentheses of a regular expression, or
/// all that it matches.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct GroupRule {
    text: String,
    regex: Regex,
}

impl PartialEq for GroupRule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Debug for GroupRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.text.fmt(f)
    }
}

impl From<GroupRule> for String {
    fn from(rule: GroupRule) -> Self {
        rule.text
    }
}

impl TryFrom<String> for GroupRule {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self, DataError> {
        text.parse()
    }
}

impl FromStr for GroupRule {
    type Err = DataError;

    /// # Errors
    /// [`DataError`] for what is no regular expression, or one that is too large.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let refused = |e: regex_lite::Error| {
            let reason = format!("it is no regular expression: {e}; write one as `patient_([0-9]+)`");
            DataError::option("group", text, reason)
        };
        let regex = RegexBuilder::new(text).size_limit(MAX_COMPILED).build().map_err(refused)?;
        Ok(Self { text: text.to_owned(), regex })
    }
}

impl GroupRule {
    /// The regular expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The group that a path names.
    ///
    /// # Errors
    /// [`DataError`] for a path that the rule does not match, or matches with nothing.
    pub fn of<'p>(&self, path: &'p str) -> Result<&'p str, DataError> {
        self.found(path).ok_or_else(|| {
            let reason = format!(
                "'{path}' does not match it, so its group is not known; write a regular expression that all paths \
                 match, `.*` where every image stands by itself"
            );
            DataError::option("group", &self.text, reason)
        })
    }

    fn found<'p>(&self, path: &'p str) -> Option<&'p str> {
        let captures = self.regex.captures(path)?;
        let group = captures.get(1).or_else(|| captures.get(0))?;
        Some(group.as_str()).filter(|name| !name.is_empty())
    }
}

/// Numbers that groups get by their names, in the order in which they are met.
#[derive(Default)]
pub(crate) struct Numbering {
    known: HashMap<String, u32>,
    groups: Groups,
}

impl Numbering {
    /// The next sample is of the group of this name.
    pub(crate) fn add(&mut self, name: &str) {
        let number = self.known.get(name).copied().unwrap_or_else(|| {
            let number = self.groups.names.len() as u32;
            self.known.insert(name.to_owned(), number);
            self.groups.names.push(name.to_owned());
            number
        });
        self.groups.of.push(number);
    }

    pub(crate) fn finish(self) -> Groups {
        self.groups
    }
}

/// Which group each of a list of samples belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Number of the group of each sample.
    pub of: Vec<u32>,
    /// Name of each group, in the order in which they are met.
    pub names: Vec<String>,
}

impl Groups {
    /// By the names of the samples' groups, in the order of the samples.
    ///
    /// # Errors
    /// The first name that is an error.
    pub(crate) fn of_names<N: AsRef<str>>(
        names: impl Iterator<Item = Result<N, DataError>>,
    ) -> Result<Self, DataError> {
        let mut numbering = Numbering::default();
        for name in names {
            numbering.add(name?.as_ref());
        }
        Ok(numbering.finish())
    }

    /// The groups of some of the samples, numbered anew.
    pub(crate) fn of_some(&self, samples: &[u32]) -> Self {
        let of = samples.iter().map(|&sample| self.of[sample as usize]);
        let mut numbering = Numbering::default();
        of.for_each(|group| numbering.add(&self.names[group as usize]));
        numbering.finish()
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Samples of each group.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.len()];
        self.of.iter().for_each(|&group| sizes[group as usize] += 1);
        sizes
    }
}

/// Groups that the names of images suggest, where nobody said which there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuggestedGroups {
    /// What to give as the rule.
    pub rule: &'static str,
    /// How many groups there would be.
    pub groups: usize,
    /// Of how many images.
    pub images: usize,
    /// Name of the first.
    pub first: String,
}

/// Groups that names suggest: many that begin alike up to digits and a separator, as
/// `patient_012_slice_03.png`, or many folders of few images each.
pub(crate) fn suggested<'p>(paths: impl Iterator<Item = &'p str> + Clone) -> Option<SuggestedGroups> {
    let by = |rule: &'static str, most: usize| {
        let parsed = GroupRule::from_str(rule).ok()?;
        let names = paths
            .clone()
            .map(|path| parsed.found(path).ok_or_else(|| DataError::option("group", rule, path)));
        let groups = Groups::of_names(names).ok()?;
        let (count, images, largest) = (groups.len(), groups.of.len(), groups.sizes().into_iter().max()?);
        let fits = count >= FEWEST && images >= 2 * count && 2 * largest <= images && images / count <= most;
        fits.then(|| SuggestedGroups { rule, groups: count, images, first: groups.names[0].clone() })
    };
    by(BY_NAME, usize::MAX).or_else(|| by(BY_FOLDER, MOST_OF_A_FOLDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(names: &[String]) -> Option<(usize, String)> {
        suggested(names.iter().map(String::as_str)).map(|s| (s.groups, s.first))
    }

    #[test]
    fn rules_take_the_first_parentheses_or_the_match() {
        let of = |rule: &str, path: &str| rule.parse::<GroupRule>().unwrap().of(path).map(str::to_owned);
        assert_eq!(of("patient_([0-9]+)", "a/patient_012_slice_3.png").unwrap(), "012");
        assert_eq!(of("lot[0-9]+", "x/lot7/1.png").unwrap(), "lot7");
        assert_eq!(of(".*", "x/lot7/1.png").unwrap(), "x/lot7/1.png");
        assert_eq!(of("(a)|lot[0-9]+", "lot7").unwrap(), "lot7");
        let message = of("lot([0-9]*)", "x/lot/1.png").unwrap_err().to_string();
        assert!(message.contains("x/lot/1.png") && message.contains("lot([0-9]*)"), "{message}");
        assert!("(".parse::<GroupRule>().unwrap_err().to_string().contains("regular expression"));
        assert!("(a{1000}){1000}".parse::<GroupRule>().is_err());
    }

    #[test]
    fn names_suggest_groups_or_none() {
        let slices: Vec<_> =
            (0..40).map(|i| format!("scans_2/patient_{:03}_slice_{}.png", i / 8, i % 8)).collect();
        assert_eq!(suggestion(&slices), Some((5, "patient_000".to_owned())));
        let folders: Vec<_> = (0..40).map(|i| format!("d/train/{}/{}.png", i / 4, i % 4)).collect();
        assert_eq!(suggestion(&folders), Some((10, "d/train/0".to_owned())));
        let plain: Vec<_> = (0..40).map(|i| format!("train/good/{i:03}.png")).collect();
        assert_eq!(suggestion(&plain), None);
        let one: Vec<_> = (0..40).map(|i| format!("good/cast_ok_0_{i}.jpeg")).collect();
        assert_eq!(suggestion(&one), None);
        let each: Vec<_> = (0..40).map(|i| format!("good/part{i}_a.jpeg")).collect();
        assert_eq!(suggestion(&each), None);
        let built_in: Vec<_> = (0..40).map(|i| format!("retina:train:{i}")).collect();
        assert_eq!(suggestion(&built_in), None);
    }
}
