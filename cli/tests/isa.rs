//! What Mesa's RADV makes of the kernels for RDNA2: registers, occupancy and instruction mix, without a GPU.
//! A change of a shader that starts to spill or loses its inner loop shows here.
#![cfg(target_os = "linux")]

use std::process::{Command, Output};

use serde_json::Value;

fn isa(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganomede"));
    command.args(["kernels", "isa", "--json"]).args(arguments).env_remove("GANOMEDE_DEVICE");
    command.output().expect("the binary runs")
}

/// The rows of a report that must succeed: a missing driver is a failure, see `scripts/ensure-adapter.sh`.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = isa(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    document.as_array().expect("a list").clone()
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_else(|| panic!("{field} in {row}"))
}

fn assert_good(row: &Value) {
    let name = format!("{} {} {}", row["kernel"], row["variant"], row["scope"]);
    let stages = row["stages"].as_array().expect("stages");
    assert!(!stages.is_empty(), "{name} has no machine code: {row}");
    for stage in stages {
        assert_eq!(number(stage, "spills"), 0, "{name} spills: {stage}");
        assert_eq!(number(stage, "scratch_bytes"), 0, "{name} uses scratch memory: {stage}");
        assert!(number(stage, "lds_bytes") <= 16_384, "{name}: {stage}");
        assert!(number(stage, "vgprs") > 0 && number(stage, "instructions") > 0, "{name}: {stage}");
        if stage["shader"] == "gemm_tile.wgsl" || stage["shader"] == "conv_direct.wgsl" {
            let subgroups = number(stage, "subgroups_per_simd");
            assert!(subgroups >= 8, "{name} keeps {subgroups} subgroups in flight");
            let share = stage["fma_share"].as_f64().expect("a loop of multiply-adds");
            assert!((0.6..=1.0).contains(&share), "{name}: {share} of the inner loop are multiply-adds");
        }
        if stage["shader"] == "gemm_tile_f16.wgsl" {
            let subgroups = number(stage, "subgroups_per_simd");
            assert!(subgroups >= 6, "{name} keeps {subgroups} subgroups in flight");
            let (packed, all) = (number(stage, "loop_packed"), number(stage, "loop_fma"));
            assert!(
                packed > 0 && 4 * packed >= 3 * all,
                "{name}: {packed} of {all} multiply-adds are packed"
            );
        }
    }
}

#[test]
fn every_variant_fits_the_registers_of_rdna2() {
    let rows = rows(&["--target", "navi21"]);
    rows.iter().for_each(assert_good);
    for row in &rows {
        assert_eq!(row["target"], "navi21");
        for field in [
            "kernel",
            "variant",
            "vgprs",
            "sgprs",
            "spills",
            "lds_bytes",
            "subgroups_per_simd",
            "instructions",
        ] {
            assert!(!row[field].is_null(), "{field} in {row}");
        }
        assert!(row.get("fma_share").is_some(), "{row}");
    }
    for (kernel, variant) in [
        ("conv", "tile64"),
        ("conv_transpose", "tile32"),
        ("conv_weight", "tile64"),
        ("gemm", "tile32"),
        ("gemm", "tile64_f16"),
    ] {
        assert!(rows.iter().any(|r| r["kernel"] == kernel && r["variant"] == variant), "{kernel} {variant}");
    }
}

/// The kernels as fusion makes them, with their epilogues and expressions, in the variants that hardware
/// gets.
#[test]
fn everything_that_anogan_runs_on_hardware_fits_the_registers_of_rdna2() {
    for (size, width, batch) in
        [("64", "64", "64"), ("64", "32", "1"), ("32", "16", "3"), ("128", "32", "16")]
    {
        let rows = rows(&["--programs", "--size", size, "--width", width, "--batch", batch]);
        assert!(rows.len() > 20, "{} rows", rows.len());
        rows.iter().for_each(assert_good);
    }
}

#[test]
fn one_variant_can_be_asked_for_and_its_machine_code_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let asm = folder.path().join("asm");
    let rows = rows(&["conv", "--variant", "3", "--asm", asm.to_str().expect("UTF-8")]);
    assert_eq!((rows.len(), &rows[0]["variant"]), (1, &Value::from("tile64")));
    let file = std::fs::read_dir(&asm).expect("written").next().expect("one file").expect("readable").path();
    assert!(std::fs::read_to_string(file).expect("text").contains("v_fma"));
    for wrong in [
        &["no-such"][..],
        &["conv", "--variant", "10"],
        &["--target", "navi99"],
        &["--programs", "--width", "0"],
    ] {
        assert_eq!(isa(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// RDNA3 needs a newer Mesa than the oldest that the other tests run on: as many rows as for a target that
/// every driver has, or a message that says so.
#[test]
fn a_target_beyond_the_driver_is_told_from_a_failure() {
    let output = isa(&["gemm", "--target", "navi31"]);
    if output.status.success() {
        let found: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        let found = found.as_array().expect("a list");
        assert!(!found.is_empty(), "no rows");
        let variants = |rows: &[Value]| rows.iter().map(|row| row["variant"].clone()).collect::<Vec<_>>();
        assert_eq!(variants(found), variants(&rows(&["gemm", "--target", "navi21"])));
        for row in found {
            assert_eq!((&row["target"], &row["kernel"]), (&"navi31".into(), &"gemm".into()), "{row}");
            assert_good(row);
        }
    } else {
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("navi31") && message.contains("mesa-vulkan-drivers"), "{message}");
        assert_eq!(output.status.code(), Some(1));
    }
}
