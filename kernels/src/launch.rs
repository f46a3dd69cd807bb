//! Launches as plain data: what a GPU runtime needs to run a kernel, with none of its types.

use crate::shaders::Shaders;
use std::borrow::Cow;

/// Arithmetic and memory traffic of one launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes read from buffers, each input once.
    pub bytes_read: u64,
    /// Bytes written to buffers, each output once.
    pub bytes_written: u64,
}

/// What a plan may know of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuTraits {
    /// A CPU rasteriser such as llvmpipe: every lane is scalar there and every barrier costs a context
    /// switch.
    pub software: bool,
    /// Largest storage buffer binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest workgroup count in one dimension.
    pub max_workgroups: u32,
    /// Largest number of invocations in one workgroup.
    pub max_invocations: u32,
    /// Shared memory of one workgroup, bytes.
    pub max_shared_bytes: u32,
    /// Lanes of a subgroup, where the adapter has subgroup operations and all its subgroups have that many.
    pub subgroup: Option<u32>,
    /// It has arithmetic in halves, and storage of them in shared memory.
    pub f16: bool,
    /// Texts that plans are made of. Variant choice does not look at them.
    pub shaders: Shaders,
}

impl Default for GpuTraits {
    /// WebGPU's default limits on a hardware adapter: what every conforming device has.
    fn default() -> Self {
        Self {
            software: false,
            max_binding_bytes: 128 << 20,
            max_workgroups: 65_535,
            max_invocations: 256,
            max_shared_bytes: 16_384,
            subgroup: None,
            f16: false,
            shaders: Shaders::default(),
        }
    }
}

/// Where a binding's buffer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Input `i` of the kernel.
    Input(usize),
    /// Output `i` of the kernel.
    Output(usize),
    /// Scratch buffer `i` of the plan.
    Scratch(usize),
}

/// How a shader touches a storage binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// One storage binding of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bind {
    /// The buffer.
    pub slot: Slot,
    /// The shader's declared access.
    pub access: Access,
}

/// One compute dispatch. Group 0 holds the parameter words as a uniform buffer at binding 0 (absent where
/// `params` is empty) and the storage bindings from binding 1 on, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// Shader file, for messages: `conv.wgsl`.
    pub shader: &'static str,
    /// Complete WGSL text.
    pub source: Cow<'static, str>,
    /// Entry point.
    pub entry: &'static str,
    /// Values of the shader's `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// Workgroup counts.
    pub workgroups: [u32; 3],
    /// Storage bindings in order, at most eight.
    pub bindings: Vec<Bind>,
    /// Uniform words, bit patterns of the shader's `Params` struct, padded to a multiple of four.
    pub params: Vec<u32>,
}

/// The dispatches of one kernel launch, run in order with each seeing the writes of those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuPlan {
    /// Name of the variant chosen.
    pub variant: &'static str,
    /// Dispatches in order.
    pub dispatches: Vec<Dispatch>,
    /// Elements of each scratch buffer.
    pub scratch_lens: Vec<usize>,
}

impl GpuPlan {
    /// Elements of the scratch buffers that serve each of `plans` in turn.
    pub fn common_scratch<'a>(plans: impl IntoIterator<Item = &'a Self>) -> Vec<usize> {
        let mut lens: Vec<usize> = Vec::new();
        for plan in plans {
            lens.resize(lens.len().max(plan.scratch_lens.len()), 0);
            lens.iter_mut().zip(&plan.scratch_lens).for_each(|(len, &needed)| *len = needed.max(*len));
        }
        lens
    }
}
