//! Seamless cloning: a patch whose gradients continue in an image without a seam.
//!
//! Perez, Gangnet and Blake, "Poisson Image Editing" (2003), equation 7: for each pixel p of the mask Ω, with
//! its neighbours N_p that lie in the image,
//!
//! ```text
//! |N_p| f_p − Σ_{q ∈ N_p ∩ Ω} f_q = Σ_{q ∈ N_p \ Ω} f*_q + Σ_{q ∈ N_p} v_pq
//! ```
//!
//! What is solved for is the change h = f − f*, which is zero outside the mask: A h = b with
//! b_p = Σ_q (v_pq − (f*_p − f*_q)). The border of the image has no neighbours beyond it (Neumann).
//!
//! **Solver.** Conjugate gradients, preconditioned by one V-cycle of multigrid (two sweeps of damped Jacobi
//! before and after, bilinear interpolation, its transpose as restriction). A coarse point is an unknown only
//! where all of its 3×3 fine points are: the coarse spaces lie inside the fine one for any mask, however thin
//! or full of holes, and what they miss lies beside fixed pixels, where sweeps work well. Energies of 2-D
//! Laplacians do not change with the spacing, so each level has the same stencil. The preconditioned residual
//! is about the error, so iterations end when it is below 2·10⁻⁵ everywhere.

use crate::pixels::Image;

/// Greatest error of a pixel that is left, about: 1/400 of a step of 8 bits.
const TOLERANCE: f32 = 2e-5;
/// Iterations at most; some ten are usual.
const ITERATIONS: usize = 100;
/// Weight of a Jacobi sweep: 4/5 damps the upper half of a 2-D Laplacian's spectrum best.
const DAMPING: f32 = 0.8;
/// Sweeps on the coarsest level.
const COARSEST: usize = 8;

/// Which gradients a blend follows (v in Perez et al. 2003).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradients {
    /// The patch's (equation 11).
    Source,
    /// At each pair of neighbours the steeper of the patch's and the image's (equation 12).
    Mixed,
}

/// A patch and the place that it goes to.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'a> {
    /// Its pixels. Channel c of the image is blended with channel c modulo the patch's.
    pub image: &'a Image,
    /// Which of them are blended in, `height × width` of the patch, row-major; what is missing is false. A
    /// neighbour that the patch does not have is as its pixel: give it a margin of one.
    pub mask: &'a [bool],
    /// Row of the image where the patch's first row lies; what hangs over the image is left out.
    pub top: usize,
    /// Column likewise.
    pub left: usize,
}

/// Blends a patch into `image`; values are clamped to [−1, 1], and pixels outside the mask stay as they are.
/// A mask that covers the whole image leaves its first pixel as it is, since gradients alone tell no level.
pub fn blend(image: &mut Image, patch: &Patch<'_>, gradients: Gradients) {
    let (height, width) = (patch.image.height, patch.image.width);
    let at = |y: usize, x: usize| y * width + x;
    let inside = |y: usize, x: usize| {
        let (y, x) = (y.checked_sub(patch.top), x.checked_sub(patch.left));
        y.zip(x).filter(|&(y, x)| y < height && x < width).map(|(y, x)| at(y, x))
    };
    let mask = |y: usize, x: usize| inside(y, x).and_then(|i| patch.mask.get(i).copied()).unwrap_or(false);
    let planes = patch.image.channels.max(1);
    let guide = |c: usize, y: usize, x: usize| {
        inside(y, x).map_or(f32::NAN, |at| patch.image.pixels[(c % planes) * height * width + at])
    };
    let rows = patch.top..(patch.top + height).min(image.height);
    let columns = patch.left..(patch.left + width).min(image.width);
    change(image, [rows, columns], &mask, &guide, gradients);
}

/// Fills the pixels of `mask` (`height × width`, row-major) with a membrane between their surroundings: the
/// blend of a patch without gradients.
pub fn fill(image: &mut Image, mask: &[bool]) {
    let (height, width) = (image.height, image.width);
    let inside = |y: usize, x: usize| mask.get(y * width + x).copied().unwrap_or(false);
    change(image, [0..height, 0..width], &inside, &|_, _, _| f32::NAN, Gradients::Source);
}

