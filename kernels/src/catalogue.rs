//! Every family with its GPU variants in the order in which they are taught: each rung of the ladder, its number, its
//! tile and why it exists. `kernels list` prints this; the choice itself is made beside the plans.

use crate::{Kernel, conv};

/// A kernel family as people ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Name on the command line.
    pub name: &'static str,
    /// What it computes.
    pub computes: &'static str,
    /// Its variants, the naive reference first; numbered from 1.
    pub variants: &'static [Variant],
}

/// One rung of a family's ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Name in plans.
    pub name: &'static str,
    /// What one thread or workgroup computes.
    pub tile: &'static str,
    /// When it is chosen.
    pub chosen: &'static str,
}

const fn variant(name: &'static str, tile: &'static str, chosen: &'static str) -> Variant {
    Variant { name, tile, chosen }
}

const TILE32: Variant = variant(
    "tile32",
    "32 × 32 outputs a workgroup, 4 × 4 a thread, 16 deep in shared memory; split-K",
    "hardware: a side of at most 32, or too few 64 × 64 tiles to fill the adapter",
);
const TILE64: Variant = variant(
    "tile64",
    "64 × 64 outputs a workgroup, 8 × 8 a thread, 16 deep in shared memory; split-K",
    "hardware, otherwise",
);
const REGISTERS: Variant = variant(
    "registers",
    "8 rows × 4 columns a thread (16 × 8 on software adapters), A packed, no shared memory; split-K",
    "software adapters without subgroups; at most four rows of output (output channels of a convolution)",
);
const SUBGROUPS: Variant = variant(
    "subgroups",
    "32 rows × 4 columns a lane of a subgroup (8 in winograd), A shared by shuffles, no shared memory; split-K",
    "software adapters whose subgroups have one size",
);
const MATMUL: Variant = variant(
    "matmul",
    "the plain matrix product that it is, by gemm's choice",
    "the kernel covers the image exactly once",
);
const WINOGRAD: Variant = variant(
    "winograd",
    "9 products for 16 on 2 × 2 outputs of a 4 × 4 kernel at stride 2, as 9 matrix products",
    "software adapters, from 64 tiles and 8 channels on",
);
const CONV: [Variant; 7] = [
    variant("naive", "1 output a thread, from the definition", "more than 64 stride phases"),
    TILE32,
    TILE64,
    REGISTERS,
    MATMUL,
    SUBGROUPS,
    WINOGRAD,
];
const CONV_TRANSPOSE: [Variant; 8] = [
    CONV[0],
    TILE32,
    TILE64,
    REGISTERS,
    MATMUL,
    SUBGROUPS,
    WINOGRAD,
    variant(
        "direct",
        "4 × 4 pixels of all channels a thread",
        "hardware: onto at most four channels, 4 × 4 kernels at stride 2",
    ),
];
const GEMM: [Variant; 6] = [
    variant("naive", "1 output a thread", "matrix × vector with many outputs or a short sum"),
    TILE32,
    TILE64,
    REGISTERS,
    variant(
        "dot",
        "1 output a workgroup of 64",
        "matrix × vector, at most 4096 outputs of sums of 256 and more",
    ),
    SUBGROUPS,
];
const REDUCE: [Variant; 3] = [
    variant("naive", "1 output a thread", "never: the reference"),
    variant(
        "threads",
        "1 segment of an output a thread, joined in a second dispatch",
        "software adapters; kept dimensions innermost; fewer than 64 elements",
    ),
    variant(
        "groups",
        "1 segment of an output a workgroup of 256, a tree in shared memory",
        "hardware, otherwise",
    ),
];
const MOMENTS: [Variant; 3] = [
    variant("naive", "1 channel a thread", "never: the reference"),
    variant(
        "threads",
        "1 segment of a channel a thread, joined in a second dispatch",
        "software adapters; fewer than 64 elements",
    ),
    variant(
        "groups",
        "1 segment of a channel a workgroup of 256, a tree in shared memory",
        "hardware, otherwise",
    ),
];
const POINTWISE: [Variant; 2] = [
    variant("naive", "1 element a thread", "rows that are no multiple of four"),
    variant("quads", "4 consecutive elements a thread, 16-byte words", "otherwise"),
];
const COPY: [Variant; 2] = [
    variant("naive", "1 element a thread", "software adapters; no part is a transposition"),
    variant("tile", "32 × 32 squares through shared memory", "hardware, transpositions"),
];
const RANDOM: [Variant; 2] = [
    variant("naive", "1 number a thread", "never: the reference"),
    variant("blocks", "4 numbers, one Philox block, a thread", "always"),
];
const POOL: [Variant; 1] = [variant("naive", "1 output a thread", "always")];
const SPARSE: [Variant; 1] = POOL;

/// All families.
pub const FAMILIES: [Family; 11] = [
    Family { name: "conv", computes: "conv2d, and the data gradient of conv_transpose2d", variants: &CONV },
    Family {
        name: "conv_transpose",
        computes: "conv_transpose2d, and the data gradient of conv2d",
        variants: &CONV_TRANSPOSE,
    },
    Family { name: "conv_weight", computes: "the weight gradient of both", variants: &CONV },
    Family { name: "gemm", computes: "batched, transposed matrix products", variants: &GEMM },
    Family { name: "pointwise", computes: "fused element-wise expressions", variants: &POINTWISE },
    Family { name: "reduce", computes: "sums and maxima of a fused expression", variants: &REDUCE },
    Family { name: "moments", computes: "mean and variance, for batch norm", variants: &MOMENTS },
    Family { name: "copy", computes: "slices, pads, transposes, concatenation", variants: &COPY },
    Family { name: "max_pool", computes: "max-pool indices, their gather and scatter", variants: &POOL },
    Family { name: "sparse", computes: "a fixed sparse matrix along one axis", variants: &SPARSE },
    Family { name: "random", computes: "Philox uniform and normal numbers", variants: &RANDOM },
];

impl Family {
    /// The family of a kernel.
    pub fn of(kernel: &Kernel) -> &'static Self {
        let index = match kernel {
            Kernel::Conv(conv) => match conv.face {
                conv::Face::Conv => 0,
                conv::Face::Transpose => 1,
                conv::Face::Weight => 2,
            },
            Kernel::Gemm(_) => 3,
            Kernel::Pointwise(_) => 4,
            Kernel::Reduce(_) => 5,
            Kernel::Moments(_) => 6,
            Kernel::Copy(_) => 7,
            Kernel::MaxPool(_) => 8,
            Kernel::Sparse(_) => 9,
            Kernel::Random(_) => 10,
        };
        &FAMILIES[index]
    }

    /// The variant of a number from 1 or a name; `None` where there is none.
    pub fn variant(&self, asked: &str) -> Option<&'static Variant> {
        let number = asked.parse::<usize>().ok().and_then(|number| self.variants.get(number.checked_sub(1)?));
        number.or_else(|| self.variants.iter().find(|variant| variant.name == asked))
    }

    /// `1 naive, 2 tile32, …`, for messages.
    pub fn known(&self) -> String {
        let names: Vec<String> = (1..).zip(self.variants).map(|(n, v)| format!("{n} {}", v.name)).collect();
        names.join(", ")
    }
}
