//! The convolution faces on the CPU against plain f64 loops.

use ganomede_kernels::conv::{Conv, Epilogue, Face, Geometry, Spread};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::{Family, Kernel, KernelError, Precision};
use proptest::prelude::*;

use crate::products::{
    self, FACES, any_geometry, any_halving, any_output_padding, noise, relative_error, with_sizes,
};
use crate::twins;

fn geometry(
    batch: usize,
    channels: [usize; 2],
    x: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
) -> Geometry {
    let [ci, co] = channels;
    let dilation = [1, 1];
    let g = Geometry { batch, ci, co, x, y: [1, 1], kernel, stride, pad_low: pad, pad_high: pad, dilation };
    with_sizes(g).unwrap()
}

fn plain(face: Face, geometry: Geometry) -> Conv {
    Conv { face, geometry, half: false, precision: Precision::F32, epilogue: Epilogue::default() }
}

fn inputs(conv: &Conv, seed: u32) -> Vec<Vec<f32>> {
    products::inputs(&Kernel::Conv(conv.clone()), seed)
}

fn run(conv: &Conv, inputs: &[Vec<f32>], threads: usize) -> Vec<f32> {
    twins::run(&Kernel::Conv(conv.clone()), inputs, threads)
}

fn assert_matches_oracle(conv: &Conv, seed: u32) {
    let data = inputs(conv, seed);
    let got = run(conv, &data, 2);
    let slices: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    let error = relative_error(&got, &conv.oracle(&slices, &[])[0]);
    assert!(error < 2e-5, "{conv:?}: relative error {error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn faces_match_the_oracle_on_halvings_of_any_side(g in any_halving(), seed in 0u32..1000) {
        for face in FACES {
            assert_matches_oracle(&plain(face, g), seed);
        }
    }

    #[test]
    fn faces_match_the_oracle_with_output_padding(g in any_output_padding(), seed in 0u32..1000) {
        for face in FACES {
            assert_matches_oracle(&plain(face, g), seed);
        }
    }

    #[test]
    fn faces_match_the_oracle_on_any_geometry(g in any_geometry(), seed in 0u32..1000) {
        for face in FACES {
            assert_matches_oracle(&plain(face, g), seed);
        }
    }

    /// The shapes that GANs are made of get their own paths: k4 s2 p1 and k3 s1 p1, k5 s2 p2.
    #[test]
    fn faces_match_the_oracle_on_gan_geometries(
        batch in 1usize..=5,
        channels in [1usize..=40, 1usize..=40],
        half in [1usize..=12, 1usize..=12],
        form in 0usize..4,
        seed in 0u32..1000,
    ) {
        let (kernel, stride, pad) = [(4, 2, 1), (3, 1, 1), (5, 2, 2), (1, 1, 0)][form];
        let x = half.map(|h| h * stride);
        let g = geometry(batch, channels, x, [kernel; 2], [stride; 2], [pad; 2]);
        for face in FACES {
            assert_matches_oracle(&plain(face, g), seed);
        }
    }
}

#[test]
fn dcgan_layers_match_the_oracle() {
    for (channels, size) in [([1, 64], 32), ([3, 64], 16), ([64, 128], 16), ([128, 70], 8), ([33, 256], 8)] {
        let g = geometry(3, channels, [size; 2], [4; 2], [2; 2], [1; 2]);
        for face in FACES {
            assert_matches_oracle(&plain(face, g), 7);
        }
    }
    // Several groups of tiles whose bounds cut images, with one and with several parts to add.
    for channels in [[20, 40], [130, 24]] {
        let g = geometry(9, channels, [26, 22], [4; 2], [2; 2], [1; 2]);
        for face in FACES {
            assert_matches_oracle(&plain(face, g), 9);
        }
    }
    let projection = geometry(64, [100, 48], [4, 4], [4, 4], [1, 1], [0, 0]);
    for face in FACES {
        assert_matches_oracle(&plain(face, projection), 8);
    }
}

