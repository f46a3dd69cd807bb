//! Procedural textures: Perlin noise, masks of it as DRAEM draws them, and images of surfaces that nobody
//! photographed.

use crate::pixels::Image;
use crate::rng::{Rng, hash};

/// Perlin's gradient noise (Perlin 1985, with the fade of "Improving Noise", 2002) on the plane, turned by a
/// random angle; values in about [−1, 1], zero at the knots.
#[derive(Clone, Debug)]
pub struct Perlin {
    /// Unit vectors at the knots, and the permutation that says which knot has which: 256 cells until they
    /// repeat.
    gradients: Vec<[f32; 2]>,
    order: Vec<u8>,
    /// Cells along a side of the image, down and across.
    cells: [f32; 2],
    /// Cosine and sine of the turn.
    turn: [f32; 2],
}

/// A uniform direction, without trigonometry: a point of the disc, drawn until one lies in it.
fn direction(mut draw: impl FnMut() -> f32) -> [f32; 2] {
    // Of 32 points, all miss the disc once in 10²¹.
    for _ in 0..32 {
        let (x, y) = (2.0 * draw() - 1.0, 2.0 * draw() - 1.0);
        let square = x * x + y * y;
        if square > 1e-4 && square <= 1.0 {
            let length = square.sqrt();
            return [x / length, y / length];
        }
    }
    [1.0, 0.0]
}

impl Perlin {
    /// Noise with `cells` (down, across) along the sides of the image, turned by up to ± 90°.
    pub fn new(rng: &mut Rng, cells: [f32; 2]) -> Self {
        let [x, y] = direction(|| rng.unit());
        let gradients = (0..256).map(|_| direction(|| rng.unit())).collect();
        let mut order: Vec<u8> = (0..=255).collect();
        (1..256).rev().for_each(|i| order.swap(i, rng.below(i as u64 + 1) as usize));
        // A turn of more than 90° is a mirror image of a smaller one.
        Perlin { gradients, order, cells, turn: [x.abs(), y] }
    }

    /// The noise at row v and column u, fractions of the image.
    pub fn at(&self, v: f32, u: f32) -> f32 {
        let ([cos, sin], (v, u)) = (self.turn, (v - 0.5, u - 0.5));
        let (y, x) = ((sin * u + cos * v) * self.cells[0], (cos * u - sin * v) * self.cells[1]);
        let (i, j) = (y.floor(), x.floor());
        let (fy, fx) = (y - i, x - j);
        let fade = |t: f32| t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
        let corner = |di: i64, dj: i64| {
            let [gx, gy] = self.gradient(i as i64 + di, j as i64 + dj);
            gx * (fx - dj as f32) + gy * (fy - di as f32)
        };
        let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let (top, bottom) =
            (mix(corner(0, 0), corner(0, 1), fade(fx)), mix(corner(1, 0), corner(1, 1), fade(fx)));
        std::f32::consts::SQRT_2 * mix(top, bottom, fade(fy))
    }

    /// The unit vector of a knot.
    fn gradient(&self, i: i64, j: i64) -> [f32; 2] {
        let row = self.order[(i & 255) as usize];
        self.gradients[usize::from(self.order[((i64::from(row) + j) & 255) as usize])]
    }

    /// The noise of a whole image, `[height, width]`.
    pub fn plane(&self, height: usize, width: usize) -> Vec<f32> {
        plane(height, width, |v, u| self.at(v, u))
    }
}

/// `f(row, column)` at the centres of the pixels, fractions of the image.
fn plane(height: usize, width: usize, f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let place = |i: usize, n: usize| (i as f32 + 0.5) / n as f32;
    (0..height * width).map(|i| f(place(i / width, height), place(i % width, width))).collect()
}

