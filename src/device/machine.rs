//! The machine under the CPU device: processor, vector instructions, memory. Linux tells all of it; elsewhere
//! what is not known is `None`.

use std::path::PathBuf;

use super::limits;

/// What follows `key:` in a file of `/proc`, with blanks cut off.
fn proc_field(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

pub(super) fn proc_bytes(file: &str, key: &str) -> Option<u64> {
    let kib: u64 = proc_field(file, key)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Memory that can be allocated without swapping, within the limits of this process (a container's,
/// `ulimit`), bytes.
pub fn available_memory() -> Option<u64> {
    let left = limits::all().into_iter().map(limits::Limit::left);
    proc_bytes("/proc/meminfo", "MemAvailable").into_iter().chain(left).min()
}

/// Memory installed, or the least limit of this process where that is less, bytes.
pub fn total_memory() -> Option<u64> {
    let most = limits::all().into_iter().map(|limit| limit.limit);
    proc_bytes("/proc/meminfo", "MemTotal").into_iter().chain(most).min()
}

/// Most memory that this process ever held, bytes.
pub fn peak_resident() -> Option<u64> {
    proc_bytes("/proc/self/status", "VmHWM")
}

/// Memory that this process holds now and that is no part of a file, bytes.
pub fn resident_anonymous() -> Option<u64> {
    proc_bytes("/proc/self/status", "RssAnon")
}

/// Processor time of all threads of this process so far, in seconds, to a hundredth.
pub fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold blanks; after it, user and system time are fields 12 and 13, in ticks,
    // of which Linux has 100 a second wherever user space looks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// Environment variable with the folder that [`cache_folder`] then is.
pub const CACHE_VARIABLE: &str = "GANOMEDE_CACHE";

/// Where what is learnt of this machine is kept between runs; `None` where there is no home.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable(CACHE_VARIABLE) {
        return Some(folder);
    }
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))
    };
    Some(base?.join("ganomede"))
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
