//! The GPU device: any adapter that wgpu can open.
//!
//! Loading a program checks it against the adapter's limits, compiles its pipelines in parallel, allocates
//! its buffers and builds its bind groups. Replaying encodes dispatches and nothing else, in submissions
//! short enough that no driver takes them for a hang. Every failure is a [`DeviceError`] that names the
//! launch; wgpu's own way, a panic, is closed off by error scopes.

mod adapters;
mod arena;
mod backend;
mod disk_cache;
mod executable;
mod pace;
mod peaks;
mod pipelines;
mod plan;
mod profile;
mod shared;
mod store;
mod ticks;
mod transfer;
pub mod tuning;
pub mod vault;

use std::path::Path;
use std::sync::Arc;

use ganomede_kernels::shaders::Shaders;
use ganomede_kernels::{Cost, GpuPlan, GpuTraits, Kernel, Precision};

pub use super::options::GpuOptions;
pub use adapters::AdapterReport;
pub(super) use backend::ENTRY;
pub use executable::GpuExecutable;
pub use plan::PlannedLaunch;
pub use profile::TimestampReport;
pub use store::GpuStore;

use super::{DeviceError, check};
use crate::program::{Buffer, Launch, Program, Role};
use disk_cache::DiskCache;
use shared::{Faults, Shared, lock};
use tuning::{Identity, Tuning};

/// Environment variable with a part of an adapter's name, for example `llvmpipe`: [`GpuChoice::Auto`] and
/// [`GpuChoice::Any`] then take the first adapter whose name contains it, software or not.
pub const ADAPTER_VARIABLE: &str = "GANOMEDE_ADAPTER";

/// Which adapter to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuChoice {
    /// The first hardware adapter.
    Auto,
    /// The first hardware adapter, else a software adapter.
    Any,
    /// An adapter by its [`AdapterReport::index`].
    Index(usize),
}

/// An open adapter. Clones share it.
#[derive(Debug, Clone)]
pub struct Gpu {
    shared: Arc<Shared>,
    traits: GpuTraits,
    checked: bool,
    precision: Precision,
    tuning: Arc<Tuning>,
    tuning_problem: Option<String>,
}

