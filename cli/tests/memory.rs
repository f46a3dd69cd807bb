//! Memory is what was predicted, and does not grow with the number of images.

use crate::binary;
use crate::binary::{command, folder, train_command};
use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions};
use ganomede::device::{Device, Executable, Store};
use ganomede::models::anogan::AnoGan;
use ganomede::models::search::{Search, SearchConfig};
use ganomede::models::{Config, System, Training};
use ganomede::program::{Program, compile};
use ganomede::tape::{States, Tape};
use ganomede::train::part_program;

/// AnoGAN's training step and z-step on images of a size.
fn programs(size: usize, batch: usize) -> [(States, Program); 2] {
    let config = Config { size: size.into(), channels: 1, width: 8, latent: 16, ..Config::default() };
    let mut states = States::new();
    let mut model = AnoGan::new(&mut states, &config).expect("sizes in range");
    model.register_training(&mut states, Training::default(), 0);
    let step = part_program(&model, 0, 0, batch).expect("it compiles").program;

    let mut searched = States::new();
    let model = AnoGan::new(&mut searched, &config).expect("sizes in range");
    let search = Search::new(&mut searched, &model, "anogan", &SearchConfig::default(), batch);
    let tape = Tape::new();
    search.step(&tape, &model);
    let z_step = compile(&tape.finish().expect("shapes fit")).expect("it compiles");
    [(states, step), (searched, z_step)]
}

/// Loads a program and asserts that each of its parts takes the bytes that the device said it would.
fn load_as_foretold(device: &Device, states: &States, program: &Program) -> (Store, Executable) {
    let predicted = (device.store_bytes(&states.lens()), device.program_bytes(program).unwrap());
    let store = device.store(states, 0).unwrap();
    let executable = device.load(program, &store).unwrap();
    assert_eq!((store.bytes(), executable.bytes()), predicted, "{}", device.describe());
    (store, executable)
}

#[test]
fn the_cpu_allocates_what_was_foretold_for_any_number_of_threads() {
    for size in [32, 64, 128, 256] {
        for (states, program) in programs(size, 3) {
            for threads in [1, 2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let (store, mut executable) = load_as_foretold(&Device::Cpu, &states, &program);
                    let before = store.bytes() + executable.bytes();
                    executable.run(1).unwrap();
                    assert_eq!(store.bytes() + executable.bytes(), before, "a replay allocates nothing");
                });
            }
        }
    }
}

#[test]
fn an_adapter_allocates_what_was_foretold() {
    let open = |limit| {
        let options = GpuOptions { memory_limit: Some(limit), ..GpuOptions::default() };
        Gpu::open(GpuChoice::Any, options).expect("an adapter; install mesa-vulkan-drivers")
    };
    for size in [32, 64, 128, 256] {
        for (states, program) in programs(size, 2) {
            let gpu = open(u64::MAX);
            let device = Device::Gpu(gpu.clone());
            let (store, executable) = load_as_foretold(&device, &states, &program);
            let needed = store.bytes() + executable.bytes();
            assert_eq!(gpu.allocated_bytes(), needed);
            // A device with a byte less refuses the program, one with as much takes it.
            for (limit, fits) in [(needed, true), (needed - 1, false)] {
                let device = Device::Gpu(open(limit));
                let store = device.store(&states, 0).unwrap();
                assert_eq!(device.load(&program, &store).is_ok(), fits);
            }
        }
    }
}

/// `bench` on the two devices: what was predicted, what is allocated, and what the process or the driver
/// counts. A process takes up to a megabyte from pages that it had before, so programs here are larger than
/// twenty of them.
#[cfg(target_os = "linux")]
#[test]
fn the_process_grows_by_what_was_foretold() {
    for (device, sizes) in [("cpu", [("32", "128"), ("128", "4")]), ("gpu", [("32", "8"), ("64", "4")])] {
        for (size, batch) in sizes {
            let mut command = command();
            command.args(["bench", "step", "--size", size, "--width", "32", "--batch", batch, "--runs", "1"]);
            let ended: binary::Ended = command.args(["--device", device, "--json"]).output().unwrap().into();
            let report = ended.json();
            let number =
                |field: &str| report[field].as_u64().unwrap_or_else(|| panic!("{field} in {report}"));
            assert_eq!(number("predicted_bytes"), number("peak_bytes"));
            let ratio = number("measured_bytes") as f64 / number("predicted_bytes") as f64;
            assert!((0.95..=1.05).contains(&ratio), "{device}, size {size}: {ratio} of what was predicted");
        }
    }
}

/// Peak resident memory in kB of a short training on `images` built-in scans. Linux keeps the peak, so the
/// last look before the process ends is near enough.
#[cfg(target_os = "linux")]
fn peak_kb(images: usize) -> u64 {
    let out = folder(&format!("images-{images}")).join("m.safetensors");
    let data = format!("builtin:retina:{images}");
    let more = ["--size", "32", "--steps", "30", "--search-steps", "1", "--checkpoint-every", "0"];
    let mut command = train_command(&data, &out, &more);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let end = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kb.unwrap_or(0));
        if let Some(end) = child.try_wait().unwrap() {
            break end;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(end.success());
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn training_on_a_hundred_times_the_images_takes_the_same_memory() {
    let (few, many) = (peak_kb(1000), peak_kb(100_000));
    assert!(few > 1000, "{few} kB is no reading");
    assert!(many as f64 <= 1.1 * few as f64, "{few} kB for 1000 images, {many} kB for 100000");
}
