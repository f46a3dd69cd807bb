//! Statistics of the machine code that Mesa's RADV makes of kernels, without a GPU: registers, spills, shared
//! memory, occupancy, instruction mix.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ganomede_kernels::Dispatch;
use serde::Serialize;

use super::InspectError;

/// A GPU to compile for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// RDNA2, for example Radeon RX 6800.
    Navi21,
    /// RDNA3, for example Radeon RX 7900.
    Navi31,
}

impl Target {
    /// As on the command line and in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Navi21 => "navi21",
            Self::Navi31 => "navi31",
        }
    }

    /// What drivers of different ages call it.
    fn families(self) -> &'static [&'static str] {
        match self {
            Self::Navi21 => &["navi21"],
            Self::Navi31 => &["navi31", "gfx1100"],
        }
    }
}

/// What the machine code of one dispatch needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Vector registers of a lane.
    pub vgprs: u32,
    /// Scalar registers of a subgroup.
    pub sgprs: u32,
    /// Vector and scalar registers kept in memory for want of room.
    pub spills: u32,
    /// Shared memory of a workgroup.
    pub lds_bytes: u32,
    /// Private memory of a lane.
    pub scratch_bytes: u32,
    /// Subgroups that one SIMD unit keeps in flight, by registers and shared memory.
    pub subgroups_per_simd: u32,
    /// Machine instructions of the whole shader.
    pub instructions: u32,
    /// Multiply-adds of the vector instructions of the innermost loop with the most of them, 0 to 1; `None`
    /// where no loop has any.
    pub fma_share: Option<f64>,
    /// Multiply-adds in one pass of that loop; a packed one counts one.
    pub loop_fma: u32,
    /// Of them, packed ones of two halves each.
    pub loop_packed: u32,
    /// Machine code as text.
    #[serde(skip)]
    pub assembly: String,
}

/// Statistics with the driver that they are from.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Device and driver.
    pub driver: String,
    /// One for each dispatch, in order.
    pub statistics: Vec<Statistics>,
}

/// Variable that tells a child process apart; see [`worker`].
const WORKER: &str = "GANOMEDE_ISA_WORKER";

/// Driver description files of RADV on this machine.
fn icd_files() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/usr/share", "/etc", "/usr/local/share", "/usr/local/etc"].iter().map(PathBuf::from).collect();
    let more = std::env::var_os("XDG_DATA_DIRS").unwrap_or_default();
    folders.extend(std::env::split_paths(&more));
    folders.dedup();
    let mut found: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder.join("vulkan/icd.d")).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (is_radv, is_32_bit) = (name.starts_with("radeon_icd"), name.contains(".i686"));
            is_radv && name.ends_with(".json") && !is_32_bit
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn advice() -> String {
    "install Mesa's Vulkan drivers and the loader: `apt-get install mesa-vulkan-drivers libvulkan1` on Debian and \
     Ubuntu, `dnf install mesa-vulkan-drivers vulkan-loader` on Fedora, `pacman -S vulkan-radeon vulkan-icd-loader` \
     on Arch; no GPU is needed"
        .to_owned()
}

/// Compiles dispatches for a target and reads what the driver says of them. `program` is this program's own
/// file: it is run once more, as [`worker`], in an environment that makes the driver show a GPU that is not
/// there.
///
/// # Errors
/// [`InspectError::Driver`] where RADV is missing or too old for the target, [`InspectError::Shader`] and
/// [`InspectError::Compile`] where compilation fails.
pub fn analyse(program: &Path, target: Target, dispatches: &[&Dispatch]) -> Result<Report, InspectError> {
    if !cfg!(target_os = "linux") {
        let what = "ISA statistics come from Mesa's RADV, which runs on Linux only".to_owned();
        return Err(InspectError::Driver {
            what,
            advice: "run this on Linux, or in a Linux container".to_owned(),
        });
    }
    let icd = icd_files();
    if icd.is_empty() {
        let what =
            "Mesa's RADV driver is not installed (no radeon_icd*.json in /usr/share/vulkan/icd.d)".to_owned();
        return Err(InspectError::Driver { what, advice: advice() });
    }
    let jobs = dispatches.iter().map(|d| job(d)).collect::<Result<Vec<_>, _>>()?;
    let failed = |message: String| InspectError::Compile { target: target.name(), message };
    let jobs = serde_json::to_vec(&jobs).map_err(|e| failed(e.to_string()))?;
    let mut refused = String::new();
    for family in target.families() {
        match ask(program, family, &icd[0], &jobs) {
            Ok(reply) => return Ok(reply),
            Err(message) => refused += &format!("{family}: {message}; "),
        }
    }
    let unknown = ["nknown", "no device", "INITIALIZATION_FAILED", "INCOMPATIBLE_DRIVER"];
    if unknown.iter().any(|word| refused.contains(word)) {
        let what = format!(
            "this version of RADV does not know {} ({})",
            target.name(),
            refused.trim_end_matches("; ")
        );
        let advice = format!("{}, newer than those installed", advice());
        return Err(InspectError::Driver { what, advice });
    }
    Err(failed(refused.trim_end_matches("; ").to_owned()))
}

