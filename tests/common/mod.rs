//! Helpers that integration tests share: both devices, fixtures, and comparison by a tensor's largest
//! magnitude.
#![allow(dead_code, reason = "every integration test compiles its own copy and uses a part of it")]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ganomede::device::gpu::GpuOptions;
use ganomede::device::{Device, Executable, Selector, Store};
use ganomede::models::file::{DataInfo, FORMAT, Header, Progress};
use ganomede::models::recipe::Recipe;
use ganomede::models::{Config, Form, Options, Prior, Size, Training, find};
use ganomede::program::{Program, compile};
use ganomede::tape::{States, Tape};
use ganomede_datasets::{Channels, Dataset, OpenOptions, Preprocess, Split};
use safetensors::SafeTensors;

/// The native device.
pub(crate) fn cpu() -> Device {
    Device::Cpu
}

/// The first adapter, a software one included, with checked shaders. A machine without one fails the test:
/// install mesa-vulkan-drivers.
pub(crate) fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    let options = || GpuOptions { checked: true, ..GpuOptions::default() };
    GPU.get_or_init(|| {
        Device::open(Selector::Gpu, options()).expect("an adapter; install mesa-vulkan-drivers")
    })
    .clone()
}

/// A tensor of a fixture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    /// Dimensions, row-major.
    pub(crate) shape: Vec<usize>,
    /// Elements, row-major.
    pub(crate) data: Vec<f32>,
}

/// Named tensors of a safetensors file in `tests/goldens`.
pub(crate) struct Fixture(BTreeMap<String, Array>);

impl Fixture {
    /// Reads a fixture.
    pub(crate) fn read(file: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(file);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors = SafeTensors::deserialize(&bytes).expect("a fixture is a safetensors file");
        let array = |view: safetensors::tensor::TensorView<'_>| Array {
            shape: view.shape().to_vec(),
            data: view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        };
        Self(tensors.tensors().into_iter().map(|(name, view)| (name, array(view))).collect())
    }

    /// The tensor of this name.
    pub(crate) fn get(&self, name: &str) -> &Array {
        self.0.get(name).unwrap_or_else(|| panic!("the fixture has no '{name}'"))
    }

    /// The tensor of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// Tensors whose names are `prefix0`, `prefix1`, …
    pub(crate) fn numbered(&self, prefix: &str) -> Vec<&Array> {
        (0..).map_while(|i| self.0.get(&format!("{prefix}{i}"))).collect()
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Compiles what the tape recorded.
pub(crate) fn program(tape: &Tape) -> Program {
    compile(&tape.finish().unwrap_or_else(|e| panic!("{e}"))).unwrap_or_else(|e| panic!("{e}"))
}

/// A program on a device with a fresh store.
pub(crate) fn load(device: &Device, program: &Program, states: &States, seed: u64) -> (Executable, Store) {
    let store = device.store(states, seed).expect("states fit the device");
    let executable = device.load(program, &store).unwrap_or_else(|e| panic!("{e}"));
    (executable, store)
}

/// Writes an input where the program reads it: what only dead code reads is no input of the program.
pub(crate) fn write(executable: &mut Executable, name: &str, values: &[f32]) {
    if executable.program().input(name).is_some() {
        executable.write(name, values).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Largest difference, relative to the largest magnitude that is wanted (or to 1e-3 where all of it is
/// smaller).
pub(crate) fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len(), "lengths differ");
    let scale = want.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    // `max` would drop a NaN: a NaN makes the result infinite.
    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs());
    worst.fold(0.0_f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) }) / scale
}

/// Fails with the name and the worst element where the difference is above the tolerance.
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    let found = difference(got, want);
    if found > tolerance {
        let worst =
            (0..got.len()).max_by(|&a, &b| (got[a] - want[a]).abs().total_cmp(&(got[b] - want[b]).abs()));
        let at = worst.unwrap_or(0);
        panic!(
            "{what}: element {at} is {} and not {} ({found:e} of the largest, allowed {tolerance:e})",
            got[at], want[at]
        );
    }
}

/// Deterministic numbers in [−1, 1) that repeat after no small period.
pub(crate) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) ^ 0x1234_5678;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Gray images of 16 × 16 and networks that train in a blink.
pub(crate) const TINY: Config = Config {
    form: Form::Image,
    size: Size::square(16),
    channels: 1,
    width: 4,
    latent: 8,
    prior: Prior::Normal,
    kernel: 4,
};

/// The first images of a split of a data set, in a config's size and channels, one after the other.
pub(crate) fn images(config: &Config, data: &str, split: Split, count: usize) -> Vec<f32> {
    let channels = if config.channels == 1 { Channels::Gray } else { Channels::Rgb };
    let preprocess = Preprocess { channels, ..Preprocess::new(config.size) };
    let data = Dataset::open(data, &OpenOptions { preprocess, ..OpenOptions::default() }).unwrap();
    (0..count).flat_map(|i| data.load(split, i).unwrap().image.pixels).collect()
}

/// The header of a small training with seed 3 and a step size of 1e-3, on 64 images that the test provides.
/// What a test wants otherwise it changes.
pub(crate) fn header(system: &str, config: &Config, batch: usize, options: &[(&str, &str)]) -> Header {
    const IMAGES: usize = 64;
    let info = find(system).unwrap_or_else(|| panic!("{system} is no system"));
    let data = DataInfo { spec: "builtin:retina".to_owned(), training_images: IMAGES, ..DataInfo::default() };
    let options = Options::new(info.options, options.iter().copied());
    Header {
        format: FORMAT,
        version: "0".to_owned(),
        system: system.to_owned(),
        config: config.clone(),
        options: options.unwrap_or_else(|e| panic!("{system}: {e}")),
        training: Training { lr: 1e-3, betas: info.defaults_for(config.form).betas },
        recipe: Recipe::default(),
        batch,
        seed: 3,
        device: String::new(),
        precision: None,
        data,
        progress: Progress { steps_per_epoch: (IMAGES / batch) as u64, ..Progress::default() },
        calibration: None,
        appearance: None,
        check: None,
    }
}
