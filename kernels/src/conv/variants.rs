//! The variants of the three faces, and a layer that shows each.

use super::{Conv, Face, Geometry};
use crate::epilogue::Epilogue;
use crate::family::Size;
use crate::gemm::{REGISTERS, SUBGROUPS, TILE32, TILE32_F16, TILE64, TILE64_F16};
use crate::ladder::{Ladder, Variant, variant};
use crate::precision::Precision;

const CONV: [Variant; 9] = [
    variant("naive", "1 output a thread, from the definition", "more than 64 stride phases"),
    TILE32,
    TILE64,
    REGISTERS,
    variant(
        "matmul",
        "the plain matrix product that it is, by gemm's choice",
        "the kernel covers the image exactly once",
    ),
    SUBGROUPS,
    variant(
        "winograd",
        "9 products for 16 on 2 × 2 outputs of a 4 × 4 kernel at stride 2, as 9 matrix products",
        "software adapters, from 64 tiles and 8 channels on",
    ),
    TILE32_F16,
    TILE64_F16,
];
const CONV_TRANSPOSE: [Variant; 10] = [
    CONV[0],
    CONV[1],
    CONV[2],
    CONV[3],
    CONV[4],
    CONV[5],
    CONV[6],
    variant(
        "direct",
        "4 × 4 pixels of all channels a thread",
        "hardware: onto at most four channels, 4 × 4 kernels at stride 2",
    ),
    TILE32_F16,
    TILE64_F16,
];

/// In the order of the faces.
pub(super) const LADDERS: [Ladder; 3] = [
    Ladder { name: "conv", computes: "conv2d, and the data gradient of conv_transpose2d", variants: &CONV },
    Ladder {
        name: "conv_transpose",
        computes: "conv_transpose2d, and the data gradient of conv2d",
        variants: &CONV_TRANSPOSE,
    },
    Ladder { name: "conv_weight", computes: "the weight gradient of both", variants: &CONV },
];

/// 4 × 4 kernels at stride 2, or ones that cover the image where the variant is a matrix product.
pub(super) fn sample(ladder: &str, variant: &str, size: Size) -> Conv {
    let face = match ladder {
        "conv_transpose" => Face::Transpose,
        "conv_weight" => Face::Weight,
        _ => Face::Conv,
    };
    let transpose = face == Face::Transpose;
    let few = variant == "registers" || (transpose && variant == "direct");
    let typical = size == Size::Typical;
    let batch = if typical { 64 } else { 4 };
    // Channels and side of x, channels of y.
    let (ci, side, co) = match (variant, transpose) {
        ("matmul", _) if typical => (512, 4, 100),
        ("matmul", _) => (10, 4, 7),
        (_, true) if few && typical => (1, 64, 64),
        (_, true) if typical => (64, 32, 128),
        (_, true) if few => (1, 32, 20),
        (_, true) => (10, 32, 20),
        (_, false) if few && typical => (64, 32, 1),
        (_, false) if typical => (64, 32, 128),
        (_, false) if few => (20, 16, 1),
        (_, false) => (20, 16, 40),
    };
    let (stride, pad) = if variant == "matmul" { (1, 0) } else { (2, 1) };
    let y = if variant == "matmul" { 1 } else { side / 2 };
    Conv {
        face,
        geometry: Geometry {
            batch,
            ci,
            co,
            x: [side; 2],
            y: [y; 2],
            kernel: [4; 2],
            stride: [stride; 2],
            pad_low: [pad; 2],
            pad_high: [pad; 2],
            dilation: [1; 2],
        },
        half: false,
        precision: Precision::of_variant(variant),
        epilogue: Epilogue::default(),
    }
}
