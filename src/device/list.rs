//! Which devices there are, and how they are chosen.

use super::{Device, DeviceError, GpuOptions};

/// A device by its name.
pub(super) struct Entry {
    /// What `--device` calls it.
    pub(super) name: &'static str,
    /// Opens it, or the one of a number where there are several.
    pub(super) open: fn(Option<usize>, &GpuOptions) -> Result<Device, DeviceError>,
}

/// Every device of this build. A new one is a folder beside this file, its `mod` in `mod.rs`, and a line
/// here.
const ALL: &[Entry] = &[
    super::cpu::ENTRY,
    #[cfg(feature = "gpu")]
    super::gpu::ENTRY,
];

/// What `--device` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// Hardware GPUs first, then the CPU; never a software adapter.
    Auto,
    /// The native CPU device.
    Cpu,
    /// The first adapter, software ones included.
    Gpu,
    /// The adapter of this number in `ganomede devices`.
    GpuIndex(usize),
    /// Another device of this build, by its name.
    Named(&'static str),
}

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let others = || ALL.iter().map(|entry| entry.name).filter(|name| !["cpu", "gpu"].contains(name));
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => match text.strip_prefix("gpu:").map(str::parse) {
                Some(Ok(index)) => Ok(Self::GpuIndex(index)),
                _ => others().find(|name| *name == text).map(Self::Named).ok_or_else(|| {
                    let others: String = others().map(|name| format!("{name}, ")).collect();
                    format!(
                        "device '{text}' is unknown; use auto, {others}cpu, gpu or gpu:N (see `ganomede devices`)"
                    )
                }),
            },
        }
    }
}

/// Opens what a selector names.
pub(super) fn open(selector: Selector, options: &GpuOptions) -> Result<Device, DeviceError> {
    let (name, index) = match selector {
        Selector::Auto => return auto(options),
        Selector::Cpu => ("cpu", None),
        Selector::Gpu => ("gpu", None),
        Selector::GpuIndex(index) => ("gpu", Some(index)),
        Selector::Named(name) => (name, None),
    };
    match ALL.iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.open)(index, options),
        None => Err(DeviceError::NotBuilt { device: name }),
    }
}

#[cfg(feature = "gpu")]
fn auto(options: &GpuOptions) -> Result<Device, DeviceError> {
    match super::gpu::Gpu::open(super::gpu::GpuChoice::Auto, options.clone()) {
        Ok(gpu) => Ok(Device::Gpu(gpu)),
        Err(DeviceError::NoAdapter { .. }) => Ok(Device::Cpu),
        Err(other) => Err(other),
    }
}

#[cfg(not(feature = "gpu"))]
fn auto(_: &GpuOptions) -> Result<Device, DeviceError> {
    Ok(Device::Cpu)
}
