//! How to open a device.

use std::path::PathBuf;
use std::time::Duration;

/// How to run on an adapter; the processor has no use for it.
#[derive(Debug, Clone)]
pub struct GpuOptions {
    /// Compile shaders with bounds and loop checks: slower, for tests and diagnosis.
    pub checked: bool,
    /// Longest wait for one submission.
    pub timeout: Duration,
    /// Aim for the length of one submission.
    pub submission_budget: Duration,
    /// Most bytes of buffers on this device; `None` asks the machine (software adapters) or leaves it to the
    /// driver.
    pub memory_limit: Option<u64>,
    /// Folder with the results of `ganomede tune` and with compiled pipelines; `None` for the kernels' own
    /// choices of variants, and shaders compiled anew.
    pub cache: Option<PathBuf>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            checked: false,
            timeout: Duration::from_secs(60),
            submission_budget: Duration::from_millis(200),
            memory_limit: None,
            cache: None,
        }
    }
}