/// Products of transforms and sums of thousands of terms: the largest error of f32 over the root mean square.
#[test]
fn rounding_stays_small_in_deep_layers() {
    for (channels, size, batch) in [([256, 64], 8, 16), ([64, 128], 16, 4), ([256, 64], 8, 2)] {
        let g = geometry(batch, channels, [size; 2], [4; 2], [2; 2], [1; 2]);
        for face in FACES {
            let conv = plain(face, g);
            let data = inputs(&conv, 5);
            let slices: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
            let error = relative_error(&run(&conv, &data, 2), &conv.oracle(&slices, &[])[0]);
            assert!(error < 6e-6, "{face:?} {g:?}: {error}");
        }
    }
}

/// ⟨conv(x, w), y⟩ = ⟨x, conv_transpose(y, w)⟩ = ⟨w, conv_weight(x, y)⟩.
#[test]
fn the_faces_are_partial_derivatives_of_one_trilinear_form() {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    for (channels, kernel, stride, pad) in
        [([5, 7], 4, 2, 1), ([1, 16], 4, 2, 1), ([17, 3], 3, 1, 1), ([2, 2], 2, 3, 0)]
    {
        let g = geometry(3, channels, [14, 10], [kernel; 2], [stride; 2], [pad; 2]);
        let (x, w, y) = (noise(1, g.x_len()), noise(2, g.w_len()), noise(3, g.y_len()));
        let by_y = dot(&run(&plain(Face::Conv, g), &[x.clone(), w.clone()], 2), &y);
        let by_x = dot(&run(&plain(Face::Transpose, g), &[y.clone(), w.clone()], 2), &x);
        let by_w = dot(&run(&plain(Face::Weight, g), &[x, y], 2), &w);
        let scale = by_y.abs().max(1.0) * 1e-5;
        assert!((by_y - by_x).abs() < scale && (by_y - by_w).abs() < scale, "{g:?}: {by_y} {by_x} {by_w}");
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_repetition() {
    for (batch, channels, size) in [(5, [16, 32], 16), (1, [32, 24], 8), (9, [1, 64], 32)] {
        let g = geometry(batch, channels, [size; 2], [4; 2], [2; 2], [1; 2]);
        for face in FACES {
            let conv = plain(face, g);
            let data = inputs(&conv, 11);
            let one: Vec<u32> = run(&conv, &data, 1).into_iter().map(f32::to_bits).collect();
            for threads in [1, 2, 3] {
                let again: Vec<u32> = run(&conv, &data, threads).into_iter().map(f32::to_bits).collect();
                assert_eq!(one, again, "{face:?} {g:?} on {threads} threads");
            }
        }
    }
}

/// Batch norm as scale and shift, leaky ReLU, a mask by another tensor, and a form that is no chain.
fn epilogues() -> Vec<Epilogue> {
    use Instr::{Binary as B, Const, Operand, Unary as U};
    let slope = Num(0.2);
    let expr = |code: &[Instr]| Expr { code: code.to_vec() };
    vec![
        Epilogue {
            operands: vec![Spread::Channel],
            expr: expr(&[Operand(0), Operand(1), B(Binary::Add, 0, 1), U(Unary::Tanh, 2)]),
        },
        Epilogue {
            operands: vec![Spread::Channel, Spread::Channel],
            expr: expr(&[
                Operand(1),
                Operand(0),
                B(Binary::Mul, 0, 1),
                Operand(2),
                B(Binary::Add, 2, 3),
                U(Unary::LeakyRelu(slope), 4),
            ]),
        },
        Epilogue {
            operands: vec![Spread::Full, Spread::Scalar],
            expr: expr(&[
                Operand(0),
                Operand(1),
                U(Unary::LeakyMask(slope), 1),
                B(Binary::Mul, 0, 2),
                Operand(2),
                B(Binary::Sub, 3, 4),
                Const(Num(3.0)),
                B(Binary::Mul, 5, 6),
            ]),
        },
        Epilogue {
            operands: vec![Spread::Full],
            expr: expr(&[
                Operand(0),
                Operand(1),
                U(Unary::Square, 0),
                B(Binary::Max, 2, 1),
                B(Binary::Add, 3, 0),
            ]),
        },
        // The running value is not the last register: nothing but the constant may be stored.
        Epilogue { operands: vec![], expr: expr(&[Operand(0), Const(Num(0.5))]) },
    ]
}

#[test]
fn epilogues_match_the_oracle() {
    for (batch, channels, size) in [(2, [6, 9], 8), (3, [1, 16], 16), (1, [20, 3], 6)] {
        let geometry = geometry(batch, channels, [size; 2], [4; 2], [2; 2], [1; 2]);
        for epilogue in epilogues() {
            for face in [Face::Conv, Face::Transpose] {
                assert_matches_oracle(
                    &Conv {
                        face,
                        geometry,
                        half: false,
                        precision: Precision::F32,
                        epilogue: epilogue.clone(),
                    },
                    21,
                );
            }
        }
    }
}

#[test]
fn weights_that_can_be_kept_are_named() {
    let kept = |conv: Conv| Kernel::Conv(conv).cpu_weights_len();
    let deep = geometry(1, [32, 48], [8, 8], [4, 4], [2, 2], [1, 1]);
    for face in [Face::Conv, Face::Transpose] {
        assert!(kept(plain(face, deep)) > 0, "{face:?}");
        assert_eq!(kept(Conv { half: true, ..plain(face, deep) }), 0, "{face:?} in halves");
    }
    assert_eq!(kept(plain(Face::Weight, deep)), 0, "weights that are made");
    let few = geometry(1, [1, 48], [16, 16], [4, 4], [2, 2], [1, 1]);
    assert_eq!(kept(plain(Face::Conv, few)), 0, "weights that are used where they lie");
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = geometry(2, [3, 4], [8, 8], [4, 4], [2, 2], [1, 1]);
    let refused = |conv: Conv| match Kernel::Conv(conv).check() {
        Err(KernelError::Shape { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert!(refused(plain(Face::Conv, Geometry { y: [4, 5], ..good })).contains("give y = 4, not 5"));
    assert!(refused(plain(Face::Transpose, Geometry { stride: [0, 2], ..good })).contains("stride"));
    assert!(refused(plain(Face::Weight, Geometry { kernel: [99, 4], ..good })).contains("nothing"));
    let huge = Geometry { batch: usize::MAX / 2, ..good };
    assert!(refused(plain(Face::Conv, huge)).contains("2^32"));
    let undefined = Epilogue { operands: vec![], expr: Expr { code: vec![Instr::Operand(1)] } };
    assert!(
        refused(Conv {
            face: Face::Conv,
            geometry: good,
            half: false,
            precision: Precision::F32,
            epilogue: undefined
        })
        .contains("epilogue")
    );
    let bias = Epilogue { operands: vec![Spread::Channel], expr: Expr { code: vec![Instr::Operand(0)] } };
    assert!(
        refused(Conv {
            face: Face::Weight,
            geometry: good,
            half: false,
            precision: Precision::F32,
            epilogue: bias
        })
        .contains("epilogue")
    );
}

#[test]
fn lengths_and_cost_follow_from_the_geometry() {
    let g = geometry(2, [3, 4], [8, 6], [4, 4], [2, 2], [1, 1]);
    let kernel = Kernel::Conv(plain(Face::Transpose, g));
    assert_eq!(kernel.input_lens(), [2 * 4 * 4 * 3, 4 * 3 * 16]);
    assert_eq!(kernel.output_lens(), [2 * 3 * 8 * 6]);
    assert_eq!(kernel.cost().flops, 2 * (2 * 4 * 4 * 3) * (3 * 16));
    assert_eq!(kernel.cost().bytes_read, 4 * (96 + 192));
    assert_eq!(kernel.cost().bytes_written, 4 * 288);
}

#[test]
fn full_windows_are_matrix_products() {
    let g = geometry(5, [6, 9], [4, 3], [4, 3], [1, 1], [0, 0]);
    for epilogue in epilogues() {
        for face in [Face::Conv, Face::Transpose] {
            assert_matches_oracle(
                &Conv {
                    face,
                    geometry: g,
                    half: false,
                    precision: Precision::F32,
                    epilogue: epilogue.clone(),
                },
                31,
            );
        }
    }
    assert_matches_oracle(&plain(Face::Weight, g), 31);
}
