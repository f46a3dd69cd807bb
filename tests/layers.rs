//! The folders of `src/` stand on each other without going round in circles, and no command asks which form
//! its samples have or which system it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ganomede::models::SYSTEMS;

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut open, mut files) = (vec![folder.to_owned()], vec![]);
    while let Some(path) = open.pop() {
        match path.is_dir() {
            true => open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
            false => files.push(path),
        }
    }
    files
}

/// What each folder, or file beside them, names of the others with `crate::`, and where it first does so.
fn imports() -> BTreeMap<String, BTreeMap<String, PathBuf>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for path in files(&src) {
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

/// What differs between forms stands in `src/detect/`, what differs between systems in `src/models/`.
#[test]
fn no_command_asks_for_a_form_or_names_a_system() {
    let commands = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/src/commands");
    let files = files(&commands);
    assert!(files.len() > 20 && files.iter().any(|file| file.ends_with("score.rs")), "{files:?}");
    let names = SYSTEMS.iter().map(|info| info.name);
    let quoted = names.clone().map(|name| format!("\"{name}\""));
    let constants = names.map(|name| format!("{}::", name.replace('-', "_")));
    let asked: Vec<String> = quoted.chain(constants).chain(["Form::".to_owned()]).collect();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Help texts and tests of a file may.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let word = |word: &&String| {
                line.match_indices(word.as_str())
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
            };
            assert!(asked.iter().find(word).is_none(), "{}: {line}", file.display());
        }
    }
}

/// A file that no program of tests names would never run.
#[test]
fn every_file_of_tests_is_in_a_program() {
    for (package, least) in [("", 40), ("cli", 29), ("datasets", 20), ("kernels", 17)] {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join(package);
        let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
        let all = fs::read_to_string(package.join("tests/all.rs")).unwrap();
        let programs = manifest.lines().filter_map(|line| line.strip_prefix("name = "));
        let parts = all.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        let named: BTreeSet<&str> = programs.map(|name| name.trim_matches('"')).chain(parts).collect();
        let entries = fs::read_dir(package.join("tests")).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
        assert!(files.len() > least, "{files:?}");
        for file in files {
            let name = file.file_stem().unwrap().to_str().unwrap();
            assert!(named.contains(name), "{} is in no program of tests", file.display());
        }
    }
}
