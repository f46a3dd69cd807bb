//! Which adapters exist, in an order that does not change from run to run.

use super::super::DeviceError;
use super::GpuChoice;

/// What a person should know of one adapter.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// Position in [`super::Gpu::adapters`], as in `--device gpu:N`.
    pub index: usize,
    /// Name as the driver gives it.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: &'static str,
    /// Driver name and version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Whether a CPU executes the shaders.
    pub software: bool,
    /// Whether timestamps can be taken around launches.
    pub timestamps: bool,
    /// Limits that decide what fits.
    pub limits: wgpu::Limits,
    /// Features, as wgpu names them.
    pub features: Vec<&'static str>,
    /// What speaks against this adapter, one sentence each.
    pub warnings: Vec<String>,
}

/// True where a CPU executes the shaders.
pub(super) fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = info.name.to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu
        || ["llvmpipe", "softpipe", "lavapipe", "swiftshader", "basic render"]
            .iter()
            .any(|s| name.contains(s))
}

/// Lanes of a subgroup, where subgroups can be used and all have as many.
pub(super) fn subgroup(info: &wgpu::AdapterInfo, features: wgpu::Features) -> Option<u32> {
    let fixed = info.subgroup_min_size == info.subgroup_max_size;
    (fixed && features.contains(wgpu::Features::SUBGROUP)).then_some(info.subgroup_min_size)
}

/// Hardware before software, discrete before integrated before virtual; then Vulkan, Metal, DX12, GL; then by
/// name.
fn rank(info: &wgpu::AdapterInfo) -> (u8, u8, String, String) {
    use wgpu::{Backend, DeviceType};
    let kind = match info.device_type {
        _ if is_software(info) => 4,
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other | DeviceType::Cpu => 3,
    };
    let backend = match info.backend {
        Backend::Vulkan => 0,
        Backend::Metal => 1,
        Backend::Dx12 => 2,
        _ => 3,
    };
    (kind, backend, info.device_pci_bus_id.clone(), info.name.clone())
}

fn computes(adapter: &wgpu::Adapter) -> bool {
    adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
}

/// True where `later` is the same physical adapter as `earlier` seen through another backend.
fn same_adapter(earlier: &wgpu::AdapterInfo, later: &wgpu::AdapterInfo) -> bool {
    if earlier.backend == later.backend || is_software(earlier) != is_software(later) {
        return false;
    }
    let (a, b) = (earlier.name.to_lowercase(), later.name.to_lowercase());
    let same_ids = earlier.vendor == later.vendor && earlier.device == later.device && later.device != 0;
    let same_name = !a.is_empty() && !b.is_empty() && (a.contains(&b) || b.contains(&a));
    same_ids || same_name || (is_software(later) && later.backend == wgpu::Backend::Gl)
}

/// Every adapter once, through its best backend; adapters without compute shaders come last. OpenGL is asked
/// only where no other backend has hardware, and on Linux only where a desktop session or `WGPU_BACKEND` says
/// that it makes sense: its libraries write complaints to stderr otherwise.
pub(super) fn enumerate() -> Vec<wgpu::Adapter> {
    let asked = wgpu::Backends::from_env();
    let backends = asked.unwrap_or(wgpu::Backends::all());
    let mut found = enumerate_backends(backends - wgpu::Backends::GL);
    let hardware = found.iter().any(|a| computes(a) && !is_software(&a.get_info()));
    let session = !cfg!(target_os = "linux") || std::env::var_os("XDG_RUNTIME_DIR").is_some();
    if backends.contains(wgpu::Backends::GL) && (asked.is_some() || session && !hardware) {
        found.extend(enumerate_backends(wgpu::Backends::GL));
    }
    found.sort_by_cached_key(|a| (!computes(a), rank(&a.get_info())));
    let mut kept: Vec<wgpu::Adapter> = Vec::new();
    for adapter in found {
        let info = adapter.get_info();
        if !kept.iter().any(|k| same_adapter(&k.get_info(), &info)) {
            kept.push(adapter);
        }
    }
    kept
}

fn enumerate_backends(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // No indirect dispatch is ever issued, so its validation (which lowers limits) is left out.
    descriptor.flags = wgpu::InstanceFlags::empty();
    // Refuse an allocation near the end of memory rather than let the driver lose the device there.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(95);
    descriptor.backends = backends;
    pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends))
}