/// Whether pixel (y, x) is blended.
type Inside<'a> = dyn Fn(usize, usize) -> bool + 'a;
/// The patch at (channel, y, x); NaN where it has nothing.
type Guide<'a> = dyn Fn(usize, usize, usize) -> f32 + 'a;

/// Adds h to the image; the mask lies within `rows` and `columns`.
fn change(
    image: &mut Image,
    [rows, columns]: [std::ops::Range<usize>; 2],
    inside: &Inside<'_>,
    guide: &Guide<'_>,
    gradients: Gradients,
) {
    let (height, width) = (image.height, image.width);
    // The box around the mask, with one pixel around it where the image goes on.
    let mut span: Option<[usize; 4]> = None;
    let mut count = 0;
    for y in rows {
        for x in columns.clone().filter(|&x| inside(y, x)) {
            let [top, left, bottom, right] = span.unwrap_or([y, x, y, x]);
            span = Some([top, left.min(x), bottom.max(y), right.max(x)]);
            count += 1;
        }
    }
    let Some([top, left, bottom, right]) = span else { return };
    let (y0, x0) = (top.saturating_sub(1), left.saturating_sub(1));
    let (y1, x1) = ((bottom + 2).min(height), (right + 2).min(width));
    let closed =
        Closed { top: top == 0, left: left == 0, bottom: bottom + 1 == height, right: right + 1 == width };
    let free = count < height * width;
    let unknown: Vec<bool> = (y0..y1)
        .flat_map(|y| (x0..x1).map(move |x| (y, x)))
        .map(|(y, x)| inside(y, x) && (free || (y, x) != (0, 0)))
        .collect();
    let solver = Solver::new(unknown, y1 - y0, x1 - x0, closed);
    for (c, plane) in image.pixels.chunks_exact_mut(height * width).enumerate() {
        let level = &solver.levels[0];
        let (mut b, mut own, mut wanted) = (level.zeros(), level.zeros(), level.zeros());
        for (y, x) in (y0..y1).flat_map(|y| (x0..x1).map(move |x| (y, x))) {
            let at = level.at(y - y0, x - x0);
            (own[at], wanted[at]) = (plane[y * width + x], guide(c, y, x));
        }
        let stride = level.stride();
        for (y, x) in (y0..y1).flat_map(|y| (x0..x1).map(move |x| (y, x))) {
            let p = level.at(y - y0, x - x0);
            if level.inside[p] == 0.0 {
                continue;
            }
            let pair = |q: usize| {
                let (flat, steep) = (own[p] - own[q], wanted[p] - wanted[q]);
                let steep = if steep.is_nan() { 0.0 } else { steep };
                let keeps = gradients == Gradients::Mixed && steep.abs() <= flat.abs();
                if keeps { 0.0 } else { steep - flat }
            };
            let near =
                [(y > 0, p - stride), (x > 0, p - 1), (x + 1 < width, p + 1), (y + 1 < height, p + stride)];
            b[p] = near.into_iter().filter(|(exists, _)| *exists).map(|(_, q)| pair(q)).sum();
        }
        let h = solver.solve(b);
        for y in y0..y1 {
            for x in x0..x1 {
                let at = level.at(y - y0, x - x0);
                if level.inside[at] != 0.0 {
                    let pixel = &mut plane[y * width + x];
                    *pixel = (*pixel + h[at]).clamp(-1.0, 1.0);
                }
            }
        }
    }
}

/// Sides of a grid at which the image ends; at the others pixels are fixed.
#[derive(Clone, Copy)]
struct Closed {
    top: bool,
    left: bool,
    bottom: bool,
    right: bool,
}

/// A grid of one spacing. Planes have a border of zeros: `(height + 2) × (width + 2)`.
struct Level {
    height: usize,
    width: usize,
    /// 1 where a pixel is unknown, else 0.
    inside: Vec<f32>,
    /// Neighbours of each unknown that lie in the image; 0 elsewhere.
    degree: Vec<f32>,
    /// [`DAMPING`] / degree; 0 elsewhere.
    weight: Vec<f32>,
}

