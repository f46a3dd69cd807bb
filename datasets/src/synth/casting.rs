//! Cast discs (pump impellers seen from above, under a lamp at the upper left) as a line camera at a foundry
//! sees them: a relief of rim, groove, vanes, bosses and hub, shaded by its slopes. The defects are changes
//! of that relief. Coordinates and heights are fractions of the image.

use std::ops::RangeInclusive;

use super::curve::{ValueNoise, beyond, bump};
use super::field::{Knot, Noise, byte, direction, stroke};
use super::{Drawing, ImageGenerator};
use crate::rng::Rng;

const KINDS: [&str; 4] = ["blow_hole", "scratch", "burr", "missing_material"];
const BLOW_HOLE: usize = 0;
const SCRATCH: usize = 1;
const BURR: usize = 2;

/// Cosine and sine of k · 60°.
const SIXTHS: [(f32, f32); 6] = {
    const H: f32 = 0.866_025_4;
    [(1.0, 0.0), (0.5, H), (-0.5, H), (-1.0, 0.0), (-0.5, -H), (0.5, -H)]
};
/// Towards the lamp: left, up and out of the image.
const LAMP: [f32; 3] = [-0.45, -0.55, 0.70];

/// The generator; it has no state.
pub(crate) struct Casting;

impl ImageGenerator for Casting {
    fn name(&self) -> &'static str {
        "casting"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    fn sizes(&self) -> RangeInclusive<usize> {
        16..=1024
    }

    fn draw(&self, key: &[u64], size: usize, kind: Option<usize>) -> Drawing {
        let part = CastPart::new(&mut Rng::new(&[key, &[0]].concat()));
        let mut relief = part.relief(size);
        let mut mask = vec![0; size * size];
        if let Some(kind) = kind {
            let rng = &mut Rng::new(&[key, &[1]].concat());
            match kind {
                BLOW_HOLE => relief.blow_holes(rng, &part, &mut mask),
                SCRATCH => relief.scratches(rng, &part, &mut mask),
                BURR => relief.burrs(rng, &part, &mut mask),
                _ => relief.bites(rng, &part, &mut mask),
            }
        }
        let noise = &mut Rng::new(&[key, &[2]].concat());
        Drawing { gray: relief.shade(&part, noise), mask }
    }
}

/// A sound part and how it lies under the camera.
struct CastPart {
    centre: (f32, f32),
    radius: f32,
    /// Cosine and sine of its rotation.
    turn: (f32, f32),
    /// Departure of the outline from a circle, around six sixths.
    outline: ValueNoise<7>,
    metal: f32,
    belt: f32,
    lamp: f32,
    skin: [(Noise, f32); 3],
    noise: f32,
}

impl CastPart {
    fn new(rng: &mut Rng) -> Self {
        CastPart {
            centre: (0.5 + rng.range(-0.016, 0.016), 0.5 + rng.range(-0.016, 0.016)),
            radius: rng.range(0.400, 0.425),
            turn: direction(rng, 0.09),
            outline: ValueNoise::new(rng, 0.003),
            metal: rng.range(0.50, 0.64),
            belt: rng.range(0.10, 0.20),
            lamp: rng.range(0.85, 1.10),
            skin: [(5.0, 0.05), (17.0, 0.035), (37.0, 0.03)].map(|(cells, most)| {
                let strength = most * rng.range(0.5, 1.0);
                (Noise::new(rng, cells), strength)
            }),
            noise: rng.range(0.014, 0.026),
        }
    }

    /// The point at `share` of the radius in the direction k · 60° of the turned part.
    fn spoke(&self, k: usize, share: f32) -> (f32, f32) {
        let (c, s) = SIXTHS[k % 6];
        let (x, y) = (c * self.turn.0 - s * self.turn.1, c * self.turn.1 + s * self.turn.0);
        (self.centre.0 + x * share * self.radius, self.centre.1 + y * share * self.radius)
    }

    /// A point of the ring at `share` of the radius, at any angle.
    fn around(&self, rng: &mut Rng, share: f32) -> (f32, f32) {
        let (x, y) = direction(rng, 1.0); // A half circle …
        let side = if rng.below(2) == 0 { 1.0 } else { -1.0 }; // … and the other.
        (self.centre.0 + side * x * share * self.radius, self.centre.1 + y * share * self.radius)
    }

    /// Distance to the centre in radii; 1 is the outline.
    fn reach(&self, u: f32, v: f32) -> f32 {
        let (x, y) = (u - self.centre.0, v - self.centre.1);
        // The outline varies with the direction; half of it is enough to tell parts apart.
        let radius = self.radius + self.outline.at(0.5 + 0.5 * x / self.radius);
        (x * x + y * y).sqrt() / radius
    }

