//! What a device can do at most, measured on the device itself: the roof that times of launches are held
//! against.

use std::time::{Duration, Instant};

use ganomede_kernels::copy::{Copy, CopyPart};
use ganomede_kernels::{Cost, Kernel, Precision};

use super::{Device, DeviceError, cpu};
use crate::program::{Buffer, Launch, Program, Role};
use crate::tape::States;

/// Measured rates of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// Floating-point operations a second, of multiply-adds on registers; where operands of products are
    /// rounded, of such products.
    pub flops_per_second: f64,
    /// Bytes a second, read and written, of a copy between buffers larger than the caches.
    pub bytes_per_second: f64,
    /// Seconds that a launch takes which has nothing to do, within a replay.
    pub launch_seconds: f64,
}

impl Peaks {
    /// Seconds that a launch takes at least by arithmetic and by traffic: the roofline.
    pub fn bounds(&self, cost: Cost) -> [f64; 2] {
        let bytes = (cost.bytes_read + cost.bytes_written) as f64;
        [cost.flops as f64 / self.flops_per_second, bytes / self.bytes_per_second]
    }
}

/// Length of one measurement, at least.
pub(super) const MEASURED: Duration = Duration::from_millis(10);
/// Measurements, of which the best counts.
const REPEATS: usize = 3;
/// Launches of the program that does nothing.
const LAUNCHES: usize = 64;

impl Device {
    /// Measures the device's peaks; takes about a fifth of a second and up to 256 MiB.
    ///
    /// # Errors
    /// A device fault, no memory even for small buffers, or [`DeviceError::Unsupported`].
    pub fn peaks(&self) -> Result<Peaks, DeviceError> {
        let [flops, bytes_per_second] = self.backend().rates()?;
        let flops_per_second = match self.precision() {
            // Halves have a higher one, which no kernel measures.
            Precision::F32 | Precision::F16 => flops,
            Precision::Bf16 => cpu::bf16_flops()?,
        };
        Ok(Peaks { flops_per_second, bytes_per_second, launch_seconds: self.launch_seconds()? })
    }

    /// A chain of launches that copy four numbers.
    fn launch_seconds(&self) -> Result<f64, DeviceError> {
        let part = CopyPart {
            src_len: 4,
            shape: vec![4],
            src_offset: 0,
            src_strides: vec![1],
            dst_offset: 0,
            dst_strides: vec![1],
        };
        let copy = |i: usize| Launch {
            kernel: Kernel::Copy(Copy { len: 4, zero: false, parts: vec![part.clone()] }),
            inputs: vec![i % 2],
            outputs: vec![1 - i % 2],
            scope: "peak".to_owned(),
        };
        let program = Program {
            buffers: vec![Buffer { len: 4, role: Role::Temporary }; 2],
            launches: (0..LAUNCHES).map(copy).collect(),
            ..Program::default()
        };
        let mut executable = self.load(&program, &self.store(&States::new(), 0)?)?;
        best_rate(1, |replays| {
            let started = Instant::now();
            executable.run(replays)?;
            Ok(((replays * LAUNCHES) as f64, started.elapsed()))
        })
        .map(|launches_per_second| 1.0 / launches_per_second)
    }
}

/// Runs `work` with as much to do as lasts [`MEASURED`], a few times. It is told how much to do, from `start`
/// on, and says how much it did in what time; returns the highest amount a second.
pub(super) fn best_rate(
    start: usize,
    mut work: impl FnMut(usize) -> Result<(f64, Duration), DeviceError>,
) -> Result<f64, DeviceError> {
    let mut timed = |amount: usize| {
        let (done, time) = work(amount)?;
        let seconds = time.as_secs_f64().max(1e-9);
        Ok::<_, DeviceError>((done / seconds, seconds))
    };
    timed(start)?;
    let (mut amount, mut best) = (start, 0.0_f64);
    // Doubling at least and eightfold at most: a first, slow run says little.
    for _ in 0..24 {
        let (rate, seconds) = timed(amount)?;
        best = best.max(rate);
        let missing = MEASURED.as_secs_f64() / seconds;
        if missing <= 1.0 {
            break;
        }
        amount = amount.saturating_mul((missing * 1.2).clamp(2.0, 8.0) as usize);
    }
    for _ in 0..REPEATS {
        best = best.max(timed(amount)?.0);
    }
    Ok(best)
}