#[cfg(target_os = "linux")]
fn job(dispatch: &Dispatch) -> Result<super::radv::Job, InspectError> {
    Ok(super::radv::Job {
        entry: dispatch.entry.to_owned(),
        spirv: super::spirv(dispatch)?,
        uniform: !dispatch.params.is_empty(),
        storage: dispatch.bindings.len() as u32,
    })
}

#[cfg(not(target_os = "linux"))]
fn job(dispatch: &Dispatch) -> Result<Vec<u32>, InspectError> {
    super::spirv(dispatch)
}

/// Runs the worker on `jobs` and reads its answer.
fn ask(program: &Path, family: &str, icd: &Path, jobs: &[u8]) -> Result<Report, String> {
    let mut child = Command::new(program)
        .args(["kernels", "isa"])
        .env(WORKER, "1")
        .env("RADV_FORCE_FAMILY", family)
        .env("VK_ICD_FILENAMES", icd)
        .env("VK_DRIVER_FILES", icd)
        // A wrapper around the device would hide it, and caches would hide statistics.
        .env("NODEVICE_SELECT", "1")
        .env("VK_LOADER_LAYERS_DISABLE", "~implicit~")
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .env_remove("RADV_DEBUG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    // The worker reads all of its input before it writes, so that neither waits for the other.
    let sent = child.stdin.take().map(|mut pipe| pipe.write_all(jobs));
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or("no message").to_owned();
    if !output.status.success() {
        return Err(format!("{said} ({})", output.status));
    }
    if let Some(Err(error)) = sent {
        return Err(error.to_string());
    }
    read(&output.stdout)
}

#[cfg(target_os = "linux")]
fn read(stdout: &[u8]) -> Result<Report, String> {
    let reply: Result<super::radv::Reply, String> =
        serde_json::from_slice(stdout).map_err(|e| format!("the worker's answer cannot be read: {e}"))?;
    let reply = reply?;
    Ok(Report { driver: reply.driver, statistics: reply.compiled.into_iter().map(statistics).collect() })
}

#[cfg(not(target_os = "linux"))]
fn read(_stdout: &[u8]) -> Result<Report, String> {
    Err("RADV runs on Linux only".to_owned())
}

#[cfg(target_os = "linux")]
fn statistics(compiled: super::radv::Compiled) -> Statistics {
    let read = |name: &str| compiled.statistics.get(name).copied().unwrap_or(0.0) as u32;
    let hottest = super::assembly::hottest_loop(&compiled.assembly);
    Statistics {
        vgprs: read("VGPRs"),
        sgprs: read("SGPRs"),
        spills: read("Spilled VGPRs") + read("Spilled SGPRs"),
        lds_bytes: read("LDS size"),
        scratch_bytes: read("Scratch size"),
        subgroups_per_simd: read("Subgroups per SIMD"),
        instructions: read("Instructions"),
        fma_share: hottest.map(|l| l.fma_share()),
        loop_fma: hottest.map_or(0, |l| l.fma),
        loop_packed: hottest.map_or(0, |l| l.packed),
        assembly: compiled.assembly,
    }
}

/// Where [`analyse`] has started this process: reads its jobs, compiles them, writes the answer and returns
/// true.
///
/// # Errors
/// Where the jobs cannot be read or the answer cannot be written.
pub fn worker() -> std::io::Result<bool> {
    if std::env::var_os(WORKER).is_none() {
        return Ok(false);
    }
    #[cfg(target_os = "linux")]
    {
        let mut jobs = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut jobs)?;
        let jobs: Vec<super::radv::Job> = serde_json::from_slice(&jobs)?;
        let reply = super::radv::compile(&jobs);
        std::io::stdout().write_all(&serde_json::to_vec(&reply)?)?;
    }
    Ok(true)
}