    fn relief(&self, size: usize) -> Relief {
        let pixel = 1.0 / size as f32;
        let mut relief = Relief {
            size,
            height: vec![0.0; size * size],
            metal: vec![0.0; size * size],
            tone: vec![1.0; size * size],
        };
        for at in 0..size * size {
            let (u, v) = relief.place(at);
            let r = self.reach(u, v);
            let edge = (pixel / self.radius).max(0.02);
            relief.metal[at] = beyond(1.0, r, edge);
            // Rim, flat web, hub with its bore.
            let rim = 0.030 * bump((r - 0.91) / 0.13);
            let hub = 0.045 * (1.0 - beyond(r, 0.27, 0.10)) - 0.09 * (1.0 - beyond(r, 0.12, 0.06));
            relief.height[at] = rim + hub;
            if r < 0.11 {
                relief.tone[at] = 0.30;
            }
        }
        for k in 0..6 {
            // Vanes sweep from the hub to the rim; bosses stand between them.
            let ((au, av), (bu, bv)) = (self.spoke(k, 0.32), self.spoke(k, 0.60));
            let (cu, cv) = self.spoke(k + 1, 0.82);
            let (mu, mv) = (0.72 * bu + 0.28 * cu, 0.72 * bv + 0.28 * cv);
            let knot = |u, v, radius| Knot { u, v, radius };
            let vane = [
                knot(au, av, 0.016),
                knot(mu, mv, 0.014),
                knot(0.4 * mu + 0.6 * cu, 0.4 * mv + 0.6 * cv, 0.010),
            ];
            stroke(&vane, size, |at, cover| relief.height[at] = relief.height[at].max(0.028 * cover));
            if k % 2 == 0 {
                let (u, v) = self.spoke(k, 0.66);
                relief.stamp((u, v), 0.050, |t| 0.042 * bump(t / 1.1));
                relief.stamp((u, v), 0.014, |t| -0.045 * bump(t));
            }
        }
        relief
    }
}

/// What the camera looks at, pixel by pixel.
struct Relief {
    size: usize,
    height: Vec<f32>,
    /// Share of the pixel that is part and not belt.
    metal: Vec<f32>,
    /// Factor on the brightness: bores and holes are dark whatever their slope.
    tone: Vec<f32>,
}

impl Relief {
    fn place(&self, at: usize) -> (f32, f32) {
        let pixel = 1.0 / self.size as f32;
        (((at % self.size) as f32 + 0.5) * pixel, ((at / self.size) as f32 + 0.5) * pixel)
    }

    /// Pixels closer to `centre` than `radius`, with the distance in radii.
    fn disc(&self, centre: (f32, f32), radius: f32) -> Vec<(usize, f32)> {
        let n = self.size as f32;
        let span = |c: f32| {
            let low = ((c - radius) * n - 1.0).max(0.0) as usize;
            low..(((c + radius) * n + 2.0).max(0.0) as usize).min(self.size)
        };
        let pixels = span(centre.1).flat_map(|y| span(centre.0).map(move |x| y * self.size + x));
        let distance = |at: usize| {
            let (u, v) = self.place(at);
            ((u - centre.0) * (u - centre.0) + (v - centre.1) * (v - centre.1)).sqrt() / radius
        };
        pixels.map(|at| (at, distance(at))).filter(|&(_, t)| t < 1.0).collect()
    }

    fn stamp(&mut self, centre: (f32, f32), radius: f32, height: impl Fn(f32) -> f32) {
        for (at, t) in self.disc(centre, radius) {
            self.height[at] += height(t);
        }
    }

    fn pixel(&self) -> f32 {
        1.0 / self.size as f32
    }

    /// Gas bubbles that opened at the surface: round, deep and dark, on web and rim.
    fn blow_holes(&mut self, rng: &mut Rng, part: &CastPart, mask: &mut [u8]) {
        for _ in 0..1 + rng.below(4) {
            let share = rng.range(0.38, 0.92);
            let centre = part.around(rng, share);
            let radius = rng.range(0.018, 0.040).max(1.2 * self.pixel());
            let dark = rng.range(0.35, 0.65);
            for (at, t) in self.disc(centre, 1.25 * radius) {
                let t = 1.25 * t;
                self.height[at] -= 0.8 * radius * bump(t / 1.25);
                self.tone[at] *= 1.0 - dark * beyond(1.0, t, 0.5);
                if t <= 1.05 {
                    mask[at] = 255;
                }
            }
        }
    }