/// Describes `adapter`, the `index`-th of [`enumerate`].
pub(super) fn report(index: usize, adapter: &wgpu::Adapter) -> AdapterReport {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let software = is_software(&info);
    let mut warnings = Vec::new();
    if !computes(adapter) {
        warnings.push("no compute shaders on this backend: it cannot run Ganomede".to_owned());
    }
    if software {
        warnings.push("software adapter: a CPU runs the shaders, the device `cpu` is faster".to_owned());
    }
    if info.backend == wgpu::Backend::Gl && !software {
        warnings.push("OpenGL adapter: install the GPU's Vulkan driver for full speed and memory".to_owned());
    }
    let defaults = wgpu::Limits::default();
    if limits.max_storage_buffer_binding_size < defaults.max_storage_buffer_binding_size {
        warnings.push(format!(
            "storage bindings hold only {} bytes (WebGPU's default is {}): large batches may not fit",
            limits.max_storage_buffer_binding_size, defaults.max_storage_buffer_binding_size
        ));
    }
    if limits.max_storage_buffers_per_shader_stage < 8 || limits.max_compute_invocations_per_workgroup < 256 {
        warnings.push("below WebGPU's default limits: some kernels cannot run".to_owned());
    }
    let features = adapter.features();
    AdapterReport {
        index,
        name: info.name.clone(),
        backend: info.backend.to_str(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        kind: match info.device_type {
            _ if software => "software",
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Other | wgpu::DeviceType::Cpu => "other",
        },
        software,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        limits,
        features: features.iter_names().map(|(name, _)| name).collect(),
        warnings,
    }
}

/// Finds the adapter of `choice`. `name_filter`, where given, limits `Auto` and `Any` to adapters whose name
/// contains it (case is ignored) and lets `Auto` take a software adapter, since naming one is asking for it.
pub(super) fn select(choice: GpuChoice, name_filter: Option<&str>) -> Result<wgpu::Adapter, DeviceError> {
    let adapters = enumerate();
    let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
    let known =
        names.iter().enumerate().map(|(i, name)| format!("gpu:{i} ({name})")).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "no GPU adapter, only cpu".to_owned() } else { known };
    if let GpuChoice::Index(index) = choice {
        let selector = format!("gpu:{index}");
        return adapters.into_iter().nth(index).ok_or(DeviceError::Selector { selector, known });
    }
    let wanted = match (choice, name_filter) {
        (_, Some(name)) => {
            format!("GPU adapter named '{name}' (environment variable {})", super::ADAPTER_VARIABLE)
        }
        (GpuChoice::Auto, None) => "hardware GPU adapter".to_owned(),
        _ => "GPU adapter".to_owned(),
    };
    let fits = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        computes(adapter)
            && match name_filter {
                Some(part) => info.name.to_lowercase().contains(&part.to_lowercase()),
                None => choice == GpuChoice::Any || !is_software(&info),
            }
    };
    adapters
        .into_iter()
        .find(fits)
        .ok_or_else(|| DeviceError::NoAdapter { wanted, found: format!("adapters present: {known}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::{AdapterInfo, Backend, DeviceType};

    fn info(name: &str, kind: DeviceType, backend: Backend, device: u32) -> AdapterInfo {
        AdapterInfo { name: name.to_owned(), vendor: 0x10de, device, ..AdapterInfo::new(kind, backend) }
    }

    #[test]
    fn one_adapter_seen_twice_is_one_and_two_equal_cards_are_two() {
        let vulkan = info("NVIDIA GeForce RTX 4090", DeviceType::DiscreteGpu, Backend::Vulkan, 0x2684);
        let dx12 = info("NVIDIA GeForce RTX 4090", DeviceType::DiscreteGpu, Backend::Dx12, 0x2684);
        let gl = info("NVIDIA GeForce RTX 4090/PCIe/SSE2", DeviceType::Other, Backend::Gl, 0);
        let software = info("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu, Backend::Vulkan, 0);
        assert!(same_adapter(&vulkan, &dx12) && same_adapter(&vulkan, &gl));
        assert!(!same_adapter(&vulkan, &vulkan) && !same_adapter(&vulkan, &software));
        let mut all = [software, gl, dx12, vulkan];
        all.sort_by_cached_key(rank);
        assert_eq!(all.map(|i| i.backend), [Backend::Vulkan, Backend::Dx12, Backend::Gl, Backend::Vulkan]);
    }

    #[test]
    fn naming_an_adapter_is_asking_for_it() {
        let name = enumerate().last().expect("an adapter").get_info().name;
        let part = name.split(' ').next().expect("a word").to_uppercase();
        let chosen = select(GpuChoice::Auto, Some(&part)).unwrap().get_info().name;
        assert!(chosen.to_uppercase().contains(&part), "{chosen}");
        let error = select(GpuChoice::Any, Some("no such adapter")).unwrap_err();
        assert!(
            error.to_string().contains("no such adapter") && error.to_string().contains(&name),
            "{error}"
        );
    }
}
