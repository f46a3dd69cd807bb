//! GPU plans of convolutions and matrix products without a device: the shaders validate as
//! emitted, what they declare is what the plan binds, and the choice of variant is what the documentation
//! says.

use crate::plans;
use crate::plans::{assert_all_variants_consistent, software};
use crate::products::{FACES, square};
use ganomede_kernels::conv::{Conv, Epilogue, Face, Spread};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{GpuTraits, Kernel, KernelError, Precision};

/// Leaky ReLU of scale[channel] · acc + shift[channel] + residual · gain.
fn epilogue() -> Epilogue {
    let code = vec![
        Instr::Operand(0),
        Instr::Operand(1),
        Instr::Binary(Binary::Mul, 0, 1),
        Instr::Operand(2),
        Instr::Binary(Binary::Add, 2, 3),
        Instr::Operand(3),
        Instr::Operand(4),
        Instr::Binary(Binary::Mul, 5, 6),
        Instr::Binary(Binary::Add, 4, 7),
        Instr::Unary(Unary::LeakyRelu(Num(0.2)), 8),
    ];
    Epilogue {
        operands: vec![Spread::Channel, Spread::Channel, Spread::Full, Spread::Scalar],
        expr: Expr { code },
    }
}

fn conv(
    face: Face,
    batch: usize,
    channels: [usize; 2],
    x: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
) -> Conv {
    let geometry = square(batch, channels, x, kernel, stride, pad);
    let epilogue = if face == Face::Weight { Epilogue::default() } else { epilogue() };
    Conv { face, geometry, half: false, precision: Precision::F32, epilogue }
}

fn gemm(batch: usize, m: usize, n: usize, k: usize) -> Gemm {
    let epilogue = epilogue();
    Gemm {
        batch,
        m,
        n,
        k,
        trans_a: false,
        trans_b: false,
        batched_a: true,
        batched_b: true,
        half_b: false,
        precision: Precision::F32,
        epilogue,
    }
}

/// A software adapter with subgroups of eight lanes.
fn subgroups() -> GpuTraits {
    GpuTraits { subgroup: Some(8), ..software() }
}

fn chosen(kernel: &Kernel, traits: &GpuTraits) -> &'static str {
    kernel.gpu(traits, None).unwrap().variant
}

#[test]
fn shaders_declare_what_convolutions_bind() {
    for face in FACES {
        for plain in [false, true] {
            for mut conv in [
                conv(face, 2, [3, 5], 9, 4, 2, 1),
                conv(face, 2, [3, 5], 9, 3, 3, 0),
                conv(face, 3, [300, 2], 4, 4, 1, 0),
                conv(face, 64, [128, 64], 8, 4, 2, 1),
            ] {
                if plain {
                    conv.epilogue = Epilogue::default();
                }
                assert_all_variants_consistent(&Kernel::Conv(conv));
            }
        }
    }
}

#[test]
fn shaders_declare_what_matrix_products_bind() {
    for gemm in [gemm(1, 1, 1, 1), gemm(2, 70, 33, 17), gemm(1, 64, 10, 4096)] {
        assert_all_variants_consistent(&Kernel::Gemm(gemm));
    }
}

#[test]
fn stride_phases_cover_every_output_once() {
    // k5 s3 with pad 2: phases of 2, 2 and 1 taps along each axis, nine in three dispatches.
    let kernel = Kernel::Conv(conv(Face::Transpose, 1, [8, 8], 10, 5, 3, 2));
    let plan = kernel.gpu(&GpuTraits::default(), Some("tile32")).unwrap();
    let slices: Vec<u32> = plan.dispatches.iter().map(|d| d.params[3]).collect();
    assert_eq!(slices, [4, 4, 1]);
    let outputs: u32 = plan
        .dispatches
        .iter()
        .flat_map(|d| (0..d.params[3] as usize).map(|i| d.params[24 + 8 * i + 2] * d.params[24 + 8 * i + 3]))
        .sum();
    assert_eq!(outputs, 100);
}

