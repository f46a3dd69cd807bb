//! Tuning: what wins is right and read back, what is broken on disk is ignored with a word.

use std::path::Path;
use std::process::{Command, Output};

use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions};
use ganomede::device::tuning::{Choice, Identity, Tuning};
use ganomede::tune::{Outcome, TOLERANCE, relative_error, run_twin, tune};
use ganomede_kernels::conv::Epilogue;
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{Kernel, Precision};
use serde_json::Value;

fn gemm(m: usize) -> Kernel {
    let epilogue = Epilogue::default();
    Kernel::Gemm(Gemm {
        batch: 1,
        m,
        n: 24,
        k: 40,
        trans_a: false,
        trans_b: false,
        batched_a: true,
        batched_b: true,
        half_b: false,
        precision: Precision::F32,
        epilogue,
    })
}

fn open(cache: Option<&Path>) -> Gpu {
    let options = GpuOptions { cache: cache.map(Path::to_path_buf), ..GpuOptions::default() };
    Gpu::open(GpuChoice::Any, options)
        .expect("these tests need an adapter; apt-get install mesa-vulkan-drivers")
}

fn choice(variant: &str) -> Choice {
    Choice { variant: variant.to_owned(), ms: 1.0, default: "registers".to_owned(), default_ms: 2.0 }
}

#[test]
fn candidates_are_checked_and_the_fastest_right_one_wins() {
    let gpu = open(None);
    let (choice, candidates) = tune(&gpu, &gemm(20)).expect("the kernel runs");
    let default = gemm(20).gpu(gpu.traits(), None).expect("a plan").variant;
    assert_eq!((choice.default.as_str(), candidates[0].variant), (default, default), "the default is first");
    assert_eq!(candidates.len(), gemm(20).variants().len());
    let mut best = f64::INFINITY;
    for candidate in &candidates {
        match candidate.outcome {
            Outcome::Measured(ms) => best = best.min(ms),
            Outcome::Dropped(ms) => assert!(ms > 1.5 * best, "{candidate:?} beside {best}"),
            Outcome::Wrong(_) | Outcome::Refused(_) => panic!("{candidate:?}"),
        }
    }
    assert!(choice.ms > 0.0 && choice.ms == best && choice.ms <= choice.default_ms, "{choice:?}");
}

#[test]
fn errors_are_relative_and_nan_is_never_right() {
    assert_eq!(relative_error(&[vec![1.0, 2.0]], &[vec![1.0, 2.0]]), (0.0, 0.0));
    let (relative, absolute) = relative_error(&[vec![3.0, 4.0]], &[vec![3.0, 4.5]]);
    assert!((absolute - 0.5).abs() < 1e-12 && relative > 0.1, "{relative} {absolute}");
    assert_eq!(relative_error(&[vec![f32::NAN]], &[vec![1.0]]).0, f64::INFINITY);
    assert_eq!(relative_error(&[vec![1.0]], &[vec![f64::NAN]]).0, f64::INFINITY);
    assert_eq!(relative_error(&[vec![f32::INFINITY]], &[vec![f64::INFINITY]]), (0.0, 0.0));
}

#[test]
fn a_choice_on_disk_is_used_where_it_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let identity = open(None).identity();
    let mut tuning = Tuning::default();
    tuning.choices.insert(gemm(20).class().expect("a class"), choice("tile32"));
    tuning.choices.insert(gemm(100).class().expect("a class"), choice("no-such-variant"));
    let file = tuning.save(folder.path(), &identity).expect("written");
    assert!(file.starts_with(folder.path()));

    let gpu = open(Some(folder.path()));
    assert_eq!(gpu.tuning(), &tuning);
    assert_eq!(gpu.tuned(&gemm(20)), Some("tile32"));
    assert_eq!(gpu.tuned(&gemm(19)), Some("tile32"), "a neighbour of the same class");
    assert_eq!(gpu.tuned(&gemm(100)), None, "a variant that does not exist is ignored");
    assert_eq!(gpu.tuned(&gemm(1)), None, "another class");
    assert_eq!(open(None).tuned(&gemm(20)), None);

    // The right result all the same.
    let (inputs, before) = gemm(20).sample_data(3);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let before: Vec<&[f32]> = before.iter().map(Vec::as_slice).collect();
    let twin = run_twin(&gemm(20), &inputs, &before);
    let want: Vec<Vec<f64>> = twin.iter().map(|v| v.iter().map(|&x| f64::from(x)).collect()).collect();
    let got = gpu.run_kernel(&gemm(20), gpu.tuned(&gemm(20)), &inputs, None).expect("it runs");
    assert!(relative_error(&got, &want).0 < TOLERANCE);
}