/// A mask as DRAEM draws them (Zavrtanik, Kristan and Skočaj 2021, section 3.3 and its published code):
/// Perlin noise of 1 to 32 cells along each side, turned, where it is above ½. `[height, width]`; at least
/// one pixel is true, for any image that has pixels.
pub fn perlin_mask(height: usize, width: usize, rng: &mut Rng) -> Vec<bool> {
    const THRESHOLD: f32 = 0.5;
    let mut last = vec![];
    for _ in 0..8 {
        let cells = [0, 1].map(|_| (1u32 << rng.below(6)) as f32);
        last = Perlin::new(rng, cells).plane(height, width);
        if last.iter().any(|&value| value > THRESHOLD) {
            break;
        }
    }
    // Small images may miss every peak: the highest pixel, then.
    let most = last.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    last.into_iter().map(|value| value > THRESHOLD || value == most && most <= THRESHOLD).collect()
}

/// A surface: a value of about [−1, 1] at each place.
type Surface = Box<dyn Fn(f32, f32) -> f32>;

/// Draws a surface.
type Drawn = fn(&mut Rng) -> Surface;

/// Kinds of surfaces, each drawn with random scales.
const SURFACES: [(&str, Drawn); 7] = [
    ("clouds", clouds),
    ("grain", grain),
    ("stripes", stripes),
    ("weave", weave),
    ("marble", marble),
    ("cells", cells),
    ("dots", dots),
];

/// Names of the surfaces that [`surface`] draws.
pub fn surfaces() -> impl Iterator<Item = &'static str> {
    SURFACES.iter().map(|(name, _)| *name)
}

/// An image of a surface that is drawn along with its scales and colours, `[channels, height, width]` in
/// [−1, 1].
pub fn texture(channels: usize, height: usize, width: usize, rng: &mut Rng) -> Image {
    let kind = rng.below(SURFACES.len() as u64) as usize;
    drawn(SURFACES[kind].1, channels, height, width, rng)
}

/// As [`texture`], of the surface with this name; `None` where there is none.
pub fn surface(name: &str, channels: usize, height: usize, width: usize, rng: &mut Rng) -> Option<Image> {
    let (_, kind) = SURFACES.iter().find(|(known, _)| *known == name)?;
    Some(drawn(*kind, channels, height, width, rng))
}

fn drawn(
    kind: fn(&mut Rng) -> Surface,
    channels: usize,
    height: usize,
    width: usize,
    rng: &mut Rng,
) -> Image {
    let values = plane(height, width, kind(rng));
    // Two colours at some distance, and a third that the heights pass through.
    let near = |rng: &mut Rng| rng.range(-1.0, 1.0);
    let lightness = near(rng);
    let contrast = rng.range(0.3, 1.2) * if rng.below(2) == 0 { -1.0 } else { 1.0 };
    let curve = rng.range(-0.3, 0.3);
    let mut pixels = Vec::with_capacity(channels * values.len());
    for _ in 0..channels {
        let (tint, strength) = (rng.range(-0.3, 0.3), contrast * rng.range(0.6, 1.4));
        let (low, bend) = (lightness + tint, curve + rng.range(-0.2, 0.2));
        pixels.extend(values.iter().map(|&t| (low + strength * (t + bend * t * t)).clamp(-1.0, 1.0)));
    }
    Image { channels, height, width, pixels }
}

/// A random scale of `low` to `high` cells, evenly over octaves.
fn scale(rng: &mut Rng, low: u32, high: u32) -> f32 {
    let octave = 1u32 << (low.ilog2() + rng.below(u64::from((high / low).ilog2().max(1))) as u32);
    octave as f32 * rng.range(1.0, 2.0)
}

/// Octaves of noise, each with half the amplitude of the one before.
fn octaves(rng: &mut Rng, cells: f32, count: usize) -> impl Fn(f32, f32) -> f32 + 'static {
    let layers: Vec<_> = (0..count).map(|k| Perlin::new(rng, [cells * (1u32 << k) as f32; 2])).collect();
    move |v, u| {
        let mut amplitude = 1.0;
        let add = |sum: f32, layer: &Perlin| {
            amplitude *= 0.5;
            sum + 2.0 * amplitude * layer.at(v, u)
        };
        layers.iter().fold(0.0, add)
    }
}

