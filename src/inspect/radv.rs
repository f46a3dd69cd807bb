//! The part that talks to Mesa's RADV: a Vulkan device without a GPU behind it. Runs in a process of its own,
//! started by [`super::isa`] with `RADV_FORCE_FAMILY` set, since drivers read their environment when they are
//! loaded.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

use ash::{khr, vk};
use serde::{Deserialize, Serialize};

/// A compute pipeline to compile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Entry point.
    pub entry: String,
    /// SPIR-V words.
    pub spirv: Vec<u32>,
    /// Whether a uniform buffer stands at binding 0.
    pub uniform: bool,
    /// Storage buffers, at bindings 1 and up.
    pub storage: u32,
}

/// What the driver says of one pipeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compiled {
    /// Statistics by the driver's names.
    pub statistics: BTreeMap<String, f64>,
    /// Machine code as text.
    pub assembly: String,
}

/// The answer to a list of jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// Device and driver.
    pub driver: String,
    /// In the order of the jobs.
    pub compiled: Vec<Compiled>,
}

/// Compiles the jobs on the first device of the driver that the environment names.
///
/// # Errors
/// What failed, in words.
pub fn compile(jobs: &[Job]) -> Result<Reply, String> {
    let failed = |what: &'static str| move |code: vk::Result| format!("{what}: {code}");
    // SAFETY: loads the system's Vulkan loader, whose initialisers are safe to run.
    let entry = unsafe { ash::Entry::load() }.map_err(|e| format!("no Vulkan loader: {e}"))?;
    let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
    let description = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: the description and what it points to live through the call.
    let instance =
        unsafe { entry.create_instance(&description, None) }.map_err(failed("vkCreateInstance"))?;
    // The process ends after this call, and with it instance and device: nothing is destroyed by hand.
    // SAFETY: `instance` is alive.
    let physical =
        unsafe { instance.enumerate_physical_devices() }.map_err(failed("vkEnumeratePhysicalDevices"))?;
    let &physical = physical.first().ok_or("the driver shows no device")?;
    let mut details = vk::PhysicalDeviceDriverProperties::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut details);
    // SAFETY: `physical` belongs to `instance`; the chain is well formed.
    unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
    let name = text(&properties.properties.device_name);
    let driver = format!("{name}, {} {}", text(&details.driver_name), text(&details.driver_info));

    let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
    let mut executables =
        vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
    let extensions = [khr::pipeline_executable_properties::NAME.as_ptr()];
    // As wgpu opens devices, with halves.
    let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
    let mut halves = vk::PhysicalDeviceVulkan12Features::default().shader_float16(true);
    let mut storage = vk::PhysicalDeviceVulkan11Features::default()
        .storage_buffer16_bit_access(true)
        .uniform_and_storage_buffer16_bit_access(true);
    let description = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queue)
        .enabled_extension_names(&extensions)
        .enabled_features(&features)
        .push_next(&mut executables)
        .push_next(&mut halves)
        .push_next(&mut storage);
    // SAFETY: as above; family 0 exists on every device.
    let device =
        unsafe { instance.create_device(physical, &description, None) }.map_err(failed("vkCreateDevice"))?;
    let looks = khr::pipeline_executable_properties::Device::new(&instance, &device);
    let compiled = jobs.iter().map(|job| compile_one(&device, &looks, job)).collect::<Result<_, _>>()?;
    Ok(Reply { driver, compiled })
}

fn compile_one(
    device: &ash::Device,
    looks: &khr::pipeline_executable_properties::Device,
    job: &Job,
) -> Result<Compiled, String> {
    let failed = |what: &'static str| move |code: vk::Result| format!("{what} of {}: {code}", job.entry);
    let binding = |number, ty| {
        vk::DescriptorSetLayoutBinding::default()
            .binding(number)
            .descriptor_type(ty)
            .descriptor_count(1)
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
    };
    let bindings: Vec<_> = job
        .uniform
        .then(|| binding(0, vk::DescriptorType::UNIFORM_BUFFER))
        .into_iter()
        .chain((1..=job.storage).map(|number| binding(number, vk::DescriptorType::STORAGE_BUFFER)))
        .collect();
    let entry = CString::new(job.entry.as_str()).map_err(|e| e.to_string())?;
    let layout = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
    let module = vk::ShaderModuleCreateInfo::default().code(&job.spirv);
    // SAFETY: every description lives through its call; the SPIR-V is naga's, which validated the module.
    let pipeline = unsafe {
        let sets = [device.create_descriptor_set_layout(&layout, None).map_err(failed("set layout"))?];
        let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
        let layout = device.create_pipeline_layout(&layout, None).map_err(failed("pipeline layout"))?;
        let module = device.create_shader_module(&module, None).map_err(failed("shader module"))?;
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(&entry);
        let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
            | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        let description = vk::ComputePipelineCreateInfo::default().flags(flags).stage(stage).layout(layout);
        device
            .create_compute_pipelines(vk::PipelineCache::null(), &[description], None)
            .map_err(|(_, code)| failed("compute pipeline")(code))?[0]
    };
    let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
    // SAFETY: the pipeline was made with the flag that these ask for.
    let found =
        unsafe { looks.get_pipeline_executable_statistics(&executable) }.map_err(failed("statistics"))?;
    let statistics = found.iter().map(|s| (text(&s.name), value(s))).collect();
    Ok(Compiled { statistics, assembly: assembly(device, looks, &executable).map_err(failed("assembly"))? })
}

/// The last internal representation that is machine code as text; empty where the driver cannot print it.
fn assembly(
    device: &ash::Device,
    looks: &khr::pipeline_executable_properties::Device,
    executable: &vk::PipelineExecutableInfoKHR<'_>,
) -> Result<String, vk::Result> {
    // SAFETY: as for the statistics; this call only fills in sizes.
    let mut found = unsafe { looks.get_pipeline_executable_internal_representations(executable) }?;
    let mut texts: Vec<Vec<u8>> = found.iter().map(|r| vec![0; r.data_size]).collect();
    for (representation, text) in found.iter_mut().zip(&mut texts) {
        representation.p_data = text.as_mut_ptr().cast();
    }
    let mut count = found.len() as u32;
    let get = looks.fp().get_pipeline_executable_internal_representations_khr;
    // SAFETY: `count` elements, each with room for the size that the driver named.
    unsafe { get(device.handle(), executable, &mut count, found.as_mut_ptr()) }.result()?;
    let machine = found.iter().zip(&texts).rfind(|(r, _)| text(&r.name).to_lowercase().contains("assembly"));
    let bytes = machine.map_or(&[][..], |(_, text)| text.as_slice());
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

fn value(statistic: &vk::PipelineExecutableStatisticKHR<'_>) -> f64 {
    use vk::PipelineExecutableStatisticFormatKHR as Format;
    // SAFETY: the format says which field of the union the driver wrote.
    unsafe {
        match statistic.format {
            Format::BOOL32 => f64::from(statistic.value.b32),
            Format::INT64 => statistic.value.i64 as f64,
            Format::UINT64 => statistic.value.u64 as f64,
            _ => statistic.value.f64,
        }
    }
}

fn text(characters: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|&c| c as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}