#[test]
fn choice_follows_adapter_and_shape() {
    let hardware = GpuTraits::default();
    let middle = |face| Kernel::Conv(conv(face, 64, [64, 128], 32, 4, 2, 1));
    for face in FACES {
        assert_eq!(chosen(&middle(face), &hardware), "tile64");
        assert_eq!(chosen(&middle(face), &software()), "winograd");
        let image = Kernel::Conv(conv(face, 64, [3, 64], 64, 4, 2, 1));
        let (few, three) = (
            Kernel::Conv(conv(face, 1, [64, 128], 8, 4, 2, 1)),
            Kernel::Conv(conv(face, 2, [64, 128], 8, 3, 1, 1)),
        );
        // What adds over the batch follows it; what is made of an image does not.
        let expected = if face == Face::Weight { "registers" } else { "winograd" };
        assert_eq!(chosen(&few, &software()), expected);
        assert_eq!(chosen(&three, &software()), "registers");
        let expected = if face == Face::Transpose { "direct" } else { "registers" };
        assert_eq!(chosen(&image, &software()), expected);
        assert_eq!(chosen(&Kernel::Conv(conv(face, 2, [64, 128], 8, 3, 1, 1)), &subgroups()), "subgroups");
        assert_eq!(chosen(&Kernel::Conv(conv(face, 64, [512, 1], 4, 4, 1, 0)), &hardware), "matmul");
    }
    // Three output channels waste 61 of 64 rows of a tile.
    assert_eq!(chosen(&Kernel::Conv(conv(Face::Transpose, 64, [3, 64], 64, 4, 2, 1)), &hardware), "direct");
    assert_eq!(chosen(&Kernel::Conv(conv(Face::Conv, 64, [64, 3], 64, 3, 1, 1)), &hardware), "registers");
    // One image of the last layers: too few 64 × 64 tiles.
    assert_eq!(chosen(&Kernel::Conv(conv(Face::Conv, 1, [64, 128], 16, 4, 2, 1)), &hardware), "tile32");
    assert_eq!(chosen(&Kernel::Conv(conv(Face::Transpose, 1, [2, 2], 64, 64, 64, 0)), &hardware), "matmul");
    assert_eq!(chosen(&Kernel::Conv(conv(Face::Transpose, 1, [2, 2], 64, 32, 32, 0)), &hardware), "naive");

    for (gemm, name) in [
        (gemm(1, 64, 1, 8192), "dot"),
        (gemm(1, 1, 8192, 100), "tile32"),
        (gemm(1, 1024, 1024, 1024), "tile64"),
        (gemm(1, 64, 100, 64), "tile32"),
        (gemm(1, 3, 4096, 64), "tile32"),
    ] {
        assert_eq!(chosen(&Kernel::Gemm(gemm), &hardware), name);
    }
    assert_eq!(chosen(&Kernel::Gemm(gemm(1, 64, 100, 64)), &software()), "registers");
    assert_eq!(chosen(&Kernel::Gemm(gemm(1, 64, 100, 64)), &subgroups()), "subgroups");
    assert_eq!(chosen(&Kernel::Gemm(gemm(1, 3, 100, 64)), &subgroups()), "subgroups");
}

/// Packing weights takes longer than it saves until many columns read them.
#[test]
fn weights_are_packed_for_many_columns_alone() {
    let dispatches = |batch| {
        let kernel = Kernel::Conv(conv(Face::Conv, batch, [128, 256], 8, 4, 2, 1));
        kernel.gpu(&subgroups(), Some("subgroups")).unwrap().dispatches.len()
    };
    // 16 columns an image, 32 a tile.
    assert_eq!([2, 8, 46, 48].map(dispatches), [2, 2, 2, 3]);
    // Sums of 16 are over before another shader is compiled.
    let image = Kernel::Conv(conv(Face::Conv, 64, [1, 64], 64, 4, 2, 1));
    assert_eq!(image.gpu(&subgroups(), Some("subgroups")).unwrap().dispatches.len(), 2);
}

/// Register tiles keep packed weights and all sums in scratch; where that does not fit, tiles do without.
#[test]
fn scratch_beyond_one_binding_falls_back_to_tiles() {
    let kernel = Kernel::Conv(conv(Face::Conv, 16, [3, 64], 64, 4, 2, 1));
    let out_bytes = 4 * kernel.output_lens()[0] as u64;
    assert_eq!(chosen(&kernel, &GpuTraits { max_binding_bytes: 2 * out_bytes, ..software() }), "registers");
    assert_eq!(chosen(&kernel, &GpuTraits { max_binding_bytes: out_bytes, ..software() }), "tile64");
}

#[test]
fn few_tiles_split_the_inner_index() {
    let kernel = Kernel::Conv(conv(Face::Weight, 64, [3, 64], 64, 4, 2, 1));
    let plan = kernel.gpu(&GpuTraits::default(), Some("tile64")).unwrap();
    assert_eq!(plan.dispatches.len(), 2);
    assert_eq!(plan.dispatches[0].params[4], 128);
    assert_eq!(plan.scratch_lens, [128 * 64 * 48]);
    let wide = Kernel::Gemm(gemm(1, 1024, 1024, 1024));
    assert_eq!(wide.gpu(&GpuTraits::default(), Some("tile64")).unwrap().scratch_lens, []);
}

