//! Sparse matrices along an axis against the plain oracle, their adjoints, and the cut of large ones into
//! dispatches.

use std::sync::Arc;

use crate::spaces::{assert_close, data, run_cpu, views};
use ganomede_kernels::sparse::{Matrix, Sparse};
use ganomede_kernels::{GpuTraits, Kernel};
use proptest::prelude::*;

fn run(k: &Sparse, x: &[f32]) -> Vec<f32> {
    let kernel = Kernel::Sparse(k.clone());
    let inputs = [x.to_vec()];
    let out = run_cpu(&kernel, &inputs, &[vec![f32::NAN; kernel.output_lens()[0]]]);
    assert_close(&out, &kernel.oracle(&views(&inputs), &[]), 1e-5, &kernel);
    out[0].clone()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Rows of up to five entries, among them empty ones and ones that read a column twice.
fn matrix(columns: usize) -> impl Strategy<Value = Matrix> {
    let entry = (0..columns, -2.0..2.0f32);
    prop::collection::vec(prop::collection::vec(entry, 0..5), 1..20)
        .prop_map(move |rows| Matrix::new(columns, rows))
}

proptest! {
    #[test]
    fn any_matrix_matches_the_oracle_and_its_adjoint(
        (outer, inner, matrix) in (1..4usize, 1..6usize, (1..12usize).prop_flat_map(matrix)),
    ) {
        let forward = Sparse { outer, inner, matrix: Arc::new(matrix) };
        let back = Sparse { matrix: Arc::new(forward.matrix.transposed()), ..forward.clone() };
        let x = data(outer * inner * forward.matrix.columns(), 1);
        let y = data(outer * inner * forward.matrix.rows(), 2);
        // ⟨A x, y⟩ = ⟨x, Aᵀ y⟩
        let (left, right) = (dot(&run(&forward, &x), &y), dot(&x, &run(&back, &y)));
        prop_assert!((left - right).abs() < 1e-3, "{left} and {right}");
    }
}

#[test]
fn a_single_entry_of_weight_one_copies_bits_and_an_empty_row_is_zero() {
    let matrix = Arc::new(Matrix::new(2, [vec![(1, 1.0)], vec![], vec![(0, 1.0)]]));
    let out = run(&Sparse { outer: 1, inner: 1, matrix }, &[-0.0, f32::MIN_POSITIVE / 2.0]);
    let bits: Vec<u32> = out.iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [(f32::MIN_POSITIVE / 2.0).to_bits(), 0, (-0.0_f32).to_bits()]);
}

#[test]
fn large_matrices_are_cut_into_dispatches_that_fit_a_uniform_buffer() {
    let dispatches = |rows: Vec<Vec<(usize, f32)>>| {
        let kernel = Kernel::Sparse(Sparse { outer: 2, inner: 3, matrix: Arc::new(Matrix::new(9000, rows)) });
        kernel.gpu(&GpuTraits::default(), None).unwrap().dispatches
    };
    // Many short rows, and one row that alone is too long.
    for rows in [vec![vec![(7, 0.5)]; 9000], vec![(0..9000).map(|column| (column, 0.5)).collect()]] {
        let dispatches = dispatches(rows);
        assert!(dispatches.len() > 1);
        assert!(dispatches.iter().all(|dispatch| 4 * dispatch.params.len() <= 65_536));
    }
}

#[test]
fn columns_that_do_not_exist_are_refused() {
    let matrix = Arc::new(Matrix::new(3, [vec![(3, 1.0)]]));
    let error = Kernel::Sparse(Sparse { outer: 1, inner: 1, matrix }).check().unwrap_err();
    assert!(error.to_string().contains("column 3 of 3"), "{error}");
}