fn clouds(rng: &mut Rng) -> Surface {
    let cells = scale(rng, 1, 8);
    Box::new(octaves(rng, cells, 4))
}

/// Fine noise, drawn out along one direction.
fn grain(rng: &mut Rng) -> Surface {
    let cells = [scale(rng, 16, 64), scale(rng, 2, 16)];
    let noise = Perlin::new(rng, cells);
    let slow = octaves(rng, 2.0, 2);
    Box::new(move |v, u| noise.at(v, u) + 0.4 * slow(v, u))
}

/// A wave of period 1 and height 1: a parabola up, one down.
fn wave(t: f32) -> f32 {
    let t = 2.0 * (t - t.floor()) - 1.0;
    4.0 * t * (1.0 - t.abs())
}

fn stripes(rng: &mut Rng) -> Surface {
    let [cos, sin] = direction(|| rng.unit());
    let (cells, sharp, bent) = (scale(rng, 2, 32), rng.range(0.6, 4.0), rng.range(0.0, 0.05));
    let warp = octaves(rng, 3.0, 2);
    Box::new(move |v, u| (sharp * wave(cells * (cos * u + sin * v + bent * warp(v, u)))).clamp(-1.0, 1.0))
}

fn weave(rng: &mut Rng) -> Surface {
    let [cos, sin] = direction(|| rng.unit());
    let (across, along) = (scale(rng, 4, 32), scale(rng, 4, 32));
    let sharp = rng.range(0.6, 3.0);
    Box::new(move |v, u| {
        let (x, y) = (across * (cos * u + sin * v), along * (cos * v - sin * u));
        let over = if (x.floor() + y.floor()).rem_euclid(2.0) == 0.0 { wave(x) } else { -wave(y) };
        (sharp * over).clamp(-1.0, 1.0)
    })
}

fn marble(rng: &mut Rng) -> Surface {
    let [cos, sin] = direction(|| rng.unit());
    let (cells, warp) = (scale(rng, 1, 8), rng.range(0.1, 0.4));
    let noise = octaves(rng, 2.0, 4);
    Box::new(move |v, u| 1.0 - 2.0 * wave(cells * (cos * u + sin * v + warp * noise(v, u))).abs())
}

/// The point of a cell of a lattice, in cells, and a number of its own.
fn knot(seed: u64, i: f32, j: f32) -> ([f32; 2], f32) {
    let bits = hash(&[seed, i as i64 as u64, j as i64 as u64]);
    let part = |shift: u32| (bits >> shift & 0xffff) as f32 / 65536.0;
    ([i + part(0), j + part(16)], part(32))
}

/// Squared distances to the nearest and second nearest point of the lattice, and the nearest one's number
/// (Worley 1996).
fn nearest(seed: u64, y: f32, x: f32) -> (f32, f32, f32) {
    let (mut first, mut second, mut own) = (f32::MAX, f32::MAX, 0.0);
    for di in [-1.0, 0.0, 1.0] {
        for dj in [-1.0, 0.0, 1.0] {
            let ([ky, kx], number) = knot(seed, y.floor() + di, x.floor() + dj);
            let square = (ky - y) * (ky - y) + (kx - x) * (kx - x);
            if square < first {
                (second, first, own) = (first, square, number);
            } else if square < second {
                second = square;
            }
        }
    }
    (first, second, own)
}

fn cells(rng: &mut Rng) -> Surface {
    let (seed, count, joints) = (rng.next_u64(), scale(rng, 2, 32), rng.below(2) == 0);
    Box::new(move |v, u| {
        let (first, second, number) = nearest(seed, v * count, u * count);
        let edge = (6.0 * (second.sqrt() - first.sqrt())).min(1.0);
        if joints { 2.0 * edge - 1.0 } else { (2.0 * number - 1.0) * edge }
    })
}

