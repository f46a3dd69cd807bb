//! How finely the operands of a product are rounded.

use crate::error::{KernelError, shape_error};
use std::fmt;
use std::str::FromStr;

/// What the operands of matrix products and convolutions are rounded to before they are multiplied. Sums,
/// results and everything that is no product stay in f32, whatever this says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not at all: 24 bits.
    #[default]
    F32,
    /// To bfloat16: 8 bits, with the range of f32. On the CPU, where instructions multiply such numbers
    /// several times faster; see [`bf16_instructions`](crate::bf16_instructions). Products of few channels
    /// stay in f32, as do those of a vector.
    Bf16,
}

impl Precision {
    /// Name as options and messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// What a kernel's line of words says of it.
    pub(crate) fn line(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::Bf16 => ", rounded to bf16",
        }
    }

    /// Whether a GPU's kernels multiply so.
    pub(crate) fn on_gpus(self, kernel: &'static str) -> Result<(), KernelError> {
        match self {
            Self::F32 => Ok(()),
            Self::Bf16 => {
                Err(shape_error(kernel, "no GPU kernel rounds to bf16; use f32, or the CPU".into()))
            }
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    /// By its name.
    fn from_str(name: &str) -> Result<Self, String> {
        let known = [Self::F32, Self::Bf16];
        let found = known.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| format!("there is no precision '{}'; use f32 or bf16", name.escape_debug()))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