impl Level {
    fn new(unknown: &[bool], height: usize, width: usize, closed: Closed) -> Self {
        let mut level = Level { height, width, inside: vec![], degree: vec![], weight: vec![] };
        let (mut inside, mut degree, mut weight) = (level.zeros(), level.zeros(), level.zeros());
        for y in 0..height {
            for x in 0..width {
                if unknown[y * width + x] {
                    let missing = [
                        closed.top && y == 0,
                        closed.left && x == 0,
                        closed.bottom && y + 1 == height,
                        closed.right && x + 1 == width,
                    ];
                    let neighbours = missing.iter().filter(|&&missing| !missing).count() as f32;
                    let at = level.at(y, x);
                    // An image of one pixel has no neighbours and no unknown.
                    (inside[at], degree[at], weight[at]) = (1.0, neighbours, DAMPING / neighbours.max(1.0));
                }
            }
        }
        (level.inside, level.degree, level.weight) = (inside, degree, weight);
        level
    }

    fn stride(&self) -> usize {
        self.width + 2
    }

    fn at(&self, y: usize, x: usize) -> usize {
        (y + 1) * self.stride() + x + 1
    }

    fn zeros(&self) -> Vec<f32> {
        vec![0.0; (self.height + 2) * self.stride()]
    }

    /// `out = f(u, the planes, the sum of u at the four neighbours)` for every pixel, row by row.
    #[inline(always)]
    fn stencil(
        &self,
        u: &[f32],
        planes: [&[f32]; 3],
        out: &mut [f32],
        f: impl Fn(f32, [f32; 3], f32) -> f32,
    ) {
        let (n, stride) = (self.width, self.stride());
        for y in 0..self.height {
            let from = (y + 1) * stride + 1;
            let (up, down) = (&u[from - stride..][..n], &u[from + stride..][..n]);
            let (left, own, right) = (&u[from - 1..][..n], &u[from..][..n], &u[from + 1..][..n]);
            let [a, b, c] = planes.map(|plane| &plane[from..][..n]);
            let out = &mut out[from..][..n];
            for x in 0..n {
                out[x] = f(own[x], [a[x], b[x], c[x]], (up[x] + down[x]) + (left[x] + right[x]));
            }
        }
    }

    /// A sweep of damped Jacobi from `u` to `new`.
    fn sweep(&self, u: &[f32], b: &[f32], new: &mut [f32]) {
        let planes = [&self.weight[..], b, b];
        self.stencil(u, planes, new, |u, [weight, b, _], sum| (1.0 - DAMPING) * u + weight * (b + sum));
    }

    /// b − A u.
    fn residual(&self, u: &[f32], b: &[f32], out: &mut [f32]) {
        let planes = [&self.inside[..], &self.degree, b];
        self.stencil(u, planes, out, |u, [inside, degree, b], sum| inside * (b - degree * u + sum));
    }

    /// A u.
    fn apply(&self, u: &[f32], out: &mut [f32]) {
        let planes = [&self.inside[..], &self.degree, u];
        self.stencil(u, planes, out, |u, [inside, degree, _], sum| inside * (degree * u - sum));
    }
}

/// The mask's grids, from the finest on.
struct Solver {
    levels: Vec<Level>,
}

/// What a V-cycle writes on one level: the right side, the solution and its next sweep.
struct Planes {
    b: Vec<f32>,
    u: Vec<f32>,
    next: Vec<f32>,
}

