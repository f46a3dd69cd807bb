//! Surfaces and lines from which generators build textures and defects.

use crate::rng::{Rng, hash};

/// Value noise on the plane: random knots on a square lattice, smoothstep between them. Values in [−1, 1].
pub(crate) struct Noise {
    seed: u64,
    cells: f32,
}

impl Noise {
    /// `cells` knots lie along the side of the image.
    pub(crate) fn new(rng: &mut Rng, cells: f32) -> Self {
        Noise { seed: rng.next_u64(), cells }
    }

    pub(crate) fn at(&self, u: f32, v: f32) -> f32 {
        // Two cells of margin keep positions just outside the image positive.
        let (x, y) = (u * self.cells + 2.0, v * self.cells + 2.0);
        let (i, j) = (x.floor(), y.floor());
        let ease = |f: f32| f * f * (3.0 - 2.0 * f);
        let (fx, fy) = (ease(x - i), ease(y - j));
        let knot = |di: u64, dj: u64| {
            let bits = hash(&[self.seed, i as u64 + di, j as u64 + dj]) >> 40;
            bits as f32 * (2.0 / (1u64 << 24) as f32) - 1.0
        };
        let row = |dj| knot(0, dj) + (knot(1, dj) - knot(0, dj)) * fx;
        let top = row(0);
        top + (row(1) - top) * fy
    }
}

/// A unit vector at a random angle of up to ± 2·atan(`spread`) from the direction of the x axis, made without
/// trigonometry: (1 − t², 2t)/(1 + t²).
pub(crate) fn direction(rng: &mut Rng, spread: f32) -> (f32, f32) {
    let t = rng.range(-spread, spread);
    ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t))
}

/// A point of a line, in fractions of the image, and the line's half width there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knot {
    pub(crate) u: f32,
    pub(crate) v: f32,
    pub(crate) radius: f32,
}

/// Calls `paint(pixel, cover)` for the pixels within reach of a line; cover in (0, 1] falls over one pixel at
/// the edge. A pixel where two pieces meet is painted by the one that covers it more.
pub(crate) fn stroke(knots: &[Knot], size: usize, mut paint: impl FnMut(usize, f32)) {
    let n = size as f32;
    let mut covers = std::collections::BTreeMap::new();
    for pair in knots.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        let (ax, ay, bx, by) = (a.u * n - 0.5, a.v * n - 0.5, b.u * n - 0.5, b.v * n - 0.5);
        let (dx, dy) = (bx - ax, by - ay);
        let reach = a.radius.max(b.radius) * n + 1.0;
        let span = |p: f32, q: f32| {
            let low = (p.min(q) - reach).max(0.0) as usize;
            low..((p.max(q) + reach + 1.0).max(0.0) as usize).min(size)
        };
        for y in span(ay, by) {
            for x in span(ax, bx) {
                let (px, py) = (x as f32 - ax, y as f32 - ay);
                let t = ((px * dx + py * dy) / (dx * dx + dy * dy).max(1e-6)).clamp(0.0, 1.0);
                let (ex, ey) = (px - t * dx, py - t * dy);
                let radius = (a.radius + (b.radius - a.radius) * t) * n;
                let cover = (radius + 0.5 - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let most: &mut f32 = covers.entry(y * size + x).or_default();
                    *most = most.max(cover);
                }
            }
        }
    }
    covers.into_iter().for_each(|(at, cover)| paint(at, cover));
}

/// A gray value of [0, 1] as a byte.
pub(crate) fn byte(value: f32) -> u8 {
    (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8
}
