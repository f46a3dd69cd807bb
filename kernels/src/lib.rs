//! The kernel families of Ganomede.
//!
//! A [`Kernel`] is plain data: a family with its parameters. From it follow its shape check, its cost, the
//! [`GpuPlan`]s of its variants (WGSL text, constants, workgroup counts, bindings, parameter words:
//! everything a GPU runtime needs and no type of any), and its CPU twin. All buffers are contiguous row-major
//! `f32`.
//!
//! What a family owes is [`Family`]. Each has a folder of the name of its shaders:
//!
//! | family | folder | WGSL | computes |
//! |---|---|---|---|
//! | [`Conv`](conv::Conv) | `conv/` | `conv*.wgsl` | the three faces of the trilinear form ⟨conv(x, w), y⟩ |
//! | [`Gemm`](gemm::Gemm) | `gemm/` | `gemm*.wgsl` | batched, transposed matrix products |
//! | [`Pointwise`](pointwise::Pointwise) | `pointwise/` | `pointwise*.wgsl` | fused element-wise expressions with broadcasting |
//! | [`Reduce`](reduce::Reduce) | `reduce/` | `reduce.wgsl` | sums and maxima over any axes of a fused expression |
//! | [`Moments`](moments::Moments) | `moments/` | `moments.wgsl` | mean and variance by Welford's method |
//! | [`Copy`](copy::Copy) | `copy/` | `copy.wgsl` | slices, pads, transposes, broadcasts, concatenation |
//! | [`MaxPool`](pool::MaxPool) | `pool/` | `pool.wgsl` | max-pool indices, their gather and scatter |
//! | [`Sparse`](sparse::Sparse) | `sparse/` | `sparse.wgsl` | a fixed sparse matrix along one axis |
//! | [`Random`](random::Random) | `random/` | `random.wgsl` | Philox 4×32-10 uniform and normal numbers |

mod blocks;
pub mod conv;
pub mod copy;
mod epilogue;
mod error;
pub mod expr;
mod family;
pub mod gemm;
pub mod half;
mod ladder;
mod lanes;
pub mod launch;
mod layout;
pub mod moments;
pub mod peak;
mod plan;
pub mod pointwise;
pub mod pool;
mod precision;
pub mod random;
pub mod reduce;
pub mod sample;
mod sections;
pub mod shaders;
mod space;
pub mod sparse;
mod tasks;
mod text;
mod tile;

pub use error::KernelError;
pub use family::{Family, Size, Values};
pub use ladder::{Ladder, Variant};
pub use launch::{Access, Bind, Cost, Dispatch, GpuPlan, GpuTraits, Slot};
pub use layout::{MAX_LEN, elements};
pub use precision::Precision;
pub use tile::bf16::bf16_instructions;

