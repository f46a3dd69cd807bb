//! The ONNX operators' own test vectors, from the `onnx` wheel, on both devices. `make onnx` fetches the
//! wheel, lets `vectors.py` write its cases to a folder and runs this file, which `cargo test` alone leaves
//! out.
//!
//! Every case is either expressed in operations of the tape, and must then come out right, or the reason is
//! kept why it is not. `coverage.txt` beside this file lists both for each operator; it is compared word by
//! word, so that nothing stops being expressed unseen.

mod attention;
mod case;
mod graph;
mod ints;
mod loss;
mod nn;
mod ops;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use case::{Case, Data, Kind, Vectors};
use ganomede::device::gpu::GpuOptions;
use ganomede::device::{Device, Selector};
use ganomede::program::compile;
use ganomede::tape::{States, Tape};
use graph::Value;
use safetensors::SafeTensors;

/// Largest error of a value, as in ONNX's own runner (some of its values have four digits), and that of the
/// largest value of its tensor.
const TOLERANCE: f32 = 1e-3;
const OF_LARGEST: f32 = 1e-5;

/// What became of a case.
enum Outcome {
    Right,
    /// Why the tape does not express it.
    Left(String),
    Wrong(String),
}

fn run(device: &Device, case: &Case, tensors: &SafeTensors<'_>) -> Outcome {
    if let Some(reason) = &case.reason {
        return Outcome::Left(reason.clone());
    }
    let tape = Tape::new();
    let outputs = match graph::record(&tape, case, tensors) {
        Ok(outputs) => outputs,
        Err(reason) => return Outcome::Left(reason),
    };
    for (i, value) in outputs.iter().enumerate() {
        if let Value::Tensor(tensor) = value {
            tape.output(&format!("y{i}"), *tensor);
        }
    }
    let recorded = match tape.finish() {
        Ok(recorded) => recorded,
        Err(refused) => return Outcome::Left(format!("the tape refuses it: {}", refused.op)),
    };
    match replay(device, &recorded, case, tensors, &outputs) {
        Ok(()) => Outcome::Right,
        Err(what) => Outcome::Wrong(what),
    }
}

/// Runs what was recorded and compares every output.
fn replay(
    device: &Device,
    recorded: &ganomede::tape::Graph,
    case: &Case,
    tensors: &SafeTensors<'_>,
    outputs: &[Value<'_>],
) -> Result<(), String> {
    let program = compile(recorded).map_err(|e| e.to_string())?;
    let store = device.store(&States::new(), 0).map_err(|e| e.to_string())?;
    let mut executable = device.load(&program, &store).map_err(|e| e.to_string())?;
    for (name, data) in &case.given {
        if executable.program().input(name).is_some() {
            executable.write(name, &data.floats(tensors)).map_err(|e| e.to_string())?;
        }
    }
    executable.run(1).map_err(|e| e.to_string())?;
    for (i, (value, (name, want))) in outputs.iter().zip(&case.wanted).enumerate() {
        let (shape, got) = match value {
            Value::Tensor(tensor) => {
                (tensor.shape(), executable.read(&format!("y{i}")).map_err(|e| e.to_string())?)
            }
            Value::Ints(shape, ints) if want.kind == Kind::Int => {
                (shape.clone(), ints.iter().map(|&v| v as f32).collect())
            }
            _ => return Err(format!("{name}: no tensor")),
        };
        compare(name, &shape, &got, want, tensors)?;
    }
    Ok(())
}

fn compare(
    name: &str,
    shape: &[usize],
    got: &[f32],
    want: &Data,
    tensors: &SafeTensors<'_>,
) -> Result<(), String> {
    if shape != want.shape {
        return Err(format!("{name}: shape {shape:?}, not {:?}", want.shape));
    }
    let want = want.floats(tensors);
    let scale = want.iter().filter(|v| v.is_finite()).fold(0.0_f32, |m, v| m.max(v.abs()));
    for (at, (&got, &want)) in got.iter().zip(&want).enumerate() {
        let same = got == want || (got.is_nan() && want.is_nan());
        if !same && !((got - want).abs() <= TOLERANCE * want.abs() + OF_LARGEST * scale) {
            return Err(format!("{name}: element {at} is {got}, not {want}"));
        }
    }
    Ok(())
}

/// The operator a case is about: an expansion holds others, and its name begins with what it expands.
fn about(case: &Case) -> String {
    if let [node] = &case.nodes[..] {
        return node.op.clone();
    }
    if let [op] = &case.ops[..] {
        return op.clone();
    }
    let name = case.name.split('/').next_back().unwrap_or_default().trim_start_matches("test_");
    format!("several operators: {}", name.split('_').next().unwrap_or_default())
}

fn folder() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/onnx");
    std::env::var_os("ONNX_VECTORS").map_or(default, PathBuf::from)
}

fn all(device: &Device, which: &str) {
    let vectors = Vectors::read(&folder());
    let tensors = vectors.tensors();
    let mut wrong = vec![];
    // Of each operator: cases expressed, cases, and reasons of the others.
    let mut table: BTreeMap<String, (usize, usize, BTreeMap<String, usize>)> = BTreeMap::new();
    for case in &vectors.document.cases {
        let row = table.entry(about(case)).or_default();
        row.1 += 1;
        match run(device, case, &tensors) {
            Outcome::Right => row.0 += 1,
            Outcome::Left(reason) => *row.2.entry(reason).or_default() += 1,
            Outcome::Wrong(what) => {
                row.0 += 1;
                wrong.push(format!("{}: {what}", case.name));
            }
        }
    }
    let expressed: usize = table.values().map(|row| row.0).sum();
    let mut text = format!(
        "onnx {}: {expressed} of {} cases are expressed\n",
        vectors.document.onnx,
        vectors.document.cases.len()
    );
    for (op, (expressed, cases, reasons)) in &table {
        text += &format!("{op}: {expressed} of {cases}\n");
        for (reason, count) in reasons {
            text += &format!("    {count} not: {reason}\n");
        }
    }
    std::fs::write(folder().join(format!("coverage.{which}.txt")), &text).expect("the folder can be written");
    println!("{which}: {} of {expressed} right", expressed - wrong.len());
    assert!(wrong.is_empty(), "{} wrong on {which}:\n{}", wrong.len(), wrong.join("\n"));
    let known = include_str!("coverage.txt");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (known, now) = (lines(known), lines(&text));
    let changed: Vec<_> = known.symmetric_difference(&now).cloned().collect();
    assert!(
        changed.is_empty(),
        "what is expressed has changed; if that is meant, copy {} to tests/onnx/coverage.txt:\n{}",
        folder().join(format!("coverage.{which}.txt")).display(),
        changed.join("\n")
    );
}

#[test]
fn vectors_on_cpu() {
    all(&Device::Cpu, "cpu");
}

#[test]
fn vectors_on_gpu() {
    let options = GpuOptions { checked: true, ..GpuOptions::default() };
    let device = Device::open(Selector::Gpu, options).expect("an adapter; install mesa-vulkan-drivers");
    all(&device, "gpu");
}