/// What times on an adapter depend on.
fn identity(info: &wgpu::AdapterInfo) -> Identity {
    Identity {
        adapter: info.name.clone(),
        backend: info.backend.to_str().to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

impl Gpu {
    /// All adapters, best first: discrete, integrated, virtual, software; the same adapter is listed once.
    pub fn adapters() -> Vec<AdapterReport> {
        adapters::enumerate().iter().enumerate().map(|(i, adapter)| adapters::report(i, adapter)).collect()
    }

    /// Opens an adapter with all of its limits.
    ///
    /// # Errors
    /// [`DeviceError::NoAdapter`], [`DeviceError::Selector`] or [`DeviceError::Open`].
    pub fn open(choice: GpuChoice, options: GpuOptions) -> Result<Self, DeviceError> {
        let filter = std::env::var(ADAPTER_VARIABLE).ok().filter(|name| !name.is_empty());
        let adapter = adapters::select(choice, filter.as_deref())?;
        let info = adapter.get_info();
        let limits = adapter.limits();
        let failed = |reason: String| DeviceError::Open { adapter: info.name.clone(), reason };
        if !adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
            return Err(failed("it has no compute shaders".to_owned()));
        }
        let optional = wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::PIPELINE_CACHE;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("ganomede"),
            required_features: adapter.features() & optional,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| failed(error.to_string()))?;
        let faults = Arc::new(Faults::default());
        let sink = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&sink.uncaptured).get_or_insert_with(|| error.to_string());
        }));
        let sink = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            lock(&sink.lost).get_or_insert_with(|| format!("{reason:?}: {message}"));
        });
        let traits = GpuTraits {
            software: adapters::is_software(&info),
            max_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            max_shared_bytes: limits.max_compute_workgroup_storage_size,
            subgroup: adapters::subgroup(&info, device.features()),
            f16: device.features().contains(wgpu::Features::SHADER_F16),
            shaders: Shaders::default(),
        };
        let found = options.cache.as_deref().map(|folder| Tuning::load(folder, &identity(&info)));
        let (tuning, tuning_problem) = match found.unwrap_or_else(|| Ok(Tuning::default())) {
            Ok(tuning) => (Arc::new(tuning), None),
            Err(problem) => (Arc::default(), Some(problem)),
        };
        let (checked, cache) = (options.checked, options.cache.clone());
        let shared = Arc::new(Shared::new(device, queue, info, traits.software, options, faults));
        let disk = cache.and_then(|folder| DiskCache::open(&shared, &identity(&shared.info), &folder));
        if let Some(disk) = disk {
            shared.pipelines.disk.get_or_init(|| disk);
        }
        Ok(Self { shared, traits, checked, precision: Precision::F32, tuning, tuning_problem })
    }

    /// Adapter, driver and program version: what tuning results are for.
    pub fn identity(&self) -> Identity {
        identity(&self.shared.info)
    }

    /// Choices of variants read from [`GpuOptions::cache`].
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Why the file with tuning results is not used, if it is not.
    pub fn tuning_problem(&self) -> Option<&str> {
        self.tuning_problem.as_deref()
    }

    /// The file that compiled pipelines are kept in, where [`GpuOptions::cache`] is given and the driver
    /// hands them out.
    pub fn pipelines_file(&self) -> Option<&Path> {
        self.shared.pipelines.disk.get().map(|disk| disk.path.as_path())
    }

    /// The variant that was measured fastest for the kernel's shape class, where it can run this kernel.
    pub fn tuned(&self, kernel: &Kernel) -> Option<&'static str> {
        if self.tuning.choices.is_empty() {
            return None;
        }
        let choice = self.tuning.choices.get(&kernel.class()?)?;
        let variant = kernel.variants().into_iter().find(|name| *name == choice.variant)?;
        kernel.gpu(self.traits(), Some(variant)).is_ok().then_some(variant)
    }

    /// The same adapter with other shaders: programs loaded through the returned handle are made of these
    /// texts. They run trusted like the embedded ones, so only texts that the user trusts may go in;
    /// [`Gpu::with_checks`] guards against the others.
    pub fn with_shaders(&self, shaders: Shaders) -> Self {
        Self { traits: GpuTraits { shaders, ..self.traits.clone() }, ..self.clone() }
    }

    /// The same adapter, with bounds and loop checks in every shader as by [`GpuOptions::checked`].
    pub fn with_checks(&self) -> Self {
        Self { checked: true, ..self.clone() }
    }

    /// The same adapter, whose programs round the operands of products.
    pub(super) fn with_precision(&self, precision: Precision) -> Self {
        Self { precision, ..self.clone() }
    }

    /// What programs that are loaded through a [`super::Device`] of this handle round the operands of
    /// products to.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What kernels may know of the adapter.
    pub fn traits(&self) -> &GpuTraits {
        &self.traits
    }

    /// Adapter, backend and driver in one line, and what products are rounded to.
    pub fn describe(&self) -> String {
        let info = &self.shared.info;
        let driver = format!("{} {}", info.driver, info.driver_info);
        let rounded = match self.precision {
            Precision::F32 => String::new(),
            precision => format!(", products in {precision}"),
        };
        format!("{} ({}, {}){rounded}", info.name, info.backend.to_str(), driver.trim())
    }

    /// Bytes of all stores and loaded programs now alive on this device.
    pub fn allocated_bytes(&self) -> u64 {
        self.shared.allocated()
    }

    /// Bytes that the driver has given out on this device, its rounding and wgpu's own staging buffers
    /// included; `None` where the backend does not count them.
    pub fn driver_bytes(&self) -> Option<u64> {
        self.shared.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// Bytes that a program takes beside its states when it is loaded: buffers, scratch and parameters.
    ///
    /// # Errors
    /// As for [`Gpu::load`].
    pub fn program_bytes(&self, program: &Program) -> Result<u64, DeviceError> {
        GpuExecutable::bytes_for(&self.shared, &program.buffers, &self.planned(program, |_, _| None)?)
    }

    /// Allocates a store of states with `lens` elements each, all zero.
    ///
    /// # Errors
    /// [`DeviceError::Memory`], [`DeviceError::BufferTooLarge`] or [`DeviceError::OutOfMemory`].
    pub fn store(&self, lens: &[usize]) -> Result<GpuStore, DeviceError> {
        GpuStore::new(&self.shared, lens)
    }

    /// Loads a program with the variants that were tuned, or else each kernel's own choice.
    ///
    /// # Errors
    /// A [`DeviceError`] that names the launch which cannot run here; nothing is allocated before all are
    /// checked.
    pub fn load(&self, program: &Program, store: &GpuStore) -> Result<GpuExecutable, DeviceError> {
        self.load_variants(program, store, |_, _| None)
    }

    /// Loads a program, asking `variant` for the variant of each launch by its index; `None` is the tuned
    /// variant, or else the kernel's choice.
    ///
    /// # Errors
    /// As for [`Gpu::load`].
    pub fn load_variants<'a>(
        &self,
        program: &Program,
        store: &GpuStore,
        variant: impl Fn(usize, &Launch) -> Option<&'a str>,
    ) -> Result<GpuExecutable, DeviceError> {
        let planned = self.planned(program, variant)?;
        GpuExecutable::new(&self.shared, &program.buffers, planned, store, !self.checked)
    }

    fn planned<'a>(
        &self,
        program: &Program,
        variant: impl Fn(usize, &Launch) -> Option<&'a str>,
    ) -> Result<Vec<PlannedLaunch>, DeviceError> {
        check::program(program)?;
        let launches = program.launches.iter().enumerate();
        launches
            .map(|(i, launch)| {
                let variant = variant(i, launch).or_else(|| self.tuned(&launch.kernel));
                PlannedLaunch::new(launch, self.traits(), variant)
            })
            .collect()
    }

    /// Loads launches whose plans are given, for example of hand-written shaders; these always run checked.
    ///
    /// # Errors
    /// As for [`Gpu::load`].
    pub fn load_plans(
        &self,
        buffers: &[Buffer],
        launches: Vec<PlannedLaunch>,
        store: &GpuStore,
    ) -> Result<GpuExecutable, DeviceError> {
        GpuExecutable::new(&self.shared, buffers, launches, store, false)
    }

    /// Runs one kernel and returns its outputs. `variant` `None` is the kernel's choice for this adapter.
    /// Outputs start as `initial_outputs`, or as NaN so that an element never written shows; scratch starts
    /// as NaN.
    ///
    /// # Errors
    /// [`DeviceError::Kernel`], [`DeviceError::WrongLength`], [`DeviceError::Shader`] or a device fault.
    pub fn run_kernel(
        &self,
        kernel: &Kernel,
        variant: Option<&str>,
        inputs: &[&[f32]],
        initial_outputs: Option<&[&[f32]]>,
    ) -> Result<Vec<Vec<f32>>, DeviceError> {
        let (count, lens) = (inputs.len(), kernel.output_lens());
        let launch = Launch {
            kernel: kernel.clone(),
            inputs: (0..count).collect(),
            outputs: (count..count + lens.len()).collect(),
            scope: "run_kernel".to_owned(),
        };
        let planned = PlannedLaunch::new(&launch, self.traits(), variant)?;
        let fresh: Vec<Vec<f32>>;
        let fresh_slices: Vec<&[f32]>;
        let outputs = match initial_outputs {
            Some(given) => given,
            None => {
                fresh = lens.iter().map(|&len| vec![f32::NAN; len]).collect();
                fresh_slices = fresh.iter().map(Vec::as_slice).collect();
                &fresh_slices
            }
        };
        for (which, given, lens) in [("input", inputs, kernel.input_lens()), ("output", outputs, lens)] {
            for (i, (data, expected)) in given.iter().zip(lens).enumerate() {
                if data.len() != expected {
                    let name = format!("{which} {i} of {}", kernel.name());
                    return Err(DeviceError::WrongLength { name, expected, got: data.len() });
                }
            }
        }
        self.run_once(planned, inputs, outputs, !self.checked)
    }

    /// Runs one plan, checked, over whole buffers and returns the outputs, which start as `outputs`.
    ///
    /// # Errors
    /// [`DeviceError::Launch`], [`DeviceError::Shader`] or a device fault.
    pub fn run_plan(
        &self,
        plan: &GpuPlan,
        inputs: &[&[f32]],
        outputs: &[&[f32]],
    ) -> Result<Vec<Vec<f32>>, DeviceError> {
        let mut operands = inputs.iter().chain(outputs).map(|data| data.len()).enumerate();
        let planned = PlannedLaunch {
            label: format!("run_plan: {}", plan.variant),
            plan: plan.clone(),
            inputs: operands.by_ref().take(inputs.len()).collect(),
            outputs: operands.collect(),
            cost: Cost::default(),
        };
        self.run_once(planned, inputs, outputs, false)
    }

    /// Runs one launch whose buffers are its inputs, then its outputs.
    fn run_once(
        &self,
        launch: PlannedLaunch,
        inputs: &[&[f32]],
        outputs: &[&[f32]],
        trusted: bool,
    ) -> Result<Vec<Vec<f32>>, DeviceError> {
        let named = |role: fn(String) -> Role, data: &[&[f32]]| {
            data.iter()
                .enumerate()
                .map(|(i, d)| Buffer { len: d.len(), role: role(i.to_string()) })
                .collect::<Vec<_>>()
        };
        let mut buffers = named(Role::Input, inputs);
        buffers.extend(named(Role::Output, outputs));
        let mut executable =
            GpuExecutable::new(&self.shared, &buffers, vec![launch], &self.store(&[])?, trusted)?;
        for (i, data) in inputs.iter().chain(outputs).enumerate() {
            executable.write(i, data)?;
        }
        executable.poison_scratch()?;
        executable.run(1)?;
        (inputs.len()..buffers.len()).map(|i| executable.read(i)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_is_an_error_from_then_on() {
        let gpu = Gpu::open(GpuChoice::Any, GpuOptions::default()).expect("an adapter");
        let store = gpu.store(&[4]).unwrap();
        gpu.shared.device.destroy();
        let id = crate::tape::StateId(0);
        for _ in 0..2 {
            let error = store.write(id, &[0.0; 4]).and_then(|()| store.read(id)).unwrap_err();
            assert!(matches!(error, DeviceError::Lost { .. }), "{error}");
            assert!(error.is_machine_fault());
        }
    }
}
