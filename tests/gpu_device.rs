//! The GPU device on whatever adapter answers, a software one included: running, replaying, sharing, and
//! every way to be refused. The launches here are hand-written, so that nothing depends on a kernel family.

use std::time::Duration;

use ganomede::device::DeviceError;
use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions, PlannedLaunch};
use ganomede::program::{Buffer, Role, StateId};
use ganomede_kernels::{Access, Bind, Cost, Dispatch, GpuPlan, Slot};

const ADD: &str = "
struct Params { len: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;
override scale: f32 = 1.0;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x < params.len { sum[id.x] = a[id.x] + scale * b[id.x]; }
}";

/// Adds a constant to a buffer in place.
const STEP: &str = "
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
override step: f32 = 1.0;
@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3u) { x[id.x] += step; }";

fn open(options: GpuOptions) -> Gpu {
    Gpu::open(GpuChoice::Any, options)
        .expect("these tests need an adapter; apt-get install mesa-vulkan-drivers")
}

fn read(slot: Slot) -> Bind {
    Bind { slot, access: Access::Read }
}

fn write(slot: Slot) -> Bind {
    Bind { slot, access: Access::ReadWrite }
}

fn add_plan(len: usize, scale: f64) -> GpuPlan {
    let dispatch = Dispatch {
        shader: "add.wgsl",
        source: ADD.into(),
        entry: "main",
        constants: vec![("scale", scale)],
        workgroups: [len.div_ceil(64) as u32, 1, 1],
        bindings: vec![read(Slot::Input(0)), read(Slot::Input(1)), write(Slot::Output(0))],
        params: vec![len as u32, 0, 0, 0],
    };
    GpuPlan { variant: "add", dispatches: vec![dispatch], scratch_lens: Vec::new() }
}

fn step_launch(buffer: usize, len: usize, step: f64) -> PlannedLaunch {
    let dispatch = Dispatch {
        shader: "step.wgsl",
        source: STEP.into(),
        entry: "main",
        constants: vec![("step", step)],
        workgroups: [len as u32, 1, 1],
        bindings: vec![write(Slot::Output(0))],
        params: vec![],
    };
    PlannedLaunch {
        label: format!("step by {step}"),
        plan: GpuPlan { variant: "step", dispatches: vec![dispatch], scratch_lens: Vec::new() },
        inputs: vec![],
        outputs: vec![(buffer, len)],
        cost: Cost::default(),
    }
}

fn state(id: usize, len: usize) -> Buffer {
    Buffer { len, role: Role::State(StateId(id)) }
}

/// A change that makes a dispatch wrong.
type Breakage = fn(&mut Dispatch);

#[test]
fn adds_vectors_with_the_same_bits_twice() {
    let gpu = open(GpuOptions::default());
    let len = 1757;
    let a: Vec<f32> = (0..len).map(|i| (i as f32).sin()).collect();
    let b: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).cos()).collect();
    let run = || gpu.run_plan(&add_plan(len, 2.0), &[&a, &b], &[&vec![f32::NAN; len]]).unwrap().remove(0);
    let sum = run();
    for i in 0..len {
        assert!((sum[i] - (a[i] + 2.0 * b[i])).abs() < 1e-6, "{i}: {}", sum[i]);
    }
    assert!(sum.iter().zip(run()).all(|(x, y)| x.to_bits() == y.to_bits()));
    assert!(!gpu.describe().is_empty());
    assert_eq!(gpu.allocated_bytes(), 0, "one-off runs leave nothing behind");
}

#[test]
fn programs_share_states_and_replay_many_times_in_one_call() {
    let gpu = open(GpuOptions::default());
    let store = gpu.store(&[5, 3]).unwrap();
    store.write(StateId(0), &[0.0, 1.0, 2.0, 3.0, 4.0]).unwrap();
    let mut up = gpu.load_plans(&[state(0, 5)], vec![step_launch(0, 5, 1.0)], &store).unwrap();
    let mut down = gpu.load_plans(&[state(0, 5)], vec![step_launch(0, 5, -0.5)], &store).unwrap();
    // More dispatches than one submission may hold.
    up.run(10_000).unwrap();
    down.run(2).unwrap();
    assert_eq!(store.read(StateId(0)).unwrap(), [9999.0, 10_000.0, 10_001.0, 10_002.0, 10_003.0]);
    assert_eq!(store.read(StateId(1)).unwrap(), [0.0; 3], "states start at zero");
}

#[test]
fn uploads_and_downloads_of_many_chunks_come_back_whole() {
    let gpu = open(GpuOptions::default());
    let len = 20_000_003;
    let store = gpu.store(&[len]).unwrap();
    let values: Vec<f32> = (0..len).map(|i| (i % 16_777_213) as f32).collect();
    store.write(StateId(0), &values).unwrap();
    assert!(store.read(StateId(0)).unwrap() == values);
}

