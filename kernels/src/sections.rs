//! Sections of shader texts: what stands between the lines `//#name` and `//#end`, which plans take out or
//! fill in.

/// `source` before the first line `line`, and behind it.
fn around<'a>(source: &'a str, line: &str) -> Option<(&'a str, &'a str)> {
    let whole = |at: usize| at == 0 || source.as_bytes()[at - 1] == b'\n';
    let (at, line) = source.match_indices(line).find(|&(at, _)| whole(at))?;
    Some((&source[..at], &source[at + line.len()..]))
}

/// `source` before the lines `//#marker` to `//#end`, what stands between them, and what follows.
fn split<'a>(source: &'a str, marker: &str) -> Option<[&'a str; 3]> {
    let (before, rest) = around(source, &format!("//#{marker}\n"))?;
    let (section, after) = around(rest, "//#end\n")?;
    Some([before, section, after])
}

/// What stands between the lines `//#marker` and `//#end` of `source`.
pub(crate) fn section<'a>(source: &'a str, marker: &str) -> Option<&'a str> {
    split(source, marker).map(|[_, section, _]| section)
}

/// Replaces what stands between the lines `//#marker` and `//#end` of `source` by `text`. The source is
/// returned as it is where it has no such lines.
pub(crate) fn splice(source: &str, marker: &str, text: &str) -> String {
    match split(source, marker) {
        Some([before, _, after]) => format!("{before}{text}{after}"),
        None => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splice_replaces_between_its_markers_only() {
        let source = "a\n//#body\nold\n//#end\nb\n//#tail\nkept\n//#end\n";
        assert_eq!(splice(source, "body", "new\n"), "a\nnew\nb\n//#tail\nkept\n//#end\n");
        assert_eq!(splice(source, "none", "new\n"), source);
        assert_eq!(section(source, "tail"), Some("kept\n"));
        // A header that speaks of a section does not begin one.
        let source = "// between //#body\n// and //#end\n//#body\nold\n//#end\n";
        assert_eq!(splice(source, "body", "new\n"), "// between //#body\n// and //#end\nnew\n");
    }
}
