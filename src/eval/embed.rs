//! Feature vectors as points of a plane, for the eye: t-SNE.

use super::{EvalError, check_finite};
use rayon::prelude::*;

/// Vectors embedded at most: time and memory grow with their square.
pub const MAX_EMBEDDED: usize = 2000;
/// Neighbours that a point looks at, where there are enough (van der Maaten and Hinton, JMLR 2008: 5 to 50).
const PERPLEXITY: f64 = 30.0;
/// Standard deviation of the start, small so that the first steps are not stiff.
const START_SD: f64 = 1e-4;
/// Power iterations for the start; it need not be converged.
const POWER_ITERATIONS: usize = 60;

/// Embeds vectors of `dim` features, row by row in `features`, into the plane by exact t-SNE.
///
/// Neighbourhoods mean something in the picture; distances between clusters, their sizes and the axes do not.
/// Deterministic without a seed: it starts from the first two principal components, and the optimisation runs
/// on one thread so that sums keep their order. The picture is centred. Up to six vectors are too few to have
/// neighbourhoods: they keep their principal components, as do vectors that are all equal.
///
/// Cost: O(n² (dim + 1000)); 600 vectors take a second or two.
///
/// Errors: features that are not finite or no multiple of `dim`, more than [`MAX_EMBEDDED`] vectors.
pub fn embed(features: &[f32], dim: usize) -> Result<Vec<[f64; 2]>, EvalError> {
    let n = features.len() / dim.max(1);
    if n * dim != features.len() || n > MAX_EMBEDDED {
        return Err(if n > MAX_EMBEDDED {
            EvalError::TooMany { got: n, most: MAX_EMBEDDED }
        } else {
            let expected = (n + 1).saturating_mul(dim.max(1));
            EvalError::Length { what: "features", got: features.len(), expected, per: "vector and feature" }
        });
    }
    let wide: Vec<f64> = features.iter().map(|&v| f64::from(v)).collect();
    check_finite("features", &wide)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let gram = centred_gram(wide, n, dim);
    let start = principal_plane(&gram, n);
    let spread = (start.iter().flatten().map(|v| v * v).sum::<f64>() / (2 * n) as f64).sqrt();
    if n <= 6 || spread == 0.0 {
        return Ok(start);
    }
    let start: Vec<f64> = start.iter().flatten().map(|v| v * START_SD / spread).collect();

    // Distances relative to their mean square, 2 tr(G) / n, so that the bandwidth search starts near its
    // goal.
    let trace: f64 = (0..n).map(|i| gram[i * n + i]).sum();
    let square = |a: usize, b: usize| gram[a * n + a] + gram[b * n + b] - 2.0 * gram[a * n + b];
    let distance = |&a: &usize, &b: &usize| (square(a, b).max(0.0) * n as f64 / (2.0 * trace)).sqrt();
    let order: Vec<usize> = (0..n).collect();
    let run = || {
        let mut tsne: bhtsne::tSNE<f64, usize> = bhtsne::tSNE::new(&order);
        tsne.perplexity(PERPLEXITY.min((n - 1) as f64 / 3.0)).initial_embedding(start).exact(distance);
        tsne.embedding()
    };
    // Parallel sums split where threads happen to be free; one thread always splits alike.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let plane = pool.map_err(|e| EvalError::Threads(e.to_string()))?.install(run);
    Ok(plane.as_chunks::<2>().0.to_vec())
}

/// Inner products of the vectors about their mean, `n × n`, divided by the largest magnitude's square against
/// overflow.
fn centred_gram(mut rows: Vec<f64>, n: usize, dim: usize) -> Vec<f64> {
    for feature in 0..dim {
        let mean = (0..n).map(|i| rows[i * dim + feature] / n as f64).sum::<f64>();
        (0..n).for_each(|i| rows[i * dim + feature] -= mean);
    }
    let largest = rows.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if largest > 0.0 {
        rows.iter_mut().for_each(|v| *v /= largest);
    }
    let row = |i: usize| &rows[i * dim..][..dim];
    let mut gram = vec![0.0; n * n];
    gram.par_chunks_mut(n).enumerate().for_each(|(a, products)| {
        for (b, product) in products.iter_mut().enumerate() {
            *product = row(a).iter().zip(row(b)).map(|(x, y)| x * y).sum();
        }
    });
    gram
}