impl Solver {
    fn new(mut unknown: Vec<bool>, mut height: usize, mut width: usize, closed: Closed) -> Self {
        let mut levels = vec![Level::new(&unknown, height, width, closed)];
        while height.min(width) > 4 {
            let (h, w) = (height.div_ceil(2), width.div_ceil(2));
            let around = |i: usize, n: usize| (2 * i).saturating_sub(1)..(2 * i + 2).min(n);
            let all = |y, x| around(y, height).all(|y| around(x, width).all(|x| unknown[y * width + x]));
            let coarse: Vec<bool> =
                (0..h).flat_map(|y| (0..w).map(move |x| (y, x))).map(|(y, x)| all(y, x)).collect();
            if !coarse.contains(&true) {
                break;
            }
            levels.push(Level::new(&coarse, h, w, closed));
            (unknown, height, width) = (coarse, h, w);
        }
        Solver { levels }
    }

    /// h of A h = `b`, a plane of the finest level.
    fn solve(&self, b: Vec<f32>) -> Vec<f32> {
        let level = &self.levels[0];
        let planes = |level: &Level| Planes { b: level.zeros(), u: level.zeros(), next: level.zeros() };
        let mut all: Vec<Planes> = self.levels.iter().map(planes).collect();
        let mut residual = b;
        let (mut h, mut along, mut product) = (level.zeros(), level.zeros(), level.zeros());
        let mut energy = 0.0;
        for _ in 0..ITERATIONS {
            all[0].b.copy_from_slice(&residual);
            self.cycle(&mut all);
            let z = &all[0].u;
            let largest = z.iter().fold(0.0f32, |most, z| most.max(z.abs()));
            let before = std::mem::replace(&mut energy, dot(&residual, z));
            if largest < TOLERANCE || !energy.is_finite() {
                // The last correction is as good as what it corrects.
                h.iter_mut().zip(z).for_each(|(h, z)| *h += if z.is_finite() { *z } else { 0.0 });
                break;
            }
            let share = if before > 0.0 { (energy / before) as f32 } else { 0.0 };
            along.iter_mut().zip(z).for_each(|(p, z)| *p = z + share * *p);
            level.apply(&along, &mut product);
            let curvature = dot(&along, &product);
            if curvature.is_nan() || curvature <= 0.0 {
                break;
            }
            let length = (energy / curvature) as f32;
            h.iter_mut().zip(&along).for_each(|(h, p)| *h += length * p);
            residual.iter_mut().zip(&product).for_each(|(r, q)| *r -= length * q);
        }
        h
    }

    /// One V-cycle for A u = b on the first of the planes, from u = 0; symmetric.
    fn cycle(&self, all: &mut [Planes]) {
        let depth = self.levels.len() - all.len();
        let level = &self.levels[depth];
        let Some((planes, coarser)) = all.split_first_mut() else { return };
        let Planes { b, u, next } = planes;
        for ((u, weight), b) in u.iter_mut().zip(&level.weight).zip(b.iter()) {
            *u = weight * b;
        }
        let mut sweep = |u: &mut Vec<f32>, b: &[f32]| {
            level.sweep(u, b, next);
            std::mem::swap(u, next);
        };
        if coarser.is_empty() {
            (1..COARSEST).for_each(|_| sweep(u, b));
            return;
        }
        sweep(u, b);
        level.residual(u, b, next);
        let below = &self.levels[depth + 1];
        restrict(level, next, below, &mut coarser[0].b);
        self.cycle(coarser);
        interpolate(below, &coarser[0].u, level, u);
        for _ in 0..2 {
            level.sweep(u, b, next);
            std::mem::swap(u, next);
        }
    }
}

/// The transpose of [`interpolate`].
fn restrict(fine: &Level, from: &[f32], coarse: &Level, to: &mut [f32]) {
    let (h, w, stride) = (fine.height, fine.width, fine.stride());
    // A last row or column of odd index has one coarse neighbour and takes its value whole.
    let after = |i: usize, n: usize| if 2 * i + 2 == n { 1.0 } else { 0.5 };
    for y in 0..coarse.height {
        let last = after(y, h);
        let row = (2 * y + 1) * stride;
        for x in 0..coarse.width {
            let at = coarse.at(y, x);
            if coarse.inside[at] == 0.0 {
                continue;
            }
            let right = after(x, w);
            let line = |from: &[f32]| 0.5 * from[2 * x] + from[2 * x + 1] + right * from[2 * x + 2];
            let (above, own, below) = (&from[row - stride..], &from[row..], &from[row + stride..]);
            to[at] = 0.5 * line(above) + line(own) + last * line(below);
        }
    }
}