/// Subgroups of a size that does not divide a tile, or of several sizes, cannot share it.
#[test]
fn subgroups_are_refused_where_their_size_is_not_one_that_fits() {
    let kernel = Kernel::Gemm(gemm(1, 64, 100, 64));
    for lanes in [None, Some(1), Some(64), Some(128)] {
        let traits = GpuTraits { subgroup: lanes, ..software() };
        let error = kernel.gpu(&traits, Some("subgroups")).unwrap_err();
        assert!(matches!(error, KernelError::Missing { variant: "subgroups", .. }), "{error}");
        assert_eq!(chosen(&kernel, &traits), "registers");
    }
    for lanes in [4, 8, 16, 32] {
        let plan = kernel.gpu(&GpuTraits { subgroup: Some(lanes), ..software() }, None).unwrap();
        assert_eq!(plan.variant, "subgroups");
        plan.dispatches.iter().for_each(plans::assert_consistent);
    }
}

/// Tiles of halves for products in f16, whatever the adapter that has them; none for what has few rows or
/// columns, nor for any other product.
#[test]
fn halves_are_multiplied_where_products_are_in_f16() {
    let halves = |gemm: Gemm| Kernel::Gemm(Gemm { precision: Precision::F16, ..gemm });
    for traits in [GpuTraits::default(), subgroups()] {
        let with = GpuTraits { f16: true, ..traits.clone() };
        assert_eq!(chosen(&halves(gemm(1, 2048, 2048, 64)), &with), "tile64_f16");
        assert_eq!(chosen(&halves(gemm(1, 64, 30, 64)), &with), "tile32_f16");
        for few in [gemm(1, 64, 4, 64), gemm(1, 64, 1, 64), gemm(1, 64, 1, 300)] {
            assert!(!chosen(&halves(few), &with).ends_with("_f16"));
        }
        assert!(!chosen(&Kernel::Gemm(gemm(1, 2048, 2048, 64)), &with).ends_with("_f16"));
        let error = halves(gemm(1, 64, 64, 64)).gpu(&traits, None).unwrap_err();
        assert!(error.to_string().contains("no arithmetic in halves (SHADER_F16)"), "{error}");
        for face in FACES {
            let kernel = Conv { precision: Precision::F16, ..conv(face, 4, [20, 40], 16, 4, 2, 1) };
            assert!(chosen(&Kernel::Conv(kernel.clone()), &with).ends_with("_f16"), "{face:?}");
            assert_all_variants_consistent(&Kernel::Conv(kernel));
        }
    }
    for (batch, m, n, k) in [(1, 70, 66, 260), (3, 5, 9, 33)] {
        assert_all_variants_consistent(&halves(gemm(batch, m, n, k)));
    }
}

/// Nine products of padded lines, and the sums of all tiles.
#[test]
fn winograd_keeps_its_transforms_in_scratch() {
    let plan = |face| {
        Kernel::Conv(conv(face, 2, [5, 6], 10, 4, 2, 1)).gpu(&GpuTraits::default(), Some("winograd")).unwrap()
    };
    // 5 × 5 outputs are 3 × 3 tiles of an image.
    let (tiles, phases, channels) = (64, 64, 64);
    assert_eq!(plan(Face::Conv).scratch_lens, [9 * 8 * 18, 9 * channels * 20, 9 * tiles * 20]);
    assert_eq!(plan(Face::Transpose).scratch_lens, [9 * 20 * 18, 9 * phases * 8, 9 * tiles * 8]);
    assert_eq!(plan(Face::Weight).scratch_lens, [9 * 8 * 20, 9 * channels * 20, 9 * phases * 20]);
    for face in FACES {
        assert_eq!(plan(face).dispatches.len(), 4);
        let refused = Kernel::Conv(conv(face, 2, [5, 6], 10, 4, 1, 1));
        assert!(!refused.variants().contains(&"winograd"));
    }
}

#[test]
fn grids_beyond_one_dimension_fold() {
    let traits = GpuTraits { max_workgroups: 100, ..GpuTraits::default() };
    let plan = Kernel::Gemm(gemm(1, 300, 300, 4)).gpu(&traits, Some("naive")).unwrap();
    let [x, y, z] = plan.dispatches[0].workgroups;
    assert!(x <= 100 && y <= 100 && z == 1 && x * y >= 90_000_u32.div_ceil(64));
}

#[test]
fn unknown_variants_and_large_buffers_are_refused() {
    let kernel = Kernel::Gemm(gemm(1, 8, 8, 8));
    let error = kernel.gpu(&GpuTraits::default(), Some("magic")).unwrap_err();
    assert!(error.to_string().contains("naive, dot, tile64"), "{error}");
    let error = Kernel::Conv(conv(Face::Conv, 1, [1, 1], 5, 3, 1, 0))
        .gpu(&GpuTraits::default(), Some("matmul"))
        .unwrap_err();
    assert!(matches!(error, KernelError::Variant { kernel: "conv", .. }));
    let small = GpuTraits { max_binding_bytes: 1 << 20, ..GpuTraits::default() };
    let error = Kernel::Gemm(gemm(1, 1024, 1024, 8)).gpu(&small, None).unwrap_err();
    assert!(matches!(error, KernelError::Limit { needed: 4_194_304, .. }), "{error}");
}
