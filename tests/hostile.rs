//! The program's own files, altered: thousands of mutants of each kind, of which none panics or takes more
//! memory than the budget. One test in this file: others beside it would be counted too.

#[path = "../datasets/tests/common/counting.rs"]
mod counting;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "../datasets/tests/common/mutate.rs"]
mod mutate;

use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ganomede::models::file::{FileError, ModelFile};
use ganomede_datasets::memory::{budget, set_budget};
use hostile::Kind;
use mutate::{Random, mutant};

/// Mutants of each kind.
const MUTANTS: usize = 4000;
/// What lies beside what the budget counts: programs of small models, buffers of readers.
const ASIDE: usize = 32 << 20;

fn bounded<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let peak = counting::peak(|| result = Some(catch_unwind(AssertUnwindSafe(work))));
    assert!(peak < budget() as usize + ASIDE, "{what} takes {} MiB", peak >> 20);
    result.unwrap().unwrap_or_else(|_| panic!("{what} panics"))
}

#[test]
fn hostile_files_of_the_program_neither_panic_nor_take_more_memory_than_the_budget() {
    set_budget(0);
    let place = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let (seeds, place) = (kind.seeds(), place.path().join(kind.name()));
        fs::create_dir(&place).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            assert!(kind.feed(seed, &place), "seed {number} of {kind:?} is right");
        }
        let mut random = Random(kind as u64);
        let mut taken = 0;
        for number in 0..MUTANTS {
            let bytes = mutant(&mut random, &seeds);
            taken +=
                usize::from(bounded(&format!("mutant {number} of {kind:?}"), || kind.feed(&bytes, &place)));
        }
        assert!(taken >= 10, "{taken} mutants of {kind:?} are taken");
    }

    // Headers that are no headers, and one that is larger than any: nothing of the file but its first bytes
    // is read.
    let path = place.path().join("large.safetensors");
    for start in [[0; 8], u64::MAX.to_le_bytes(), (1u64 << 30).to_le_bytes(), (17u64 << 20).to_le_bytes()] {
        let mut file = File::create(&path).unwrap();
        file.write_all(&start).unwrap();
        file.set_len(5 << 30).unwrap();
        let error = bounded("5 GB", || ModelFile::load(&path).unwrap_err());
        assert!(matches!(error, FileError::Malformed { .. }), "{error}");
    }
    // A header that fits, but not the memory for what it may hold.
    let mut file = File::create(&path).unwrap();
    file.write_all(&(8u64 << 20).to_le_bytes()).unwrap();
    file.set_len(9 << 20).unwrap();
    let error = bounded("header", || ModelFile::load(&path).unwrap_err());
    assert!(
        matches!(error, FileError::Memory { .. }) && error.to_string().contains("large.safetensors"),
        "{error}"
    );
    // Tensors that are there, as zeros, and do not fit.
    let json = r#"{"__metadata__":{"ganomede":"{\"header\":{\"format\":FORMAT},\"sha256\":\"\"}"},"t":{"dtype":"F16","shape":[536870912],"data_offsets":[0,1073741824]}}"#;
    let json = json.replace("FORMAT", &ganomede::models::file::FORMAT.to_string());
    let mut file = File::create(&path).unwrap();
    file.write_all(&(json.len() as u64).to_le_bytes()).unwrap();
    file.write_all(json.as_bytes()).unwrap();
    file.set_len(8 + json.len() as u64 + (1 << 30)).unwrap();
    let error = bounded("tensors", || ModelFile::load(&path).unwrap_err());
    assert!(matches!(error, FileError::Memory { .. }), "{error}");
}
