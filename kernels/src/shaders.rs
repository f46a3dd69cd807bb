//! The texts of the shaders: the embedded ones, or a developer's own in their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use ganomede_shaders::{file, joined, text};

pub use ganomede_shaders::FILES;

/// Texts by file name. The default are the embedded ones; clones share their texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shaders(Arc<Own>);

/// What stands in place of embedded files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Own {
    /// As they were given.
    files: BTreeMap<String, String>,
    /// Texts of the files that these are or that use one of them, with the pieces in their places.
    texts: BTreeMap<&'static str, String>,
}

impl Shaders {
    /// The embedded texts, but `files`, name and text, in place of those of the same name.
    ///
    /// # Errors
    /// The first name that is no file of [`FILES`].
    pub fn with(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let files: BTreeMap<String, String> = files.into_iter().collect();
        if let Some(unknown) = files.keys().find(|name| file(name).is_none()) {
            return Err(unknown.clone());
        }
        let mut texts = BTreeMap::new();
        for &(name, _) in FILES {
            let find = |name: &str| files.get(name).map(String::as_str).or(file(name));
            let whole = joined(find(name).unwrap_or_default(), find);
            if text(name) != Some(whole.as_str()) {
                texts.insert(name, whole);
            }
        }
        Ok(Self(Arc::new(Own { files, texts })))
    }

    /// The text of a file of [`FILES`], with the pieces that it uses in their places; empty for any other
    /// name.
    pub fn text(&self, name: &str) -> &str {
        self.0.texts.get(name).map(String::as_str).or(text(name)).unwrap_or_default()
    }

    /// Names of the files whose text is not the embedded one.
    pub fn changed(&self) -> Vec<&str> {
        let differs = |(name, text): &(&String, &String)| file(name) != Some(text.as_str());
        self.0.files.iter().filter(differs).map(|(name, _)| name.as_str()).collect()
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
        assert!(own("copy.wgsl", file("copy.wgsl").unwrap()).unwrap().changed().is_empty());
        assert_eq!(own("mine.wgsl", "").unwrap_err(), "mine.wgsl");
        // A piece changes what uses it, and nothing else.
        let shaders = own("shared/thread.wgsl", "// mine\n\nfn thread() {}\n").unwrap();
        assert_eq!(shaders.changed(), ["shared/thread.wgsl"]);
        assert!(shaders.text("sparse.wgsl").contains("\nfn thread() {}\n"));
        assert_eq!(shaders.text("expr.wgsl"), Shaders::default().text("expr.wgsl"));
    }
}
