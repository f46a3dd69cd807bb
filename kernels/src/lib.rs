//! The kernel families of Ganomede.
//!
//! A [`Kernel`] is plain data: a family with its parameters. From it follow its shape check, its cost, the
//! [`GpuPlan`]s of its variants (WGSL text, constants, workgroup counts, bindings, parameter words: everything a
//! GPU runtime needs and no type of any), and its CPU twin. All buffers are contiguous row-major `f32`.
//!
//! | family | file | WGSL | computes |
//! |---|---|---|---|
//! | [`Conv`](conv::Conv) | `conv.rs` | `conv*.wgsl` | the three faces of the trilinear form ⟨conv(x, w), y⟩ |
//! | [`Gemm`](gemm::Gemm) | `gemm.rs` | `gemm*.wgsl` | batched, transposed matrix products |
//! | [`Pointwise`](pointwise::Pointwise) | `pointwise.rs` | `pointwise.wgsl` | fused element-wise expressions with broadcasting |
//! | [`Reduce`](reduce::Reduce) | `reduce.rs` | `reduce.wgsl` | sums and maxima over any axes of a fused expression |
//! | [`Moments`](moments::Moments) | `moments.rs` | `moments.wgsl` | mean and variance by Welford's method |
//! | [`Copy`](copy::Copy) | `copy.rs` | `copy.wgsl` | slices, pads, transposes, broadcasts, concatenation |
//! | [`MaxPool`](pool::MaxPool) | `pool.rs` | `pool.wgsl` | max-pool indices, their gather and scatter |
//! | [`Sparse`](sparse::Sparse) | `sparse.rs` | `sparse.wgsl` | a fixed sparse matrix along one axis |
//! | [`Random`](random::Random) | `random.rs` | `random.wgsl` | Philox 4×32-10 uniform and normal numbers |

mod blocks;
pub mod catalogue;
mod class;
pub mod conv;
pub mod copy;
pub mod expr;
pub mod gemm;
pub mod half;
mod index;
mod lanes;
pub mod launch;
mod layout;
pub mod moments;
pub mod oracle;
pub mod peak;
pub mod pointwise;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod shaders;
pub mod sparse;
mod tile;

pub use launch::{Access, Bind, Cost, Dispatch, GpuPlan, GpuTraits, Slot};
pub use layout::{MAX_LEN, elements};

/// Why a kernel cannot be built or run as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Parameters that contradict each other.
    #[error("{kernel}: {what}")]
    Shape {
        /// Family name.
        kernel: &'static str,
        /// What does not fit, with the numbers.
        what: String,
    },
    /// A variant name that the family does not have, or that cannot run this shape.
    #[error("{kernel} has no variant '{variant}' for this shape; it has: {known}")]
    Variant {
        /// Family name.
        kernel: &'static str,
        /// The name asked for.
        variant: String,
        /// The names that exist, separated by commas.
        known: String,
    },
    /// A variant that needs what the adapter does not have.
    #[error(
        "{kernel}: variant '{variant}' needs {what}, which the adapter does not have; choose another variant"
    )]
    Missing {
        /// Family name.
        kernel: &'static str,
        /// The variant asked for.
        variant: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// A buffer or grid beyond what the adapter can bind or dispatch.
    #[error(
        "{kernel}: needs {needed} {unit}, the adapter allows {limit}; use a smaller batch, size or width"
    )]
    Limit {
        /// Family name.
        kernel: &'static str,
        /// Amount needed.
        needed: u64,
        /// What the adapter allows.
        limit: u64,
        /// Unit of both, for example "bytes in one binding".
        unit: &'static str,
    },
}

/// One kernel with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Kernel {
    /// Convolution, its transpose, or its weight gradient.
    Conv(conv::Conv),
    /// Matrix product.
    Gemm(gemm::Gemm),
    /// Fused element-wise expression.
    Pointwise(pointwise::Pointwise),
    /// Reduction of a fused expression.
    Reduce(reduce::Reduce),
    /// Mean and variance.
    Moments(moments::Moments),
    /// Strided copies into one output.
    Copy(copy::Copy),
    /// Max pooling by indices.
    MaxPool(pool::MaxPool),
    /// A fixed sparse matrix along one axis.
    Sparse(sparse::Sparse),
    /// Counter-based random numbers.
    Random(random::Random),
}

/// Calls the same method on whichever family the kernel is.
macro_rules! each {
    ($self:expr, $k:ident => $body:expr) => {
        match $self {
            Kernel::Conv($k) => $body,
            Kernel::Gemm($k) => $body,
            Kernel::Pointwise($k) => $body,
            Kernel::Reduce($k) => $body,
            Kernel::Moments($k) => $body,
            Kernel::Copy($k) => $body,
            Kernel::MaxPool($k) => $body,
            Kernel::Sparse($k) => $body,
            Kernel::Random($k) => $body,
        }
    };
}

impl Kernel {
    /// Family name as people know it, for example `conv_transpose`.
    pub fn name(&self) -> &'static str {
        each!(self, k => k.name())
    }

    /// Checks the parameters against each other.
    ///
    /// # Errors
    /// [`KernelError::Shape`] with the numbers that do not fit.
    pub fn check(&self) -> Result<(), KernelError> {
        each!(self, k => k.check())
    }

    /// Elements of each input buffer, in binding order.
    pub fn input_lens(&self) -> Vec<usize> {
        each!(self, k => k.input_lens())
    }

    /// Elements of each output buffer, in binding order.
    pub fn output_lens(&self) -> Vec<usize> {
        each!(self, k => k.output_lens())
    }

    /// Arithmetic and traffic of one launch.
    pub fn cost(&self) -> Cost {
        each!(self, k => k.cost())
    }

    /// Names of the GPU variants, the naive reference first.
    pub fn variants(&self) -> Vec<&'static str> {
        each!(self, k => k.variants())
    }

    /// The GPU plan of `variant`, or of the variant chosen for `traits` where `None`.
    ///
    /// # Errors
    /// [`KernelError`] for a variant that does not exist or a shape beyond the adapter's limits.
    pub fn gpu(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        each!(self, k => k.gpu(traits, variant))
    }

    /// Elements of scratch that [`Kernel::cpu`] needs with `threads` threads.
    pub fn cpu_scratch_len(&self, threads: usize) -> usize {
        each!(self, k => k.cpu_scratch_len(threads))
    }

    /// Runs the CPU twin on the current rayon pool. Buffer lengths are those of [`Kernel::input_lens`] and
    /// [`Kernel::output_lens`]; results do not depend on the number of threads.
    pub fn cpu(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        each!(self, k => k.cpu(inputs, outputs, scratch));
    }
}
