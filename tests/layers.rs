//! The folders of `src/` stand on each other without going round in circles.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each folder, or file beside them, names of the others with `crate::`, and where it first does so.
fn imports() -> BTreeMap<String, BTreeMap<String, PathBuf>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    let mut open: Vec<PathBuf> = vec![src.clone()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let place = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (_, rest) in code.flat_map(|line| line.match_indices("crate::").map(|at| line.split_at(at.0 + 7)))
        {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if name != place && !name.is_empty() {
                imports.entry(place.clone()).or_default().entry(name).or_insert_with(|| inside.to_owned());
            }
        }
    }
    imports
}

#[test]
fn folders_do_not_import_in_circles() {
    let mut left = imports();
    assert!(left["device"].contains_key("program") && left["program"].contains_key("tape"), "{left:?}");
    // Whoever imports nothing that is left stands at the bottom and goes.
    loop {
        let standing: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, on| on.keys().any(|name| standing.contains(name)));
        if left.len() == standing.len() {
            break;
        }
    }
    assert!(left.is_empty(), "these import each other, or what does: {left:#?}");
}
