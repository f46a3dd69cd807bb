//! The machine under the CPU device: processor, vector instructions, memory. Linux tells all of it; elsewhere what is
//! not known is `None`.

/// What follows `key:` in a file of `/proc`, with blanks cut off.
fn proc_field(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn proc_bytes(file: &str, key: &str) -> Option<u64> {
    let kib: u64 = proc_field(file, key)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Memory that can be allocated without swapping, bytes.
pub fn available_memory() -> Option<u64> {
    proc_bytes("/proc/meminfo", "MemAvailable")
}

/// Memory installed, bytes.
pub fn total_memory() -> Option<u64> {
    proc_bytes("/proc/meminfo", "MemTotal")
}

/// Most memory that this process ever held, bytes.
pub fn peak_resident() -> Option<u64> {
    proc_bytes("/proc/self/status", "VmHWM")
}

/// The processor's name.
pub fn processor() -> String {
    proc_field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The widest vector instructions that the kernels use here.
pub fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2 and FMA";
        }
        "SSE2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "NEON"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "none"
    }
}
