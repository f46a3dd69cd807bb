//! What a kernel family owes.

use crate::error::KernelError;
use crate::ladder::Ladder;
use crate::launch::{Cost, GpuPlan, GpuTraits, Slot};
use crate::precision::Precision;
use crate::text::rounded;
use std::fmt::Debug;

/// A kernel family. Its parameters are plain data, and from them follows everything that a program, a device
/// or a reader wants to know of a launch. [`crate::Kernel`] holds one of them; whoever has the parameters
/// themselves calls the same methods on those.
pub trait Family: Debug {
    /// Name as people know it, for example `conv_transpose`; it stands in messages and profiles.
    fn name(&self) -> &'static str;

    /// Checks the parameters against each other.
    ///
    /// # Errors
    /// [`KernelError::Shape`] with the numbers that do not fit.
    fn check(&self) -> Result<(), KernelError>;

    /// Elements of each input buffer, in binding order.
    fn input_lens(&self) -> Vec<usize>;

    /// Elements of each output buffer, in binding order.
    fn output_lens(&self) -> Vec<usize>;

    /// FLOPs, where a multiply-add counts two, and bytes, each buffer once.
    fn cost(&self) -> Cost;

    /// What the operands of its products are rounded to.
    fn precision(&self) -> Precision {
        Precision::F32
    }

    /// The sizes that a choice of variant depends on, those that follow the batch rounded up to powers of
    /// two, so that a choice measured at one batch holds for its neighbours.
    fn class(&self) -> String {
        rounded(self.output_lens().iter().sum()).to_string()
    }

    /// What goes in and what comes out, as a reader of the model thinks of it: `64×100 · 100×8192 → 64×8192`.
    fn line(&self) -> String;

    /// The variants that `kernels list` shows: one ladder, or one for each face.
    fn ladders() -> &'static [Ladder]
    where
        Self: Sized;

    /// The ladder of these parameters.
    fn ladder(&self) -> &'static Ladder;

    /// Names of the GPU variants that compute these parameters, the naive reference first.
    fn variants(&self) -> Vec<&'static str> {
        self.ladder().variants.iter().map(|variant| variant.name).collect()
    }

    /// The GPU plan of `variant`, or of the variant chosen for `traits` where `None`.
    ///
    /// # Errors
    /// [`KernelError`] for a variant that does not exist or a shape beyond the adapter's limits.
    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError>;

    /// Elements of scratch that the twin needs with `threads` threads.
    fn twin_scratch_len(&self, _threads: usize) -> usize {
        0
    }

    /// The CPU twin, on the current rayon pool. Results do not depend on the number of threads.
    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]);

    /// Elements of the form in which the twin multiplies by its second input, for who keeps it while that
    /// input stays the same: weights of a scorer, or of a search. 0 where there is no such form.
    fn twin_weights_len(&self) -> usize {
        0
    }

    /// Brings the second input into that form.
    fn twin_weights(&self, _weights: &[f32], _kept: &mut [f32]) {}

    /// Elements of scratch that [`Family::twin_kept`] needs.
    fn twin_kept_scratch_len(&self, threads: usize) -> usize {
        self.twin_scratch_len(threads)
    }

    /// The twin with that form of its second input beside it: the same bits, without making the form anew.
    fn twin_kept(&self, inputs: &[&[f32]], _kept: &[f32], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        self.twin(inputs, outputs, scratch);
    }

    /// The operation in plain f64 loops, by its definition and not by the kernel's method: what twins and
    /// variants are tested against. `before` holds what the outputs held before the launch.
    fn oracle(&self, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f64>>;

    /// Parameters that show a variant of one of [`Family::ladders`].
    fn sample(ladder: &str, variant: &str, size: Size) -> Self
    where
        Self: Sized;

    /// Numbers that make sense in a buffer, for measuring and comparing.
    fn values(&self, _buffer: Slot) -> Values {
        Values::Tame
    }
}

/// How large a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A layer of a 64 × 64 DCGAN, or what the variant is for: `kernels list` and `kernels isa` show it.
    Typical,
    /// Small enough for plain f64 loops, and no multiple of any tile where the variant allows it.
    Small,
}

/// Numbers of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// Between 0.1 and 1, where every function of the expression language is tame.
    Tame,
    /// Between −1 and 1, for sums of products.
    Signed,
    /// Whole numbers below this one: positions.
    Below(usize),
    /// One number everywhere.
    Fixed(f32),
}