/// Adds the bilinear interpolation of `from` to `to`.
fn interpolate(coarse: &Level, from: &[f32], fine: &Level, to: &mut [f32]) {
    let (h, w, stride) = (fine.height, fine.width, coarse.stride());
    let mut line = vec![0.0; coarse.width];
    for y in 0..h {
        let upper = &from[(y / 2 + 1) * stride + 1..][..coarse.width];
        if y % 2 == 0 || y + 1 == h {
            line.copy_from_slice(upper);
        } else {
            let lower = &from[(y / 2 + 2) * stride + 1..][..coarse.width];
            line.iter_mut().zip(upper.iter().zip(lower)).for_each(|(l, (a, b))| *l = 0.5 * (a + b));
        }
        let out = &mut to[fine.at(y, 0)..][..w];
        for x in 0..w {
            let next = if x % 2 == 0 || x + 1 == w { line[x / 2] } else { line[x / 2 + 1] };
            out[x] += 0.5 * (line[x / 2] + next);
        }
    }
}

/// Σ a·b: eight sums side by side over short runs, in f64 between them.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let run = |(a, b): (&[f32], &[f32])| {
        let mut sums = [0.0f32; 8];
        let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
        let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
        for (a, b) in a8.zip(b8) {
            for i in 0..8 {
                sums[i] += a[i] * b[i];
            }
        }
        f64::from(sums.iter().sum::<f32>() + rest)
    };
    a.chunks(512).zip(b.chunks(512)).map(run).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;
    use crate::rng::Rng;

    /// A h = b of the definition, by a banded Cholesky factorisation in f64 of all pixels of the image:
    /// `[height, width]` values of f.
    fn direct(image: &Image, patch: &Patch<'_>, gradients: Gradients) -> Vec<f64> {
        let (h, w) = (image.height, image.width);
        let pixel = |y: usize, x: usize| f64::from(image.pixels[y * w + x]);
        let place = |y: usize, x: usize| {
            let (y, x) = (y as isize - patch.top as isize, x as isize - patch.left as isize);
            let inside =
                (0..patch.image.height as isize).contains(&y) && (0..patch.image.width as isize).contains(&x);
            inside.then(|| y as usize * patch.image.width + x as usize)
        };
        let mut mask: Vec<bool> =
            (0..h * w).map(|i| place(i / w, i % w).is_some_and(|at| patch.mask[at])).collect();
        if !mask.contains(&false) {
            mask[0] = false;
        }
        let n = h * w;
        // Row i of the lower triangle: columns i − w to i.
        let mut band = vec![vec![0.0f64; w + 1]; n];
        let mut right = vec![0.0f64; n];
        for i in 0..n {
            let (y, x) = (i / w, i % w);
            band[i][w] = 1.0;
            right[i] = pixel(y, x);
            if !mask[i] {
                continue;
            }
            let mut neighbours = vec![];
            if y > 0 {
                neighbours.push((y - 1, x));
            }
            if x > 0 {
                neighbours.push((y, x - 1));
            }
            if x + 1 < w {
                neighbours.push((y, x + 1));
            }
            if y + 1 < h {
                neighbours.push((y + 1, x));
            }
            band[i][w] = neighbours.len() as f64;
            right[i] = 0.0;
            for (qy, qx) in neighbours {
                let own = pixel(y, x) - pixel(qy, qx);
                let value = |y, x| place(y, x).map(|at| f64::from(patch.image.pixels[at]));
                let steep = value(y, x).zip(value(qy, qx)).map_or(0.0, |(p, q)| p - q);
                let takes_own = gradients == Gradients::Mixed && steep.abs() <= own.abs();
                right[i] += if takes_own { own } else { steep };
                let q = qy * w + qx;
                if !mask[q] {
                    right[i] += pixel(qy, qx);
                } else if q < i {
                    band[i][w + q - i] = -1.0;
                }
            }
        }
        for i in 0..n {
            for j in i.saturating_sub(w)..=i {
                let from = i.saturating_sub(w).max(j.saturating_sub(w));
                let sum: f64 = (from..j).map(|k| band[i][w + k - i] * band[j][w + k - j]).sum();
                let value = band[i][w + j - i] - sum;
                band[i][w + j - i] = if i == j { value.sqrt() } else { value / band[j][w] };
            }
        }
        for i in 0..n {
            let sum: f64 = (i.saturating_sub(w)..i).map(|k| band[i][w + k - i] * right[k]).sum();
            right[i] = (right[i] - sum) / band[i][w];
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n.min(i + w + 1)).map(|k| band[k][w + i - k] * right[k]).sum();
            right[i] = (right[i] - sum) / band[i][w];
        }
        right
    }

    fn noise(height: usize, width: usize, amplitude: f32, seed: u64) -> Image {
        let mut rng = Rng::new(&[seed]);
        let pixels = (0..height * width).map(|_| rng.range(-amplitude, amplitude)).collect();
        Image { channels: 1, height, width, pixels }
    }

    /// Low values, so that nothing is clamped, against the direct solution.
    fn compare(image: &Image, patch: &Patch<'_>, gradients: Gradients) -> f64 {
        let expected = direct(image, patch, gradients);
        let mut blended = image.clone();
        blend(&mut blended, patch, gradients);
        let clamped = |v: f64| v.clamp(-1.0, 1.0);
        blended
            .pixels
            .iter()
            .zip(&expected)
            .map(|(a, &b)| (f64::from(*a) - clamped(b)).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn awkward_masks_give_what_a_direct_solution_gives() {
        type Inside = fn(usize, usize) -> bool;
        let (h, w) = (37, 50);
        let masks: [(&str, Inside); 11] = [
            ("all", |_, _| true),
            ("all but a corner", |y, x| (y, x) != (36, 49)),
            ("all but the middle", |y, x| (y, x) != (18, 25)),
            ("interior", |y, x| (1..36).contains(&y) && (1..49).contains(&x)),
            ("left half, to three borders", |_, x| x < 25),
            ("one pixel", |y, x| (y, x) == (11, 13)),
            ("a row of odd index", |y, _| y == 17),
            ("chequered", |y, x| (y + x) % 2 == 0),
            ("holes at odd places", |y, x| y % 6 != 1 || x % 6 != 1),
            ("two parts", |y, x| (y < 9 && x < 9) || (y > 20 && x > 30)),
            ("a ring", |y, x| {
                let r = (y as isize - 18).pow(2) + (x as isize - 25).pow(2);
                (60..300).contains(&r)
            }),
        ];
        let (image, source) = (noise(h, w, 0.2, 1), noise(h, w, 0.2, 2));
        for (name, inside) in masks {
            let mask: Vec<bool> = (0..h * w).map(|i| inside(i / w, i % w)).collect();
            let patch = Patch { image: &source, mask: &mask, top: 0, left: 0 };
            for gradients in [Gradients::Source, Gradients::Mixed] {
                let error = compare(&image, &patch, gradients);
                assert!(error < 1e-4, "{name}, {gradients:?}: {error}");
            }
        }
    }

    #[test]
    fn smooth_images_blend_to_what_a_direct_solution_gives() {
        // What has to travel far: a slope blended into a constant, in a long narrow image too.
        for (h, w) in [(64, 64), (5, 120), (120, 5), (1, 30), (30, 1), (2, 2), (1, 1)] {
            let image = Image { channels: 1, height: h, width: w, pixels: vec![-0.5; h * w] };
            let slope = |i: usize| (i % w) as f32 / w as f32 * 0.6 + (i / w) as f32 / h as f32 * 0.3 - 0.4;
            let source = Image { pixels: (0..h * w).map(slope).collect(), ..image.clone() };
            let mask: Vec<bool> = (0..h * w).map(|i| i % w < w.div_ceil(2)).collect();
            let patch = Patch { image: &source, mask: &mask, top: 0, left: 0 };
            let error = compare(&image, &patch, Gradients::Source);
            assert!(error < 1e-4, "{h}×{w}: {error}");
        }
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
        #[test]
        fn any_patch_at_any_place(
            (h, w) in (2usize..24, 2usize..24),
            (ph, pw) in (1usize..24, 1usize..24),
            (top, left) in (0usize..30, 0usize..30),
            seed in any::<u64>(),
            share in prop::sample::select(vec![0.3f32, 0.8, 1.0]),
        ) {
            let (image, source) = (noise(h, w, 0.2, seed), noise(ph, pw, 0.2, seed ^ 1));
            let mut rng = Rng::new(&[seed, 2]);
            let mask: Vec<bool> = (0..ph * pw).map(|_| rng.unit() < share).collect();
            let patch = Patch { image: &source, mask: &mask, top, left };
            for gradients in [Gradients::Source, Gradients::Mixed] {
                let error = compare(&image, &patch, gradients);
                prop_assert!(error < 1e-4, "{}", error);
            }
        }
    }

    #[test]
    fn the_same_gradients_change_nothing_and_pixels_outside_the_mask_stay() {
        let image = noise(40, 31, 0.3, 3);
        let shifted = Image { pixels: image.pixels.iter().map(|p| p + 0.25).collect(), ..image.clone() };
        let mask: Vec<bool> = (0..40 * 31).map(|i| (3..30).contains(&(i / 31)) && i % 31 > 4).collect();
        let mut same = image.clone();
        blend(&mut same, &Patch { image: &shifted, mask: &mask, top: 0, left: 0 }, Gradients::Source);
        assert!(same.pixels.iter().zip(&image.pixels).all(|(a, b)| (a - b).abs() < 1e-4));
        let mut other = image.clone();
        let source = noise(40, 31, 0.3, 4);
        blend(&mut other, &Patch { image: &source, mask: &mask, top: 0, left: 0 }, Gradients::Source);
        let outside = mask.iter().zip(other.pixels.iter().zip(&image.pixels)).filter(|(m, _)| !**m);
        assert!(outside.clone().count() > 100 && outside.clone().all(|(_, (a, b))| a == b));
        let inside = mask.iter().zip(other.pixels.iter().zip(&image.pixels)).filter(|(m, _)| **m);
        assert!(inside.clone().filter(|(_, (a, b))| a != b).count() > 600);
    }

    #[test]
    fn channels_are_blended_each_alone_and_a_gray_patch_goes_into_colours() {
        let gray: Vec<Image> = (0..3).map(|c| noise(20, 20, 0.3, c)).collect();
        let pixels = gray.iter().flat_map(|image| image.pixels.clone()).collect();
        let mut colour = Image { channels: 3, height: 20, width: 20, pixels };
        let (source, mask) = (noise(9, 9, 0.3, 7), vec![true; 81]);
        let patch = Patch { image: &source, mask: &mask, top: 5, left: 6 };
        blend(&mut colour, &patch, Gradients::Mixed);
        for (plane, mut gray) in colour.pixels.chunks_exact(400).zip(gray) {
            blend(&mut gray, &patch, Gradients::Mixed);
            assert_eq!(plane, gray.pixels);
        }
    }

    #[test]
    fn fills_are_membranes_between_their_surroundings() {
        // A plane is its own membrane.
        let plane = |i: usize| (i % 30) as f32 * 0.02 - (i / 30) as f32 * 0.01;
        let whole = Image { channels: 1, height: 30, width: 30, pixels: (0..900).map(plane).collect() };
        let mask: Vec<bool> =
            (0..900).map(|i| (5..25).contains(&(i / 30)) && (8..22).contains(&(i % 30))).collect();
        let mut holed = whole.clone();
        holed.pixels.iter_mut().zip(&mask).filter(|(_, m)| **m).for_each(|(p, _)| *p = 0.9);
        fill(&mut holed, &mask);
        assert!(holed.pixels.iter().zip(&whole.pixels).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
