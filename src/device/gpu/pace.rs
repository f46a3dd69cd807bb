//! How much work one submission may carry. Drivers reset a GPU whose submission runs for seconds (two on
//! Windows), and a display or Ctrl-C waits for the end of the current one, so submissions are cut at an
//! estimated time.

use std::time::Duration;

use ganomede_kernels::Cost;

/// Most dispatches in one submission, which bounds the memory of a command buffer.
pub(super) const MAX_DISPATCHES: usize = 4096;

/// Submissions in flight at most: the next is encoded while one runs.
pub(super) const MAX_IN_FLIGHT: usize = 2;

/// Seconds from FLOPs and bytes, corrected by what submissions really took. It decides where submissions are
/// cut and nothing else, so measured time never changes a result.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    flops_per_second: f64,
    bytes_per_second: f64,
    seconds_per_dispatch: f64,
    /// Measured over estimated seconds.
    correction: f64,
}

impl Pace {
    /// A deliberately slow first guess for the adapter's class.
    pub(super) fn new(kind: wgpu::DeviceType, software: bool) -> Self {
        let (flops_per_second, bytes_per_second, seconds_per_dispatch) = match kind {
            _ if software => (2e9, 1e9, 5e-5),
            wgpu::DeviceType::DiscreteGpu => (1e12, 5e10, 5e-6),
            _ => (1e11, 1e10, 1e-5),
        };
        Self { flops_per_second, bytes_per_second, seconds_per_dispatch, correction: 1.0 }
    }

    /// Uncorrected seconds of one launch.
    pub(super) fn estimate(&self, cost: Cost, dispatches: usize) -> f64 {
        cost.flops as f64 / self.flops_per_second
            + (cost.bytes_read as f64 + cost.bytes_written as f64) / self.bytes_per_second
            + dispatches as f64 * self.seconds_per_dispatch
    }

    /// Uncorrected seconds that fill `budget`.
    pub(super) fn allowance(&self, budget: Duration) -> f64 {
        budget.as_secs_f64() / self.correction
    }

    /// Learns from a submission. `exact` is false where `measured` is only an upper bound, because the host
    /// looked late.
    pub(super) fn observe(&mut self, estimated: f64, measured: Duration, exact: bool) {
        let ratio = measured.as_secs_f64() / estimated.max(1e-9);
        // Below a millisecond the submission's own latency is what was measured.
        if measured > Duration::from_millis(1) && (exact || ratio < self.correction) {
            self.correction = (0.5 * (self.correction + ratio)).clamp(1e-3, 1e3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowance_follows_measured_time() {
        let mut pace = Pace::new(wgpu::DeviceType::Cpu, true);
        let before = pace.allowance(Duration::from_millis(200));
        for _ in 0..20 {
            pace.observe(0.1, Duration::from_millis(400), true);
        }
        let slow = pace.allowance(Duration::from_millis(200));
        assert!((slow - before / 4.0).abs() < 1e-3 * before, "{slow} {before}");
        pace.observe(0.1, Duration::from_secs(100), false);
        assert_eq!(
            pace.allowance(Duration::from_millis(200)),
            slow,
            "a late look is an upper bound, not a measurement"
        );
    }
}
