//! No output replaces what a run reads or comes to lie among it, by whatever name.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ganomede_datasets::{DataError, Reads};
use tempfile::tempdir;

/// A flat folder, an MVTec folder, a CSV file, a labels file and a model.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let at = tempdir().unwrap();
        for file in [
            "flat/a.png",
            "flat/b.JPG",
            "flat/notes.md",
            "mvtec/train/good/0.png",
            "mvtec/test/crack/1.png",
            "mvtec/ground_truth/crack/1_mask.png",
            "series.csv",
            "labels.json",
            "m.safetensors",
        ] {
            let path = at.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        Tree(at)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn reads(&self) -> Reads {
        let data = ["flat", "mvtec", "series.csv", "missing"];
        let reads =
            Reads::new().data("builtin:retina").file(self.at("labels.json")).file(self.at("m.safetensors"));
        data.iter().fold(reads, |reads, name| reads.data(self.at(name).to_str().unwrap()))
    }
}

fn refusal(outcome: Result<(), DataError>) -> String {
    match outcome {
        Err(error @ DataError::Output { .. }) => error.to_string(),
        other => panic!("not refused as an output: {other:?}"),
    }
}

#[test]
fn what_is_read_is_not_replaced_whatever_it_is_called() {
    let tree = Tree::new();
    let files = [
        "flat/a.png",
        "flat/b.JPG",
        "mvtec/train/good/0.png",
        "mvtec/test/crack/1.png",
        "mvtec/ground_truth/crack/1_mask.png",
        "series.csv",
        "labels.json",
        "m.safetensors",
    ];
    for (i, file) in files.iter().enumerate() {
        let path = tree.at(file);
        let (hard, soft) = (tree.at(&format!("hard-{i}.out")), tree.at(&format!("soft-{i}.out")));
        fs::hard_link(&path, &hard).unwrap();
        symlink(&path, &soft).unwrap();
        let dotted = tree.at("flat/..").join(file);
        for output in [&path, &hard, &soft, &dotted] {
            let said = refusal(tree.reads().check_file(output));
            assert!(said.contains("is read by this run"), "{said}");
        }
    }
    // A link within the data: what it names is read.
    fs::write(tree.at("elsewhere.png"), "far").unwrap();
    symlink(tree.at("elsewhere.png"), tree.at("flat/link.png")).unwrap();
    refusal(tree.reads().check_file(&tree.at("elsewhere.png")));
}

#[test]
fn nothing_new_comes_to_lie_among_the_data() {
    let tree = Tree::new();
    symlink(tree.at("flat"), tree.at("alias")).unwrap();
    for new in ["flat/new.png", "alias/new.tiff", "mvtec/train/good/9.bmp", "mvtec/ground_truth/crack/9.png"]
    {
        let said = refusal(tree.reads().check_file(&tree.at(new)));
        assert!(said.contains("among the data"), "{said}");
    }
    // Folders below a flat one are read with it.
    for folder in ["flat", "alias", "flat/maps", "alias/maps/new", "mvtec/train/good", "mvtec/test/crack"] {
        let said = refusal(tree.reads().check_folder(&tree.at(folder)));
        assert!(said.contains("choose another folder"), "{said}");
    }
    // An image that was named alone lies in a folder that pictures would fill.
    let single = Reads::new().data(tree.at("flat/a.png").to_str().unwrap());
    refusal(single.check_folder(&tree.at("flat")));
    single.check_file(&tree.at("flat/film.png")).unwrap();
}

#[test]
fn what_is_no_regular_file_is_no_output() {
    let tree = Tree::new();
    let _socket = std::os::unix::net::UnixListener::bind(tree.at("socket")).unwrap();
    for (output, said) in
        [(tree.at("socket"), "a device, a pipe or a socket"), (tree.at("flat"), "is a folder")]
    {
        assert!(refusal(Reads::new().check_file(&output)).contains(said));
    }
    refusal(Reads::new().check_file(Path::new("/dev/null")));
}

#[test]
fn what_harms_nothing_is_allowed() {
    let tree = Tree::new();
    fs::write(tree.at("old.safetensors"), "an output of an earlier run").unwrap();
    for output in [
        "old.safetensors",
        "new.png",
        "flat/m.safetensors",
        "flat/notes.md",
        "flat/manifest.json",
        "mvtec/film.png",
    ] {
        tree.reads().check_file(&tree.at(output)).unwrap_or_else(|e| panic!("{output}: {e}"));
    }
    for folder in ["maps", "mvtec/maps", "mvtec", "."] {
        tree.reads().check_folder(&tree.at(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    }
    Reads::new().check_file(&tree.at("flat/a.png")).unwrap();
    // Of a folder of series only the files right in it are read, whatever lies below.
    for file in ["series/a.csv", "series/report/scores.csv", "series/report/plot.png"] {
        fs::create_dir_all(tree.at(file).parent().unwrap()).unwrap();
        fs::write(tree.at(file), file).unwrap();
    }
    let series = Reads::new().data(tree.at("series").to_str().unwrap());
    series.check_folder(&tree.at("series/report")).unwrap();
    series.check_file(&tree.at("series/report/plot.png")).unwrap();
}
