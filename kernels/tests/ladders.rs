//! The ladders of variants hold what the families have, no more and no less.

use crate::zoo;
use std::collections::{BTreeMap, BTreeSet};

use ganomede_kernels::conv::{Conv, Epilogue, Face, Geometry};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{Kernel, Precision, Size, Variant, ladders};

/// A convolution over 4 × 4 images.
fn conv(face: Face, kernel: usize, stride: usize, batch: usize) -> Kernel {
    let mut geometry = Geometry {
        batch,
        ci: 3,
        co: 2,
        x: [4; 2],
        y: [1; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        pad_low: [0; 2],
        pad_high: [0; 2],
        dilation: [1; 2],
    };
    geometry.y = [geometry.y_size(0).unwrap(), geometry.y_size(1).unwrap()];
    Kernel::Conv(Conv {
        face,
        geometry,
        half: false,
        precision: Precision::F32,
        epilogue: Epilogue::default(),
    })
}

fn gemm(m: usize) -> Kernel {
    let epilogue = Epilogue::default();
    Kernel::Gemm(Gemm {
        batch: 1,
        m,
        n: 8,
        k: 8,
        trans_a: false,
        trans_b: false,
        batched_a: true,
        batched_b: true,
        half_b: false,
        precision: Precision::F32,
        epilogue,
    })
}

fn kernels() -> Vec<Kernel> {
    let faces = [Face::Conv, Face::Transpose, Face::Weight];
    let mut all: Vec<Kernel> = faces
        .iter()
        .flat_map(|&face| [conv(face, 4, 1, 5), conv(face, 2, 2, 5), conv(face, 4, 2, 5)])
        .collect();
    all.push(gemm(8));
    all.extend(zoo::cases().into_iter().map(|case| case.kernel));
    for ladder in ladders() {
        let sample = |variant: &Variant| Kernel::sample(ladder, variant.name, Size::Small).unwrap();
        all.extend(ladder.variants.iter().map(sample));
    }
    all
}

#[test]
fn every_variant_is_a_rung_and_every_rung_exists() {
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for kernel in kernels() {
        let ladder = kernel.ladder();
        assert!(kernel.name().starts_with(ladder.name), "{} in {}", kernel.name(), ladder.name);
        seen.entry(ladder.name).or_default().extend(kernel.variants());
    }
    for ladder in ladders() {
        let listed: BTreeSet<&str> = ladder.variants.iter().map(|variant| variant.name).collect();
        assert_eq!(listed.len(), ladder.variants.len(), "{}", ladder.name);
        assert_eq!(seen.get(ladder.name), Some(&listed), "{}", ladder.name);
        assert_eq!(ladder.variants[0].name, "naive");
    }
}

#[test]
fn variants_are_found_by_number_and_name() {
    let conv = ladders().next().unwrap();
    assert_eq!(conv.variant("3").map(|v| v.name), Some("tile64"));
    assert_eq!(conv.variant("tile64"), conv.variant("3"));
    for wrong in ["0", "10", "", "-1", "tile", "99999999999999999999999"] {
        assert_eq!(conv.variant(wrong), None, "{wrong}");
    }
    assert!(conv.known().starts_with("1 naive, 2 tile32"), "{}", conv.known());
}

#[test]
fn shape_classes_join_batches_and_part_shapes() {
    let face = Face::Conv;
    assert_eq!(conv(face, 2, 2, 5).class(), conv(face, 2, 2, 8).class());
    assert_ne!(conv(face, 2, 2, 5).class(), conv(face, 2, 2, 9).class());
    assert_ne!(conv(face, 2, 2, 5).class(), conv(face, 4, 1, 5).class());
    assert_ne!(conv(face, 2, 2, 5).class(), conv(Face::Weight, 2, 2, 5).class());
    assert_eq!(gemm(5).class(), gemm(8).class());
    for kernel in kernels() {
        assert_eq!(kernel.class().is_some(), kernel.variants().len() > 1, "{kernel:?}");
    }
}
