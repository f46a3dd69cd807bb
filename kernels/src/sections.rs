//! Sections of shader texts: what stands between the lines `//#name` and `//#end`, which plans take out or
//! fill in.

/// What stands between the lines `//#marker` and `//#end` of `source`.
pub(crate) fn section<'a>(source: &'a str, marker: &str) -> Option<&'a str> {
    Some(source.split_once(&format!("//#{marker}\n"))?.1.split_once("//#end")?.0)
}

/// Replaces what stands between the lines `//#marker` and `//#end` of `source` by `text`. The source is
/// returned as it is where it has no such lines.
pub(crate) fn splice(source: &str, marker: &str, text: &str) -> String {
    let open = format!("//#{marker}\n");
    let Some((before, rest)) = source.split_once(&open) else { return source.to_owned() };
    let Some((_, after)) = rest.split_once("//#end\n") else { return source.to_owned() };
    format!("{before}{text}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splice_replaces_between_its_markers_only() {
        let source = "a\n//#body\nold\n//#end\nb\n//#tail\nkept\n//#end\n";
        assert_eq!(splice(source, "body", "new\n"), "a\nnew\nb\n//#tail\nkept\n//#end\n");
        assert_eq!(splice(source, "none", "new\n"), source);
    }
}