fn dots(rng: &mut Rng) -> Surface {
    let (seed, count, most) = (rng.next_u64(), scale(rng, 4, 32), rng.range(0.2, 0.5));
    let slow = octaves(rng, 2.0, 2);
    Box::new(move |v, u| {
        let (first, _, number) = nearest(seed, v * count, u * count);
        let radius = most * (0.3 + 0.7 * number);
        let cover = (8.0 * (radius - first.sqrt()) + 0.5).clamp(0.0, 1.0);
        1.6 * cover - 0.8 + 0.2 * slow(v, u)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perlin_noise_is_smooth_centred_and_zero_at_its_knots() {
        let mut rng = Rng::new(&[5]);
        let noise = Perlin { turn: [1.0, 0.0], ..Perlin::new(&mut rng, [8.0, 8.0]) };
        for k in 0..9 {
            assert!(noise.at(k as f32 / 8.0, 0.25).abs() < 1e-5);
        }
        let (mut sum, mut square, mut most, mut step) = (0.0f64, 0.0f64, 0.0f32, 0.0f32);
        for seed in 0..20 {
            let plane = Perlin::new(&mut Rng::new(&[seed]), [4.0, 7.0]).plane(64, 64);
            for row in plane.chunks_exact(64) {
                step = row.windows(2).fold(step, |step, pair| step.max((pair[0] - pair[1]).abs()));
            }
            sum += plane.iter().map(|&v| f64::from(v)).sum::<f64>();
            square += plane.iter().map(|&v| f64::from(v * v)).sum::<f64>();
            most = plane.iter().fold(most, |most, v| most.max(v.abs()));
        }
        let n = 20.0 * 64.0 * 64.0;
        assert!((sum / n).abs() < 0.03, "mean {}", sum / n);
        assert!((0.2..0.5).contains(&(square / n).sqrt()), "deviation {}", (square / n).sqrt());
        assert!((0.7..=1.01).contains(&most), "largest {most}");
        assert!(step < 0.35, "neighbours differ by {step}");
    }

    #[test]
    fn masks_have_pixels_at_any_size_and_are_never_all() {
        let mut share = 0.0;
        for (height, width) in [(64, 64), (16, 200), (1, 1), (3, 2), (33, 47)] {
            for seed in 0..40 {
                let mask = perlin_mask(height, width, &mut Rng::new(&[seed]));
                assert_eq!(mask.len(), height * width);
                assert!(mask.contains(&true), "{height}×{width} {seed}");
                assert_eq!(mask, perlin_mask(height, width, &mut Rng::new(&[seed])));
                if height == 64 {
                    share += mask.iter().filter(|m| **m).count() as f64 / 4096.0 / 40.0;
                }
            }
        }
        assert!((0.02..0.2).contains(&share), "{share}");
    }

    #[test]
    fn every_surface_has_contrast_varies_with_its_seed_and_stays_in_range() {
        for name in surfaces() {
            let mut contrasts = 0;
            for seed in 0..30 {
                let draw = || surface(name, 3, 48, 40, &mut Rng::new(&[seed])).unwrap();
                let image = draw();
                assert_eq!(image, draw());
                assert_eq!(image.pixels.len(), 3 * 48 * 40);
                assert!(image.pixels.iter().all(|p| (-1.0..=1.0).contains(p)), "{name}");
                let gray = &image.pixels[..48 * 40];
                let mean = gray.iter().sum::<f32>() / gray.len() as f32;
                let variance = gray.iter().map(|p| (p - mean) * (p - mean)).sum::<f32>() / gray.len() as f32;
                contrasts += usize::from(variance.sqrt() > 0.05);
                assert_ne!(image, surface(name, 3, 48, 40, &mut Rng::new(&[seed, 1])).unwrap());
            }
            assert!(contrasts > 20, "{name}: {contrasts} of 30 have contrast");
        }
        assert!(surface("wood", 1, 8, 8, &mut Rng::new(&[0])).is_none());
    }
}
