//! Compute pipelines, each compiled once per device: a program of hundreds of launches has a few dozen of
//! them.
//!
//! Some drivers put the longest part of compilation off until a pipeline is first dispatched, and then do it
//! launch after launch. A empty dispatch right after a pipeline's creation makes them begin while the next
//! pipelines are still being translated.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::sync::{Mutex, OnceLock};

use ganomede_kernels::{Access, Dispatch};
use rayon::prelude::*;

use super::super::DeviceError;
use super::disk_cache::DiskCache;
use super::shared::{Shared, lock};

/// Storage buffers of a launch: WebGPU's default limit, which all kernels keep.
const MOST_BINDINGS: usize = 8;
/// Bytes of each storage buffer that an empty dispatch binds.
const NOTHING_BYTES: u64 = 4096;
/// Bytes of its parameters, which have the first binding: what WebGPU lets a uniform buffer hold, so no less
/// than any shader's.
const MOST_PARAM_BYTES: u64 = 65_536;

/// Everything that compilation depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    source: String,
    entry: &'static str,
    constants: Vec<(&'static str, u64)>,
    accesses: Vec<Access>,
    params: bool,
    trusted: bool,
}

impl Key {
    fn new(dispatch: &Dispatch, trusted: bool) -> Self {
        Self {
            source: dispatch.source.clone().into_owned(),
            entry: dispatch.entry,
            constants: dispatch.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect(),
            accesses: dispatch.bindings.iter().map(|b| b.access).collect(),
            params: !dispatch.params.is_empty(),
            trusted,
        }
    }
}

/// A pipeline with the layout that its bind groups follow.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) compute: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// The pipelines of one device.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    compiled: Mutex<HashMap<Key, Pipeline>>,
    /// What drivers compiled in earlier runs, set while the device is opened.
    pub(super) disk: OnceLock<DiskCache>,
    /// What empty dispatches bind: a buffer for each binding, since one may not be read and written at once.
    nothing: OnceLock<Vec<wgpu::Buffer>>,
}

impl Pipelines {
    /// Pipelines of `dispatches` in order; those not compiled yet are compiled in parallel. `trusted` shaders
    /// run without bounds checks: only sources of this project's own kernels, which guard every index, may
    /// be.
    pub(super) fn prepare(
        &self,
        shared: &Shared,
        dispatches: &[&Dispatch],
        trusted: bool,
    ) -> Result<Vec<Pipeline>, DeviceError> {
        let keys: Vec<Key> = dispatches.iter().map(|d| Key::new(d, trusted)).collect();
        let missing: Vec<(&Key, &Dispatch)> = {
            let compiled = lock(&self.compiled);
            let mut seen = HashSet::new();
            keys.iter()
                .zip(dispatches.iter().copied())
                .filter(|(key, _)| !compiled.contains_key(key) && seen.insert(*key))
                .collect()
        };
        let fresh = missing
            .par_iter()
            .map(|(key, dispatch)| Ok(((*key).clone(), compile(shared, dispatch, trusted)?)))
            .collect::<Result<Vec<_>, DeviceError>>()?;
        if let Some(disk) = self.disk.get().filter(|_| !fresh.is_empty()) {
            disk.save();
        }
        let mut compiled = lock(&self.compiled);
        compiled.extend(fresh);
        Ok(keys.iter().map(|key| compiled[key].clone()).collect())
    }
}

/// Compiles one dispatch against an explicit layout, so that a shader whose bindings differ from its plan is
/// refused here with its name and not at the first launch.
fn compile(shared: &Shared, dispatch: &Dispatch, trusted: bool) -> Result<Pipeline, DeviceError> {
    let shader_error = |error: DeviceError| match error {
        DeviceError::Validation { message, .. } => DeviceError::Shader {
            shader: dispatch.shader.to_owned(),
            entry: dispatch.entry.to_owned(),
            message,
        },
        other => other,
    };
    let what = || format!("shader {}", dispatch.shader);
    let module = shared
        .scoped(what, 0, || {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(dispatch.shader),
                source: wgpu::ShaderSource::Wgsl(dispatch.source.as_ref().into()),
            };
            if trusted {
                // SAFETY: `trusted` is set only for plans made by `Kernel::gpu` from a kernel whose `check`
                // passed, or by `Peak::gpu`, with buffers at least as long as the plan says; those shaders
                // guard every index and every loop ends. Who puts own texts in their place guarantees the
                // same (`Gpu::with_shaders`).
                unsafe {
                    let unchecked = wgpu::ShaderRuntimeChecks::unchecked();
                    shared.device.create_shader_module_trusted(descriptor, unchecked)
                }
            } else {
                shared.device.create_shader_module(descriptor)
            }
        })
        .map_err(shader_error)?;
    let uniform = (!dispatch.params.is_empty()).then_some((0, wgpu::BufferBindingType::Uniform));
    let storage = (1..).zip(&dispatch.bindings).map(|(binding, bind)| {
        (binding, wgpu::BufferBindingType::Storage { read_only: bind.access == Access::Read })
    });
    let entries: Vec<wgpu::BindGroupLayoutEntry> = uniform
        .into_iter()
        .chain(storage)
        .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect();
    shared
        .scoped(what, 0, || {
            let layout = shared.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            });
            let pipeline_layout = shared.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let compute = shared.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(dispatch.shader),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(dispatch.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &dispatch.constants,
                    // Kernels write shared memory before they read it; zeroing it first costs a barrier a
                    // workgroup.
                    zero_initialize_workgroup_memory: !trusted,
                },
                cache: shared.pipelines.disk.get().map(|disk| &disk.cache),
            });
            let pipeline = Pipeline { compute, layout };
            // Shaders of others may bind more, or larger, than what empty dispatches have.
            if trusted {
                warm_up(shared, &pipeline, &entries);
            }
            pipeline
        })
        .map_err(shader_error)
}

/// Makes an empty dispatch.
fn warm_up(shared: &Shared, pipeline: &Pipeline, layout: &[wgpu::BindGroupLayoutEntry]) {
    let nothing = shared.pipelines.nothing.get_or_init(|| {
        let buffer = |place| {
            shared.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: if place == 0 { MOST_PARAM_BYTES } else { NOTHING_BYTES },
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM,
                mapped_at_creation: false,
            })
        };
        (0..=MOST_BINDINGS).map(buffer).collect()
    });
    let entries: Vec<wgpu::BindGroupEntry> = iter::zip(layout, nothing)
        .map(|(entry, buffer)| wgpu::BindGroupEntry {
            binding: entry.binding,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    let bind_group = shared.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.layout,
        entries: &entries,
    });
    let mut encoder = shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
    {
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None });
        pass.set_pipeline(&pipeline.compute);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(0, 0, 0);
    }
    shared.queue.submit([encoder.finish()]);
}
