//! `doctor`: what works on this machine, what does not, and what to do about it.

mod fits;
mod selftest;

use serde::Serialize;

use crate::shared::args::Global;
use crate::shared::programs::{Sizes, go_on};
use crate::shared::table::binary;
use crate::shared::{CliError, Interrupt, say, say_json};
use fits::Fit;
use ganomede::device::gpu::{AdapterReport, Gpu, GpuChoice, GpuOptions};
use ganomede::device::{Device, Selector, machine};
use selftest::{SelfTest, TOLERANCE};

/// Check drivers, kernels, timestamps and memory, and say what to do about what is wrong.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede doctor --size 64 --width 64")]
pub(crate) struct Args {
    #[command(flatten)]
    sizes: Sizes,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Works, with a drawback.
    Warning,
    /// Something that is needed does not work.
    Broken,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    message: String,
}

#[derive(Debug, Serialize)]
struct DeviceReport {
    device: String,
    name: String,
    self_test: Vec<SelfTest>,
    largest_batch: Vec<Fit>,
}

#[derive(Debug, Serialize)]
struct Report {
    healthy: bool,
    checks: Vec<Check>,
    devices: Vec<DeviceReport>,
}

struct Doctor<'a> {
    global: &'a Global,
    sizes: &'a Sizes,
    report: Report,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    args.sizes.config().check()?;
    let report = Report { healthy: true, checks: vec![], devices: vec![] };
    let mut doctor = Doctor { global, sizes: &args.sizes, report };
    doctor.machine();
    doctor.cpu()?;
    let adapters = Gpu::adapters();
    doctor.presence(&adapters);
    for adapter in &adapters {
        go_on(interrupt)?;
        doctor.adapter(adapter)?;
    }
    doctor.folders();
    let mut report = doctor.report;
    report.healthy = report.checks.iter().all(|check| check.status != Status::Broken);
    if global.json {
        say_json(&report)?;
    } else {
        say(&text(&report))?;
    }
    let broken = report.checks.iter().find(|check| check.status == Status::Broken);
    broken.map_or(Ok(()), |check| Err(CliError::machine(format!("{}: {}", check.name, check.message))))
}

