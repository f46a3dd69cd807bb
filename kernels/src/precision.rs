//! How finely the operands of a product are rounded.

use crate::error::{KernelError, shape_error};
use crate::launch::GpuTraits;
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
    /// To IEEE halves, 11 bits, on GPUs that multiply them two at a time. The range of halves is small, so
    /// operands are first multiplied by a power of two, one for all weights and one for each image or row.
    /// Eight products are added in halves and such sums in f32. Products of at most four rows or columns
    /// stay in f32.
    F16,
}

impl Precision {
    /// Name as options and messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// What a kernel's line of words says of it.
    pub(crate) fn line(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::Bf16 => ", rounded to bf16",
            Self::F16 => ", rounded to f16",
        }
    }

    /// What a shape class, by which choices of variants are kept, ends with.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::Bf16 => " bf16",
            Self::F16 => " f16",
        }
    }

    /// What a variant's sample is rounded to.
    pub(crate) fn of_variant(variant: &str) -> Self {
        if variant.ends_with("_f16") { Self::F16 } else { Self::F32 }
    }

    /// Whether a GPU's kernels multiply so.
    pub(crate) fn on_gpus(self, kernel: &'static str, traits: &GpuTraits) -> Result<(), KernelError> {
        match self {
            Self::F32 => Ok(()),
            Self::F16 if traits.f16 => Ok(()),
            Self::F16 => Err(shape_error(
                kernel,
                "the adapter has no arithmetic in halves (SHADER_F16); use f32".into(),
            )),
            Self::Bf16 => {
                Err(shape_error(kernel, "no GPU kernel rounds to bf16; use f32, f16, or the CPU".into()))
            }
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    /// By its name.
    fn from_str(name: &str) -> Result<Self, String> {
        let known = [Self::F32, Self::Bf16, Self::F16];
        let found = known.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| format!("there is no precision '{}'; use f32, bf16 or f16", name.escape_debug()))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
