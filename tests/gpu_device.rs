//! The GPU device on whatever adapter answers, a software one included: running, replaying, sharing, and every way to
//! be refused. The launches here are hand-written, so that nothing depends on a kernel family.

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
    GpuPlan { variant: "add", dispatches: vec![dispatch], scratch_len: 0 }
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
        plan: GpuPlan { variant: "step", dispatches: vec![dispatch], scratch_len: 0 },
        inputs: vec![],
        outputs: vec![(buffer, len)],
        cost: Cost::default(),
    }
}

fn state(id: usize, len: usize) -> Buffer {
    Buffer { len, role: Role::State(StateId(id)) }
}

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