#[test]
fn pools_longer_than_their_use_are_bound_by_use() {
    let gpu = open(GpuOptions::default());
    let buffers: Vec<Buffer> = ["a", "b"].map(|n| Buffer { len: 64, role: Role::Input(n.to_owned()) }).into();
    let buffers = [buffers, vec![Buffer { len: 64, role: Role::Output("sum".to_owned()) }]].concat();
    let launch = PlannedLaunch {
        label: "sum: add".to_owned(),
        plan: add_plan(16, 1.0),
        inputs: vec![(0, 16), (1, 16)],
        outputs: vec![(2, 16)],
        cost: Cost::default(),
    };
    let mut executable = gpu.load_plans(&buffers, vec![launch], &gpu.store(&[]).unwrap()).unwrap();
    executable.write(0, &[1.0; 64]).unwrap();
    executable.write(1, &[2.0; 64]).unwrap();
    executable.run(1).unwrap();
    let sum = executable.read(2).unwrap();
    assert!(sum[..16].iter().all(|&x| x == 3.0) && sum[16..].iter().all(|&x| x == 0.0), "{sum:?}");
    assert!(executable.bytes() >= 3 * 256);
    assert_eq!((executable.launches(), executable.variant(0)), (1, add_plan(16, 1.0).variant));
}

#[test]
fn the_first_launch_that_makes_a_nan_is_found() {
    let gpu = open(GpuOptions::default());
    let buffers: Vec<Buffer> = (0..3).map(|_| Buffer { len: 4, role: Role::Temporary }).collect();
    let add = |from: usize, to: usize, scale: f64| PlannedLaunch {
        label: format!("add {scale}"),
        plan: add_plan(4, scale),
        inputs: vec![(from, 4), (from, 4)],
        outputs: vec![(to, 4)],
        cost: Cost::default(),
    };
    // 3e38 + 3e38 overflows in the third launch; the fourth only carries the infinity on.
    let launches = vec![step_launch(0, 4, 3e38), add(0, 1, 0.0), add(1, 2, 1.0), add(2, 1, 1.0)];
    let mut executable = gpu.load_plans(&buffers, launches, &gpu.store(&[]).unwrap()).unwrap();
    assert_eq!(executable.run_checked().unwrap(), Some(2));
    let mut harmless = gpu.load_plans(&buffers, vec![add(0, 1, 1.0)], &gpu.store(&[]).unwrap()).unwrap();
    assert_eq!(harmless.run_checked().unwrap(), None);
}

#[test]
fn bad_shaders_are_named() {
    let gpu = open(GpuOptions::default());
    let refused = |change: fn(&mut Dispatch)| {
        let mut plan = add_plan(4, 1.0);
        change(&mut plan.dispatches[0]);
        gpu.run_plan(&plan, &[&[0.0; 4], &[0.0; 4]], &[&[0.0; 4]]).unwrap_err()
    };
    let cases: [fn(&mut Dispatch); 5] = [
        |d| d.source = "fn main( {".into(),
        |d| d.source = ADD.replace("params.len", "params.length").into(),
        |d| d.entry = "absent",
        |d| d.constants = vec![("absent", 1.0)],
        |d| d.bindings[2].access = Access::Read,
    ];
    for change in cases {
        let error = refused(change);
        assert!(matches!(&error, DeviceError::Shader { shader, .. } if shader == "add.wgsl"), "{error}");
        assert!(!error.is_machine_fault());
    }
    // The device is as good as before.
    let sum = gpu.run_plan(&add_plan(4, 1.0), &[&[1.0; 4], &[2.0; 4]], &[&[0.0; 4]]).unwrap();
    assert_eq!(sum, [[3.0; 4]]);
}

#[test]
fn bad_launches_are_named_before_anything_is_allocated() {
    let gpu = open(GpuOptions::default());
    let refused = |change: fn(&mut Dispatch)| {
        let mut plan = add_plan(4, 1.0);
        change(&mut plan.dispatches[0]);
        gpu.run_plan(&plan, &[&[0.0; 4], &[0.0; 4]], &[&[0.0; 4]]).unwrap_err()
    };
    let cases: [(Breakage, &str); 5] = [
        (|d| d.workgroups = [1, u32::MAX, 1], "workgroups"),
        (|d| d.bindings[0].slot = Slot::Input(7), "Input(7)"),
        (|d| d.bindings[0].slot = Slot::Output(0), "another of its bindings"),
        (|d| d.params.truncate(3), "parameters"),
        (|d| d.bindings = vec![read(Slot::Input(0)); 1000], "storage bindings"),
    ];
    for (change, part) in cases {
        let error = refused(change);
        assert!(matches!(&error, DeviceError::Launch { launch, .. } if launch == "run_plan: add"), "{error}");
        assert!(error.to_string().contains(part), "{error} should say {part}");
    }
    assert_eq!(gpu.allocated_bytes(), 0);
}