impl Doctor<'_> {
    fn note(&mut self, name: impl Into<String>, status: Status, message: impl Into<String>) {
        self.report.checks.push(Check { name: name.into(), status, message: message.into() });
    }

    fn machine(&mut self) {
        let threads = rayon::current_num_threads();
        self.note(
            "processor",
            Status::Ok,
            format!("{}, {threads} threads, {}", machine::processor(), machine::simd()),
        );
        match (machine::available_memory(), machine::total_memory()) {
            (Some(available), Some(total)) => {
                let status = if available < 1 << 30 { Status::Warning } else { Status::Ok };
                self.note("memory", status, format!("{} available of {}", binary(available), binary(total)));
            }
            _ => self.note("memory", Status::Warning, "this system does not say how much there is"),
        }
    }

    /// A GPU that was asked for must exist; otherwise the CPU does.
    fn presence(&mut self, adapters: &[AdapterReport]) {
        let asked = match self.global.device {
            Selector::Gpu => adapters.is_empty(),
            Selector::GpuIndex(index) => index >= adapters.len(),
            Selector::Auto | Selector::Cpu | Selector::Named(_) => false,
        };
        let how = "install the GPU's Vulkan driver (NVIDIA: the driver package; AMD and Intel on Debian or Ubuntu: \
                   apt-get install mesa-vulkan-drivers, which also has a software adapter)";
        if asked {
            self.note(
                "adapters",
                Status::Broken,
                format!("the adapter of --device does not exist; {how}, or use --device cpu"),
            );
        } else if adapters.is_empty() {
            self.note(
                "adapters",
                Status::Warning,
                format!("none, programs run on the CPU; to use a GPU, {how}"),
            );
        } else if adapters.iter().all(|adapter| adapter.software) {
            let message = format!("only software adapters, --device auto takes the CPU; to use a GPU, {how}");
            self.note("adapters", Status::Warning, message);
        } else {
            self.note("adapters", Status::Ok, format!("{} found", adapters.len()));
        }
    }

    fn cpu(&mut self) -> Result<(), CliError> {
        let tests = selftest::of_cpu(self.global.seed)?;
        self.judge("cpu", &tests);
        let largest_batch = fits::on_cpu(&self.sizes.config())?;
        let name = machine::processor();
        self.report.devices.push(DeviceReport {
            device: "cpu".to_owned(),
            name,
            self_test: tests,
            largest_batch,
        });
        Ok(())
    }

    /// Whether the user's choice of device depends on this adapter.
    fn needs(&self, adapter: &AdapterReport) -> bool {
        match self.global.device {
            Selector::Cpu | Selector::Named(_) => false,
            Selector::Auto => !adapter.software,
            Selector::Gpu => adapter.index == 0,
            Selector::GpuIndex(index) => adapter.index == index,
        }
    }

    fn adapter(&mut self, adapter: &AdapterReport) -> Result<(), CliError> {
        let device = format!("gpu:{}", adapter.index);
        for warning in &adapter.warnings {
            self.note(&device, Status::Warning, format!("{}: {warning}", adapter.name));
        }
        let bad = if self.needs(adapter) { Status::Broken } else { Status::Warning };
        let options = GpuOptions { checked: self.global.checked_shaders, ..GpuOptions::default() };
        let gpu = match Gpu::open(GpuChoice::Index(adapter.index), options) {
            Ok(gpu) => gpu,
            Err(error) => {
                self.note(&device, bad, error.to_string());
                return Ok(());
            }
        };
        self.note(&device, Status::Ok, gpu.describe());
        match gpu.timestamp_sanity() {
            Ok(Some(report)) => match report.problem {
                None => self.note(
                    format!("{device} timestamps"),
                    Status::Ok,
                    format!("{} ns a tick", report.period_ns),
                ),
                Some(problem) => {
                    self.note(
                        format!("{device} timestamps"),
                        Status::Warning,
                        format!("{problem}: times of launches cannot be believed"),
                    );
                }
            },
            Ok(None) => self.note(
                format!("{device} timestamps"),
                Status::Warning,
                "none: launches are timed by the host's clock",
            ),
            Err(error) => self.note(format!("{device} timestamps"), bad, error.to_string()),
        }
        let tests = selftest::of_gpu(&Device::Gpu(gpu.clone()), self.global.seed)?;
        let worst = self.judge(&device, &tests);
        if worst == Status::Broken && bad != Status::Broken {
            // A broken adapter that nothing depends on is no reason to fail.
            if let Some(check) = self.report.checks.last_mut() {
                check.status = bad;
            }
        }
        let largest_batch = fits::on_gpu(&self.sizes.config(), adapter, &gpu)?;
        let name = adapter.name.clone();
        self.report.devices.push(DeviceReport { device, name, self_test: tests, largest_batch });
        Ok(())
    }

    /// Notes how the self-test went.
    fn judge(&mut self, device: &str, tests: &[SelfTest]) -> Status {
        let failed: Vec<_> = tests.iter().filter(|test| !test.passed).map(SelfTest::text).collect();
        let name = format!("{device} kernels");
        if failed.is_empty() {
            let worst = tests.iter().filter_map(|test| test.max_relative_error).fold(0.0, f64::max);
            self.note(name, Status::Ok, format!("{} tests, largest relative error {worst:.1e}", tests.len()));
            return Status::Ok;
        }
        let advice = format!(
            "above {TOLERANCE:e}; update the driver, and report this with the output of `ganomede devices`; \
             `--checked-shaders` tells a wild access from wrong arithmetic"
        );
        self.note(name, Status::Broken, format!("{}: {advice}", failed.join(", ")));
        Status::Broken
    }

    fn folders(&mut self) {
        let Some(folder) = machine::cache_folder() else {
            return self.note("cache folder", Status::Warning, "no home folder; set XDG_CACHE_HOME");
        };
        let place = folder.display().to_string();
        match ganomede_host::try_folder(&folder) {
            Ok(()) => self.note("cache folder", Status::Ok, format!("{place} can be written")),
            Err(error) => {
                let message =
                    format!("{place}: {error}; fix its permissions, or set XDG_CACHE_HOME to another place");
                self.note("cache folder", Status::Warning, message);
            }
        }
    }
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report
        .checks
        .iter()
        .map(|check| {
            let mark = match check.status {
                Status::Ok => "ok     ",
                Status::Warning => "warning",
                Status::Broken => "BROKEN ",
            };
            format!("{mark}  {}: {}", check.name, check.message)
        })
        .collect();
    for device in &report.devices {
        lines.push(format!("\n{} ({})", device.device, device.name));
        lines.extend(device.self_test.iter().map(|test| format!("  {}", test.text())));
        lines.extend(device.largest_batch.iter().map(|fit| format!("  {}", fit.text())));
    }
    lines.push(format!(
        "\n{}",
        if report.healthy { "everything needed works" } else { "something needed does not work" }
    ));
    lines.join("\n")
}