    /// Bright furrows of a tool or of handling, straight across everything.
    fn scratches(&mut self, rng: &mut Rng, part: &CastPart, mask: &mut [u8]) {
        for _ in 0..1 + rng.below(2) {
            let share = rng.range(0.05, 0.55);
            let (u, v) = part.around(rng, share);
            let (dx, dy) = direction(rng, 8.0);
            let half = rng.range(0.16, 0.30);
            let radius = rng.range(0.005, 0.010).max(0.5 * self.pixel());
            let bow = rng.range(-0.03, 0.03);
            let knot = |t: f32, radius| {
                let side = bow * (1.0 - t * t);
                Knot { u: u + t * half * dx - side * dy, v: v + t * half * dy + side * dx, radius }
            };
            let knots = [-1.0, -0.5, 0.0, 0.5, 1.0f32].map(|t| knot(t, radius * (1.2 - 0.5 * t * t)));
            let shine = rng.range(0.25, 0.60);
            stroke(&knots, self.size, |at, cover| {
                if self.metal[at] > 0.5 {
                    self.tone[at] *= 1.0 + shine * cover;
                    if cover >= 0.4 {
                        mask[at] = 255;
                    }
                }
            });
        }
    }

    /// Metal that flowed into the parting line: bright tongues beyond the outline.
    fn burrs(&mut self, rng: &mut Rng, part: &CastPart, mask: &mut [u8]) {
        for _ in 0..1 + rng.below(4) {
            let centre = part.around(rng, 1.0);
            let radius = rng.range(0.024, 0.050).max(1.5 * self.pixel());
            for (at, t) in self.disc(centre, radius) {
                let (u, v) = self.place(at);
                // Ragged: the tongue ends earlier where the noise says so.
                let ragged = 1.0 + 0.45 * part.skin[1].0.at(u * 0.5, v * 0.5);
                let cover = beyond(ragged, t, 0.5) * (1.0 - self.metal[at]);
                if cover > 0.35 {
                    self.metal[at] += cover;
                    self.tone[at] *= 1.15;
                    mask[at] = 255;
                }
            }
        }
    }

    /// The mould was not filled: a piece of rim is not there.
    fn bites(&mut self, rng: &mut Rng, part: &CastPart, mask: &mut [u8]) {
        for _ in 0..1 + rng.below(2) {
            let share = rng.range(0.94, 1.04);
            let centre = part.around(rng, share);
            let radius = rng.range(0.050, 0.095).max(2.0 * self.pixel());
            for (at, t) in self.disc(centre, radius) {
                let (u, v) = self.place(at);
                let ragged = 0.92 + 0.2 * part.skin[2].0.at(u, v);
                let cover = beyond(ragged, t, 0.2) * self.metal[at];
                if cover > 0.0 {
                    self.metal[at] -= cover;
                    if cover >= 0.5 {
                        mask[at] = 255;
                    }
                }
            }
        }
    }

    /// Lambert's law on the slopes of the relief, over a dark belt.
    fn shade(&self, part: &CastPart, rng: &mut Rng) -> Vec<u8> {
        let (n, last) = (self.size as f32, self.size - 1);
        let height =
            |x: usize, y: usize| self.height[y * self.size + x] * self.metal[y * self.size + x].min(1.0);
        let mut gray = Vec::with_capacity(self.height.len());
        for at in 0..self.height.len() {
            let (x, y) = (at % self.size, at / self.size);
            let (left, right) = (x.saturating_sub(1), (x + 1).min(last));
            let (up, down) = (y.saturating_sub(1), (y + 1).min(last));
            let dx = (height(right, y) - height(left, y)) * n / (right - left) as f32;
            let dy = (height(x, down) - height(x, up)) * n / (down - up) as f32;
            // Slopes steeper than the lens resolves are softened.
            let (dx, dy) = (0.6 * dx, 0.6 * dy);
            let facing = (-dx * LAMP[0] - dy * LAMP[1] + LAMP[2]) / (1.0 + dx * dx + dy * dy).sqrt();
            let (u, v) = self.place(at);
            let skin: f32 = part.skin.iter().map(|(noise, strength)| strength * noise.at(u, v)).sum();
            let metal = part.metal * self.tone[at] * (0.30 + part.lamp * facing.max(0.0)) + skin;
            let belt = part.belt + 0.4 * skin;
            let share = self.metal[at].clamp(0.0, 1.0);
            gray.push(byte(belt + (metal - belt) * share + part.noise * rng.bell()));
        }
        gray
    }
}