#[test]
fn what_does_not_fit_is_refused_with_its_size() {
    let gpu = open(GpuOptions { memory_limit: Some(1 << 20), ..GpuOptions::default() });
    let buffers = |len: usize| vec![Buffer { len, role: Role::Temporary }];
    let store = gpu.store(&[1000]).unwrap();
    let load = |len: usize| gpu.load_plans(&buffers(len), vec![step_launch(0, len.min(1000), 1.0)], &store);
    let error = load(1 << 18).unwrap_err();
    assert!(matches!(error, DeviceError::Memory { needed: 1_048_576, .. }), "{error}");
    let error = load(usize::MAX).unwrap_err();
    assert!(matches!(error, DeviceError::BufferTooLarge { what: "one buffer", .. }), "{error}");
    let binding = gpu.traits().max_binding_bytes as usize / 4 + 1;
    let error = gpu.load_plans(&buffers(binding), vec![step_launch(0, binding, 1.0)], &store).unwrap_err();
    match &error {
        DeviceError::BufferTooLarge { launch, what: "one storage binding", .. } => {
            assert_eq!(launch, "step by 1")
        }
        // An adapter whose bindings are as large as its dispatches reach.
        other => assert!(matches!(other, DeviceError::Launch { .. }), "{error}"),
    }
    drop(load(1000).unwrap());
    assert_eq!(gpu.allocated_bytes(), store.bytes());
}

#[test]
fn wrong_names_and_lengths_are_refused() {
    let gpu = open(GpuOptions::default());
    let store = gpu.store(&[4]).unwrap();
    let length = |error: DeviceError| matches!(error, DeviceError::WrongLength { .. });
    let name = |error: DeviceError| matches!(error, DeviceError::UnknownName { .. });
    assert!(length(store.write(StateId(0), &[0.0; 5]).unwrap_err()));
    assert!(name(store.write(StateId(1), &[0.0; 4]).unwrap_err()));
    assert!(name(store.read(StateId(1)).unwrap_err()));
    let load = |buffers: &[Buffer], store| gpu.load_plans(buffers, vec![step_launch(0, 4, 1.0)], store);
    let mut executable = load(&[state(0, 4)], &store).unwrap();
    assert!(length(executable.write(0, &[]).unwrap_err()));
    assert!(name(executable.write(9, &[]).unwrap_err()));
    assert!(name(executable.read(9).unwrap_err()));
    assert!(length(load(&[state(0, 8)], &store).unwrap_err()));
    assert!(name(load(&[state(3, 4)], &store).unwrap_err()));
    assert!(matches!(load(&[state(0, 4), state(0, 4)], &store).unwrap_err(), DeviceError::Launch { .. }));
    assert!(matches!(load(&[state(0, 2)], &store).unwrap_err(), DeviceError::Launch { .. }));
    let elsewhere = open(GpuOptions::default()).store(&[4]).unwrap();
    assert!(name(load(&[state(0, 4)], &elsewhere).unwrap_err()));
}

#[test]
fn adapters_that_do_not_exist_are_refused() {
    let error = Gpu::open(GpuChoice::Index(1000), GpuOptions::default()).unwrap_err();
    assert!(matches!(&error, DeviceError::Selector { selector, .. } if selector == "gpu:1000"), "{error}");
    let adapters = Gpu::adapters();
    assert!(!adapters.is_empty());
    for (i, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter.index, i);
        assert!(
            adapters[..i].iter().all(|better| !better.software || adapter.software),
            "hardware comes first"
        );
    }
    if adapters.iter().all(|adapter| adapter.software) && std::env::var_os("GANOMEDE_ADAPTER").is_none() {
        let error = Gpu::open(GpuChoice::Auto, GpuOptions::default()).unwrap_err();
        assert!(error.is_machine_fault() && error.to_string().contains(&adapters[0].name), "{error}");
    }
}

#[test]
fn work_that_outlasts_the_time_out_ends_the_device() {
    let gpu = open(GpuOptions { timeout: Duration::ZERO, ..GpuOptions::default() });
    let len = 1 << 14;
    let mut launch = step_launch(0, len, 1.0);
    launch.plan.dispatches[0].source = STEP
        .replace("x[id.x] += step", "for (var i = 0; i < 10000; i++) { x[id.x] = fma(x[id.x], 0.5, step); }")
        .into();
    let buffers = [Buffer { len, role: Role::Temporary }];
    let mut executable = gpu.load_plans(&buffers, vec![launch], &gpu.store(&[]).unwrap()).unwrap();
    for _ in 0..2 {
        let error = executable.run(3).unwrap_err();
        assert!(
            matches!(&error, DeviceError::Timeout { launches, .. } if launches.contains("step by 1")),
            "{error}"
        );
        assert!(error.is_machine_fault());
    }
}

#[test]
fn timestamps_are_set_and_ordered() {
    let gpu = open(GpuOptions::default());
    if let Some(report) = gpu.timestamp_sanity().unwrap() {
        assert!(report.period_ns > 0.0, "{report:?}");
        assert!(report.problem.is_none(), "{report:?}");
    }
}
