//! Devices replay programs. `Gpu` runs them on wgpu, `Cpu` through the kernels' native twins; one contract for both.

pub mod error;
pub mod gpu;

pub use error::DeviceError;
