//! Peaks of the processor.

use std::time::Instant;

use ganomede_kernels::peak;

use super::super::DeviceError;
use super::super::peaks::best_rate;
use super::host_has;

/// Floats copied: with their copies 128 MiB, beyond the caches of desktop processors.
const COPY: usize = 1 << 24;

/// Floating-point operations a second.
pub(super) fn flops() -> Result<f64, DeviceError> {
    best_rate(1 << 12, |rounds| {
        let started = Instant::now();
        Ok((peak::fma_on_cpu(rounds) as f64, started.elapsed()))
    })
}

/// As [`flops`], of products whose operands are rounded to bfloat16.
pub(super) fn bf16_flops() -> Result<f64, DeviceError> {
    best_rate(1 << 4, |rounds| {
        let started = Instant::now();
        Ok((peak::bf16_on_cpu(rounds) as f64, started.elapsed()))
    })
}

/// Bytes a second, read and written.
pub(super) fn bytes() -> Result<f64, DeviceError> {
    host_has(8 * COPY as u64)?;
    let (from, mut to) = (vec![1.0_f32; COPY], vec![0.0_f32; COPY]);
    best_rate(1, |times| {
        let started = Instant::now();
        for _ in 0..times {
            peak::copy_on_cpu(&from, &mut to);
            std::hint::black_box(&mut to);
        }
        Ok(((8 * COPY * times) as f64, started.elapsed()))
    })
}
