//! Copies against the plain oracle.

use crate::spaces::{data, draws, run_cpu, shape, strides, views};
use ganomede_kernels::Kernel;
use ganomede_kernels::copy::{Copy, CopyPart};
use proptest::prelude::*;

fn dense(shape: &[usize]) -> Vec<usize> {
    strides(shape, 0, 0, 1).0
}

fn check(k: Copy) {
    let kernel = Kernel::Copy(k.clone());
    let inputs: Vec<Vec<f32>> = kernel.input_lens().iter().enumerate().map(|(i, &n)| data(n, i)).collect();
    let before = data(k.len, 9);
    let got = run_cpu(&kernel, &inputs, std::slice::from_ref(&before));
    let got: Vec<f64> = got[0].iter().map(|&v| f64::from(v)).collect();
    assert_eq!(got, kernel.oracle(&views(&inputs), &[&before])[0], "{k:?}");
}

proptest! {
    /// Any strides on the input side, dense or permuted and spaced on the output side.
    #[test]
    fn any_strides_match_the_oracle(
        shape in shape(),
        src in draws(1),
        turn in 0..4usize,
        gap in 1..3usize,
        offsets in (0..3usize, 0..3usize),
    ) {
        let (src_strides, src_len) = strides(&shape, src[0].0, src[0].1, src[0].2);
        let (dst_strides, dst_len) = strides(&shape, 0, turn, gap);
        let (src_offset, dst_offset) = offsets;
        let part = CopyPart { src_len: src_len + src_offset, shape, src_offset, src_strides, dst_offset, dst_strides };
        check(Copy { len: dst_len + dst_offset + 1, zero: true, parts: vec![part] });
    }
}

#[test]
fn transposes_match_the_oracle() {
    for (rows, columns) in [(1, 7), (33, 65), (300, 1000), (70_000, 3), (3, 70_000)] {
        check(Copy {
            len: rows * columns,
            zero: false,
            parts: vec![CopyPart {
                src_len: rows * columns,
                shape: vec![rows, columns],
                src_offset: 0,
                src_strides: vec![1, rows],
                dst_offset: 0,
                dst_strides: vec![columns, 1],
            }],
        });
    }
}

#[test]
fn a_long_run_is_copied_in_pieces() {
    let n = 200_003;
    let (shape, one) = (vec![n], vec![1]);
    let part = CopyPart {
        src_len: n + 2,
        shape,
        src_offset: 2,
        src_strides: one.clone(),
        dst_offset: 0,
        dst_strides: one,
    };
    check(Copy { len: n, zero: false, parts: vec![part] });
}

/// Two images stacked along the channels: `[3, 2, 4, 5]` and `[3, 1, 4, 5]`.
#[test]
fn concatenation() {
    let part = |channels: usize, dst_offset: usize| {
        let shape = vec![3, channels, 4, 5];
        CopyPart {
            src_len: 60 * channels,
            src_offset: 0,
            src_strides: dense(&shape),
            dst_offset,
            dst_strides: dense(&[3, 3, 4, 5]),
            shape,
        }
    };
    check(Copy { len: 180, zero: false, parts: vec![part(2, 0), part(1, 40)] });
}

/// One pixel of zeros around `[2, 3, 4]`, and its adjoint, a slice.
#[test]
fn pad_and_slice() {
    let (inner, outer) = (vec![2, 3, 4], vec![2, 5, 6]);
    check(Copy {
        len: 60,
        zero: true,
        parts: vec![CopyPart {
            src_len: 24,
            shape: inner.clone(),
            src_offset: 0,
            src_strides: dense(&inner),
            dst_offset: 7,
            dst_strides: dense(&outer),
        }],
    });
    check(Copy {
        len: 24,
        zero: false,
        parts: vec![CopyPart {
            src_len: 60,
            shape: inner.clone(),
            src_offset: 7,
            src_strides: dense(&outer),
            dst_offset: 0,
            dst_strides: dense(&inner),
        }],
    });
}

/// Nearest upsampling by 2 of `[5, 7]`: two still dimensions of the input.
#[test]
fn nearest_upsampling() {
    check(Copy {
        len: 140,
        zero: false,
        parts: vec![CopyPart {
            src_len: 35,
            shape: vec![5, 2, 7, 2],
            src_offset: 0,
            src_strides: vec![7, 0, 1, 0],
            dst_offset: 0,
            dst_strides: vec![28, 14, 2, 1],
        }],
    });
}

#[test]
fn faults_are_named() {
    let good = Copy {
        len: 6,
        zero: false,
        parts: vec![CopyPart {
            src_len: 6,
            shape: vec![2, 3],
            src_offset: 0,
            src_strides: vec![3, 1],
            dst_offset: 0,
            dst_strides: vec![3, 1],
        }],
    };
    let fault = |edit: &dyn Fn(&mut Copy)| {
        let mut k = good.clone();
        edit(&mut k);
        Kernel::Copy(k).check().err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(fault(&|_| ()), "");
    assert!(fault(&|k| k.parts[0].src_offset = 1).contains("reads outside"));
    assert!(fault(&|k| k.parts[0].dst_offset = usize::MAX).contains("writes outside"));
    assert!(fault(&|k| k.parts[0].dst_strides = vec![1, 1]).contains("twice"));
    assert!(fault(&|k| k.parts[0].dst_strides = vec![0, 1]).contains("twice"));
    assert!(fault(&|k| k.len = 7).contains("cover 6 of 7"));
    assert!(fault(&|k| k.parts[0].shape.push(1)).contains("strides do not fit"));
}
