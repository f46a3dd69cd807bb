//! Programs whose products round their operands.

use ganomede_kernels::{Kernel, Precision};

use super::Program;

impl Program {
    /// The same program with the operands of its products rounded to `precision`.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        for launch in &mut self.launches {
            match &mut launch.kernel {
                Kernel::Conv(conv) => conv.precision = precision,
                Kernel::Gemm(gemm) => gemm.precision = precision,
                _ => {}
            }
        }
        self
    }
}
