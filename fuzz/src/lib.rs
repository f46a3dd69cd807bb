//! What fuzz targets share: each kind of file with its right ones and its use, as the tests have them.

use std::path::Path;
use std::sync::OnceLock;

#[path = "../../datasets/tests/common/hostile.rs"]
pub mod data;
#[path = "../../tests/common/hostile.rs"]
pub mod program;

/// Memory that decoding may take, bytes: half of what a target may take in all.
const BUDGET: u64 = 512 << 20;

/// Writes the right files of a kind into its corpus, `fuzz/corpus/<target>/seed-<n>`, before the fuzzer reads
/// it.
pub fn plant(target: &str, seeds: &[Vec<u8>]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).expect("a folder for the corpus");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("room for the corpus");
    }
}

/// Runs `use_of` with a folder of this process, within the budget.
pub fn feed(use_of: impl FnOnce(&Path) -> bool) {
    static PLACE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let place = PLACE.get_or_init(|| {
        ganomede_datasets::memory::set_budget(BUDGET);
        tempfile::tempdir().expect("a folder")
    });
    use_of(place.path());
}