#[test]
fn files_of_others_and_broken_files_are_ignored_with_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let gpu = open(Some(folder.path()));
    assert_eq!(
        (gpu.tuning(), gpu.tuning_problem()),
        (&Tuning::default(), None),
        "an empty cache is no problem"
    );
    let identity = gpu.identity();
    let file = Tuning::default().save(folder.path(), &identity).expect("written");
    let whole = std::fs::read_to_string(&file).expect("text");
    for broken in [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        "[1, 2, 3]".to_owned(),
        whole.replace("\"format\": 1", "\"format\": 99"),
        whole.replace(&identity.version, "0.0.0-other"),
    ] {
        std::fs::write(&file, &broken).expect("written");
        let gpu = open(Some(folder.path()));
        let problem = gpu.tuning_problem().unwrap_or_else(|| panic!("{broken:?} is taken"));
        assert!(problem.contains("ganomede tune"), "{problem}");
        assert!(gpu.tuning().choices.is_empty());
    }
    let other = Identity { driver: "another".to_owned(), ..identity.clone() };
    assert_ne!(other.file(folder.path()), identity.file(folder.path()), "one file for each driver");
}

fn ganomede(arguments: &[&str], cache: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganomede"));
    command
        .args(arguments)
        .env("GANOMEDE_CACHE", cache)
        .env_remove("GANOMEDE_DEVICE")
        .env_remove("GANOMEDE_ADAPTER");
    let output = command.output().expect("the binary runs");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    output
}

#[test]
fn the_command_keeps_what_it_measured_and_later_commands_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path();
    let small = [
        "tune",
        "--size",
        "16",
        "--width",
        "4",
        "--batch",
        "2",
        "--device",
        "gpu",
        "--json",
        "--kernel",
        "gemm,reduce,moments",
    ];
    let dry = ganomede(&[&small[..], &["--dry-run"]].concat(), cache);
    assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
    assert!(!cache.join("tuning").exists(), "a dry run keeps nothing");
    let tuned = ganomede(&small, cache);
    assert!(tuned.status.success(), "{}", String::from_utf8_lossy(&tuned.stderr));
    let document: Value = serde_json::from_slice(&tuned.stdout).expect("one JSON document");
    let file = document["file"].as_str().expect("a file").to_owned();
    assert!(Path::new(&file).starts_with(cache));
    let kernels = document["kernels"].as_array().expect("a list");
    assert!(kernels.len() > 3, "{} classes", kernels.len());
    for kernel in kernels {
        let ms = |field: &str| kernel[field].as_f64().unwrap_or_else(|| panic!("{field} in {kernel}"));
        assert!(0.0 < ms("ms") && ms("ms") <= ms("default_ms"), "{kernel}");
        // What won is the fastest of those that were measured to the end, and the default is among them.
        let tried = kernel["candidates"].as_array().expect("a list");
        let measured = tried.iter().filter(|one| one["outcome"] == "measured");
        let times: Vec<(&Value, f64)> =
            measured.map(|one| (&one["variant"], one["ms"].as_f64().expect("a time"))).collect();
        let best = times.iter().map(|time| time.1).fold(f64::INFINITY, f64::min);
        assert!(times.contains(&(&kernel["variant"], best)) && ms("ms") == best, "{kernel}");
        assert!(times.contains(&(&kernel["default"], ms("default_ms"))), "{kernel}");
    }

    let bench =
        ["bench", "step", "--size", "16", "--width", "4", "--batch", "2", "--runs", "1", "--device", "gpu"];
    let quiet = ganomede(&bench, cache);
    assert!(quiet.status.success() && !String::from_utf8_lossy(&quiet.stderr).contains("tuning"));
    std::fs::write(&file, "broken").expect("written");
    let noted = ganomede(&bench, cache);
    let said = String::from_utf8_lossy(&noted.stderr);
    assert!(noted.status.success() && said.contains("note: tuning results"), "{said}");
    for wrong in [&["tune", "--device", "cpu"][..], &["tune", "--device", "gpu", "--kernel", "no-such"]] {
        assert_eq!(ganomede(wrong, cache).status.code(), Some(2), "{wrong:?}");
    }
}
