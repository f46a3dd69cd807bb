//! Weights in halves on the CPU: the bits are those of the same weights in f32.

use ganomede_kernels::conv::{Conv, Epilogue, Face, Spread};
use ganomede_kernels::expr::{Binary, Expr, Instr};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{Kernel, Precision, half};

use crate::products::{inputs, square};
use crate::twins::run;

/// Adds a bias.
fn bias() -> Epilogue {
    let code = vec![Instr::Operand(0), Instr::Operand(1), Instr::Binary(Binary::Add, 0, 1)];
    Epilogue { operands: vec![Spread::Channel], expr: Expr { code } }
}

/// Compares `halves` with `whole`, the same kernel of weights in f32.
fn assert_same_bits(whole: &Kernel, halves: &Kernel) {
    let mut inputs = inputs(whole, 7);
    let packed = half::pack(&inputs[1]);
    half::unpack(&packed, &mut inputs[1]);
    let expected = run(whole, &inputs, 2);
    inputs[1] = packed;
    for threads in [1, 3] {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&run(halves, &inputs, threads)), bits(&expected), "{halves:?}");
    }
    let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let oracle = halves.oracle(&slices, &[&expected]).remove(0);
    for (&got, want) in expected.iter().zip(oracle) {
        assert!((f64::from(got) - want).abs() <= 1e-4 * want.abs().max(1.0), "{got} is not {want}");
    }
}

#[test]
fn convolutions_of_halves_give_the_bits_of_f32() {
    let layers = [
        (2, [3, 5], 9, 3, 1, 1),    // an odd number of weights
        (2, [16, 20], 16, 4, 2, 1), // Winograd on stride phases
        (1, [40, 24], 4, 4, 1, 0),  // a matrix product
        (64, [1, 16], 16, 4, 2, 1),
        (3, [17, 2], 8, 5, 2, 2),
    ];
    for (batch, channels, x, kernel, stride, pad) in layers {
        let geometry = square(batch, channels, x, kernel, stride, pad);
        for face in [Face::Conv, Face::Transpose] {
            let conv = |half| {
                Kernel::Conv(Conv { face, geometry, half, precision: Precision::F32, epilogue: bias() })
            };
            assert_same_bits(&conv(false), &conv(true));
        }
        let weight = Conv {
            face: Face::Weight,
            geometry,
            half: true,
            precision: Precision::F32,
            epilogue: Epilogue::default(),
        };
        assert!(Kernel::Conv(weight).check().unwrap_err().to_string().contains("halves"));
    }
}

#[test]
fn products_of_halves_give_the_bits_of_f32() {
    for (batch, m, n, k) in [(1, 1, 1, 1), (1, 1, 300, 33), (2, 33, 17, 5), (1, 64, 1, 257), (1, 5, 70, 300)]
    {
        for trans_b in [false, true] {
            for batched_b in [false, true] {
                let gemm = |half_b| {
                    Kernel::Gemm(Gemm {
                        batch,
                        m,
                        n,
                        k,
                        trans_a: false,
                        trans_b,
                        batched_a: true,
                        batched_b,
                        half_b,
                        precision: Precision::F32,
                        epilogue: bias(),
                    })
                };
                assert_same_bits(&gemm(false), &gemm(true));
            }
        }
    }
}