/// Coordinates along the first two principal components, by power iteration on the Gram matrix with
/// deflation.
///
/// The signs of components are arbitrary: the coordinate of largest magnitude is made positive.
fn principal_plane(gram: &[f64], n: usize) -> Vec<[f64; 2]> {
    let mut plane = vec![[0.0; 2]; n];
    for axis in 0..2 {
        // Irrational steps: orthogonal to no component that data would have by design.
        let mut vector: Vec<f64> =
            (0..n).map(|i| ((i + 1) as f64 * 0.618_033_988_749_895).fract() - 0.5).collect();
        let mut length = 0.0f64;
        for _ in 0..POWER_ITERATIONS {
            let mut next: Vec<f64> =
                gram.chunks(n).map(|row| row.iter().zip(&vector).map(|(g, v)| g * v).sum()).collect();
            if axis == 1 {
                let along: f64 = plane.iter().zip(&next).map(|(p, v)| p[0] * v).sum();
                let square: f64 = plane.iter().map(|p| p[0] * p[0]).sum();
                if square > 0.0 {
                    next.iter_mut().zip(&plane).for_each(|(v, p)| *v -= along / square * p[0]);
                }
            }
            length = next.iter().map(|v| v * v).sum::<f64>().sqrt();
            // Rounding is all that is left of data without a second direction.
            let scale = gram.iter().step_by(n + 1).sum::<f64>() * n as f64;
            if length <= 1e-14 * scale {
                length = 0.0;
                break;
            }
            vector = next.iter().map(|v| v / length).collect();
        }
        if length == 0.0 {
            break;
        }
        // A unit eigenvector of eigenvalue λ holds the coordinates divided by √λ.
        let largest = vector.iter().fold(0.0f64, |m, &v| if v.abs() > m.abs() { v } else { m });
        let scale = length.sqrt() * largest.signum();
        plane.iter_mut().zip(vector).for_each(|(p, v)| p[axis] = v * scale);
    }
    plane
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of 40 features about one of three centres; vector i belongs to centre i % 3.
    fn clusters(n: usize) -> Vec<f32> {
        let value =
            |i: usize| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..n * 40).map(|i| value(i) + if i % 40 == i / 40 % 3 { 3.0 } else { 0.0 }).collect()
    }

    #[test]
    fn an_embedding_keeps_neighbours_and_repeats() {
        let n = 90;
        let plane = embed(&clusters(n), 40).unwrap();
        assert_eq!(plane.len(), n);
        assert!(plane.iter().flatten().all(|v| v.is_finite()));
        let distance = |a: usize, b: usize| (plane[a][0] - plane[b][0]).hypot(plane[a][1] - plane[b][1]);
        for i in 0..n {
            let nearest =
                (0..n).filter(|&j| j != i).min_by(|&a, &b| distance(i, a).total_cmp(&distance(i, b)));
            assert_eq!(nearest.unwrap() % 3, i % 3, "the nearest neighbour of {i} is of its own cluster");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| embed(&clusters(n), 40).unwrap()), plane, "{threads} threads");
        }
    }

    #[test]
    fn an_embedding_of_little_or_odd_data_holds_together() {
        assert!(embed(&[], 3).unwrap().is_empty());
        assert_eq!(embed(&[1.0; 30], 3).unwrap(), vec![[0.0; 2]; 10]);
        // Few vectors keep their principal components: points on a line, and one across it.
        let line = embed(&[0.0, 0.0, 4.0, 0.0, 2.0, 1.5], 2).unwrap();
        let distance = |a: usize, b: usize| (line[a][0] - line[b][0]).hypot(line[a][1] - line[b][1]);
        assert!((distance(0, 1) / distance(0, 2) - 4.0 / 2.5).abs() < 1e-6, "{line:?}");
        // Duplicates, one direction only, and magnitudes near the limits of f32.
        let doubled: Vec<f32> = (0..20).flat_map(|i| [(i / 2) as f32; 3]).collect();
        for features in [doubled.clone(), doubled.iter().map(|v| v * 1e37).collect()] {
            let plane = embed(&features, 3).unwrap();
            assert!(plane.len() == 20 && plane.iter().flatten().all(|v| v.is_finite()), "{plane:?}");
        }
        assert!(matches!(embed(&[1.0; 7], 3), Err(EvalError::Length { got: 7, expected: 9, .. })));
        assert!(matches!(embed(&[1.0; 7], 0), Err(EvalError::Length { .. })));
        assert!(matches!(embed(&[1.0, f32::NAN], 1), Err(EvalError::NotFinite { index: 1, .. })));
        let many = vec![0.0; MAX_EMBEDDED + 1];
        assert!(matches!(embed(&many, 1), Err(EvalError::TooMany { .. })));
    }
}
