//! Compiled pipelines kept between runs: used where the driver hands them out, and never in the way.

use std::path::{Path, PathBuf};

use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions};
use ganomede_kernels::Kernel;
use ganomede_kernels::random::{Distribution, Random};

fn open(cache: &Path) -> Gpu {
    let options = GpuOptions { cache: Some(cache.to_path_buf()), ..GpuOptions::default() };
    Gpu::open(GpuChoice::Any, options)
        .expect("these tests need an adapter; apt-get install mesa-vulkan-drivers")
}

/// Some numbers that a compiled pipeline makes.
fn numbers(gpu: &Gpu) -> Vec<f32> {
    let kernel = Kernel::Random(Random { distribution: Distribution::Uniform, len: 64, stream: 1 });
    gpu.run_kernel(&kernel, None, &[&[1.0, 2.0], &[3.0]], None).expect("it runs").remove(0)
}

/// A cache folder that one run has filled, its file and the right numbers.
fn filled() -> (tempfile::TempDir, PathBuf, Vec<f32>) {
    let folder = tempfile::tempdir().expect("a folder");
    let gpu = open(folder.path());
    let right = numbers(&gpu);
    let file = gpu.pipelines_file().expect("the tests' driver hands pipelines out").to_path_buf();
    assert!(file.starts_with(folder.path().join("pipelines")), "{}", file.display());
    (folder, file, right)
}

#[test]
fn a_cache_is_written_where_the_adapter_offers_one_and_read_again() {
    let (folder, file, right) = filled();
    let bytes = std::fs::read(&file).expect("written after the first compilation");
    let there = std::fs::read_dir(file.parent().expect("a folder")).expect("readable").count();
    assert_eq!(there, 2, "the file and the key of the folder; no temporary file is left");
    let again = open(folder.path());
    assert_eq!(numbers(&again), right);
    assert_eq!(std::fs::read(&file).expect("still there"), bytes);
    let without = Gpu::open(GpuChoice::Any, GpuOptions::default()).expect("an adapter");
    assert_eq!((without.pipelines_file(), numbers(&without)), (None, right));
}

#[test]
fn what_is_no_cache_of_this_adapter_is_replaced() {
    let (folder, file, right) = filled();
    let good = std::fs::read(&file).expect("written");
    let mut flipped = good.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    // Right data under another key, or another adapter's.
    let mut foreign = good.clone();
    foreign[..32].fill(7);
    for broken in
        [vec![], b"short".to_vec(), good[..good.len() - 1].to_vec(), flipped, foreign, vec![0xff; 100_000]]
    {
        std::fs::write(&file, &broken).expect("writable");
        assert_eq!(numbers(&open(folder.path())), right);
        assert_ne!(std::fs::read(&file).expect("there"), broken);
        assert_eq!(numbers(&open(folder.path())), right);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_no_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("file");
    std::fs::write(&plain, "no folder").expect("writable");
    assert_eq!(numbers(&open(&plain)), numbers(&open(folder.path())));
}