/// Makes the enum of all families, what is known of each without parameters, and the one place where the
/// methods of [`Kernel`] find their family.
macro_rules! families {
    ($($(#[$doc:meta])* $kernel:ident: $folder:ident::$parameters:ident,)*) => {
        /// One kernel with its parameters.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Kernel {
            $($(#[$doc])* $kernel($folder::$parameters),)*
        }

        /// Every family.
        pub const FAMILIES: &[Listed] = &[$(Listed {
            folder: stringify!($folder),
            ladders: <$folder::$parameters as Family>::ladders,
            sample: |ladder, variant, size| Kernel::$kernel(Family::sample(ladder, variant, size)),
        },)*];

        impl Kernel {
            /// The parameters.
            pub fn family(&self) -> &dyn Family {
                match self {
                    $(Self::$kernel(parameters) => parameters,)*
                }
            }
        }
    };
}

families! {
    /// Convolution, its transpose, or its weight gradient.
    Conv: conv::Conv,
    /// Matrix product.
    Gemm: gemm::Gemm,
    /// Fused element-wise expression.
    Pointwise: pointwise::Pointwise,
    /// Reduction of a fused expression.
    Reduce: reduce::Reduce,
    /// Mean and variance.
    Moments: moments::Moments,
    /// Strided copies into one output.
    Copy: copy::Copy,
    /// Max pooling by indices.
    MaxPool: pool::MaxPool,
    /// A fixed sparse matrix along one axis.
    Sparse: sparse::Sparse,
    /// Counter-based random numbers.
    Random: random::Random,
}

/// A family in the list of all.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Name of its folder, of its shader, of its test and of its page in `docs/kernels/`.
    pub folder: &'static str,
    /// Its ladders: [`Family::ladders`].
    pub ladders: fn() -> &'static [Ladder],
    /// A kernel that shows a variant of one of its ladders: [`Family::sample`].
    pub sample: fn(&str, &str, Size) -> Kernel,
}

/// The ladders of all families, in the order of the list.
pub fn ladders() -> impl Iterator<Item = &'static Ladder> + Clone {
    FAMILIES.iter().flat_map(|family| (family.ladders)())
}

impl Kernel {
    /// A kernel that shows a variant of a ladder.
    ///
    /// # Errors
    /// [`KernelError::Variant`] where the ladder has no such variant.
    pub fn sample(ladder: &Ladder, variant: &str, size: Size) -> Result<Self, KernelError> {
        let listed = FAMILIES.iter().find(|family| (family.ladders)().contains(ladder));
        match listed.filter(|_| ladder.variants.iter().any(|known| known.name == variant)) {
            Some(listed) => Ok((listed.sample)(ladder.name, variant, size)),
            None => Err(KernelError::Variant {
                kernel: ladder.name,
                variant: variant.to_owned(),
                known: ladder.known(),
            }),
        }
    }

    /// Numbers for its inputs, and for what its outputs hold before a launch: the same for the same seed.
    pub fn sample_data(&self, seed: u64) -> sample::Data {
        sample::data(self.family(), seed)
    }

    /// [`Family::name`].
    pub fn name(&self) -> &'static str {
        self.family().name()
    }

    /// [`Family::check`].
    ///
    /// # Errors
    /// [`KernelError::Shape`] with the numbers that do not fit.
    pub fn check(&self) -> Result<(), KernelError> {
        self.family().check()
    }

    /// [`Family::input_lens`].
    pub fn input_lens(&self) -> Vec<usize> {
        self.family().input_lens()
    }

    /// [`Family::output_lens`].
    pub fn output_lens(&self) -> Vec<usize> {
        self.family().output_lens()
    }

    /// [`Family::cost`].
    pub fn cost(&self) -> Cost {
        self.family().cost()
    }

    /// Name of the kernel's shape class, for example `conv 64→128 x 32×32 k 4×4 s 2×2 p 1×1 d 1×1 n 64`, for
    /// which one choice of variant serves; `None` where there is only one variant.
    pub fn class(&self) -> Option<String> {
        let family = self.family();
        (family.variants().len() > 1).then(|| format!("{} {}", family.name(), family.class()))
    }

    /// [`Family::line`].
    pub fn line(&self) -> String {
        self.family().line()
    }

    /// [`Family::ladder`].
    pub fn ladder(&self) -> &'static Ladder {
        self.family().ladder()
    }

    /// [`Family::variants`].
    pub fn variants(&self) -> Vec<&'static str> {
        self.family().variants()
    }

    /// [`Family::plan`].
    ///
    /// # Errors
    /// [`KernelError`] for a variant that does not exist or a shape beyond the adapter's limits.
    pub fn gpu(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        self.family().plan(traits, variant)
    }

    /// [`Family::twin_scratch_len`].
    pub fn cpu_scratch_len(&self, threads: usize) -> usize {
        self.family().twin_scratch_len(threads)
    }

    /// [`Family::twin`].
    pub fn cpu(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        self.family().twin(inputs, outputs, scratch);
    }

    /// [`Family::twin_weights_len`].
    pub fn cpu_weights_len(&self) -> usize {
        self.family().twin_weights_len()
    }

    /// [`Family::twin_weights`].
    pub fn cpu_weights(&self, weights: &[f32], kept: &mut [f32]) {
        self.family().twin_weights(weights, kept);
    }

    /// [`Family::twin_kept_scratch_len`].
    pub fn cpu_kept_scratch_len(&self, threads: usize) -> usize {
        self.family().twin_kept_scratch_len(threads)
    }

    /// [`Family::twin_kept`].
    pub fn cpu_kept(&self, inputs: &[&[f32]], kept: &[f32], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        self.family().twin_kept(inputs, kept, outputs, scratch);
    }

    /// [`Family::oracle`].
    pub fn oracle(&self, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f64>> {
        self.family().oracle(inputs, before)
    }
}
