//! The texts of the shaders: the embedded ones, or a developer's own in their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use ganomede_shaders::text as embedded;

pub use ganomede_shaders::FILES;

/// Texts by file name. The default are the embedded ones; clones share their texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shaders(Arc<BTreeMap<String, String>>);

impl Shaders {
    /// The embedded texts, but `texts`, file name and text, in place of those of the same name.
    ///
    /// # Errors
    /// The first name that is no file of [`FILES`].
    pub fn with(texts: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let texts: BTreeMap<String, String> = texts.into_iter().collect();
        match texts.keys().find(|name| embedded(name).is_none()) {
            Some(unknown) => Err(unknown.clone()),
            None => Ok(Self(Arc::new(texts))),
        }
    }

    /// The text of a file of [`FILES`]; empty for any other name.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).or(embedded(name)).unwrap_or_default()
    }

    /// Names of the files whose text is not the embedded one.
    pub fn changed(&self) -> Vec<&str> {
        let differs = |(name, text): &(&String, &String)| embedded(name) != Some(text.as_str());
        self.0.iter().filter(differs).map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_replaced_by_name() {
        let own = |name: &str, text: &str| Shaders::with([(name.to_owned(), text.to_owned())]);
        let shaders = own("gemm_dot.wgsl", "mine").unwrap();
        assert_eq!((shaders.text("gemm_dot.wgsl"), shaders.changed()), ("mine", vec!["gemm_dot.wgsl"]));
        assert_eq!(shaders.text("copy.wgsl"), Shaders::default().text("copy.wgsl"));
        assert!(own("copy.wgsl", Shaders::default().text("copy.wgsl")).unwrap().changed().is_empty());
        assert_eq!(own("mine.wgsl", "").unwrap_err(), "mine.wgsl");
    }
}
