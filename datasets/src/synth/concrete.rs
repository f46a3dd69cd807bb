//! Surfaces of concrete as bridge and wall inspections photograph them: cement paste with aggregate showing
//! through, stains, pores and the marks of formwork; the anomalies are cracks. Coordinates are fractions of
//! the image.

use std::ops::RangeInclusive;

use super::curve::bump;
use super::field::{Knot, Noise, byte, direction, stroke};
use super::{Drawing, ImageGenerator};
use crate::rng::Rng;

const KINDS: [&str; 4] = ["crack_hairline", "crack_wide", "crack_branching", "crack_map"];
const HAIRLINE: usize = 0;
const WIDE: usize = 1;
const BRANCHING: usize = 2;

/// The generator; it has no state.
pub(crate) struct Concrete;

impl ImageGenerator for Concrete {
    fn name(&self) -> &'static str {
        "concrete"
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
        let surface = Surface::new(&mut Rng::new(&[key, &[0]].concat()));
        let mut light = surface.light(size);
        let mut mask = vec![0; size * size];
        if let Some(kind) = kind {
            crack(&mut Rng::new(&[key, &[1]].concat()), kind, size, &mut light, &mut mask);
        }
        let mut grain = Rng::new(&[key, &[2]].concat());
        let gray = light.iter().map(|&value| byte(value + surface.grain * grain.bell())).collect();
        Drawing { gray, mask }
    }
}

/// A hole left by an air bubble.
struct Pore {
    u: f32,
    v: f32,
    radius: f32,
    depth: f32,
}

/// A sound surface.
struct Surface {
    level: f32,
    /// Fall of light across the image.
    tilt: (f32, f32),
    stains: [(Noise, f32); 2],
    aggregate: [(Noise, f32); 2],
    /// Position across, direction and strength of the mark between two formwork boards; strength 0 without
    /// one.
    seam: (f32, (f32, f32), f32),
    pores: Vec<Pore>,
    grain: f32,
}

impl Surface {
    fn new(rng: &mut Rng) -> Self {
        Surface {
            level: rng.range(0.46, 0.74),
            tilt: (rng.range(-0.16, 0.16), rng.range(-0.16, 0.16)),
            stains: [(2.0, 0.12), (4.5, 0.08)].map(|(cells, most)| {
                let strength = rng.range(0.3, 1.0) * most;
                (Noise::new(rng, cells), strength)
            }),
            aggregate: [(13.0, 0.045), (27.0, 0.045)].map(|(cells, most)| {
                let strength = rng.range(0.5, 1.0) * most;
                (Noise::new(rng, cells), strength)
            }),
            seam: match rng.below(6) {
                0 => (rng.range(0.15, 0.85), direction(rng, 0.05), rng.range(0.03, 0.07)),
                _ => (0.5, (1.0, 0.0), 0.0),
            },
            pores: (0..rng.below(15))
                .map(|_| Pore {
                    u: rng.unit(),
                    v: rng.unit(),
                    radius: rng.range(0.008, 0.026),
                    depth: rng.range(0.12, 0.38),
                })
                .collect(),
            grain: rng.range(0.018, 0.034),
        }
    }

    fn light(&self, size: usize) -> Vec<f32> {
        let pixel = 1.0 / size as f32;
        let mut light = Vec::with_capacity(size * size);
        for at in 0..size * size {
            let (u, v) = (((at % size) as f32 + 0.5) * pixel, ((at / size) as f32 + 0.5) * pixel);
            let mut value = self.level + self.tilt.0 * (u - 0.5) + self.tilt.1 * (v - 0.5);
            for (noise, strength) in self.stains.iter().chain(&self.aggregate) {
                value += strength * noise.at(u, v);
            }
            let (across, (dx, dy), strength) = self.seam;
            let distance = (v - across) * dx - (u - 0.5) * dy;
            // A ridge of paste that ran out between the boards: bright above, its shadow below.
            let width = (1.6 * pixel).max(0.02);
            value +=
                strength * (bump((distance + 0.5 * width) / width) - bump((distance - 0.5 * width) / width));
            light.push(value);
        }
        for pore in &self.pores {
            let radius = pore.radius.max(0.7 * pixel);
            let reach = |c: f32| {
                let low = ((c - 2.0 * radius) * size as f32).max(0.0) as usize;
                low..(((c + 2.0 * radius) * size as f32 + 1.0) as usize).min(size)
            };
            for y in reach(pore.v) {
                for x in reach(pore.u) {
                    let (du, dv) = ((x as f32 + 0.5) * pixel - pore.u, (y as f32 + 0.5) * pixel - pore.v);
                    let t = (du * du + dv * dv).sqrt() / radius;
                    // Dark inside, and the lower edge catches the light.
                    let lit = (1.0 - (t - 1.2).abs() * 2.5).max(0.0) * (dv / radius).clamp(0.0, 1.0);
                    light[y * size + x] += 0.25 * pore.depth * lit - pore.depth * bump(t / 1.3);
                }
            }
        }
        light
    }
}

/// A line that wanders: each step turns a little, and the width follows its own walk.
fn path(rng: &mut Rng, from: (f32, f32), towards: (f32, f32), length: f32, radius: f32) -> Vec<Knot> {
    const STEP: f32 = 0.035;
    let ((mut u, mut v), (mut dx, mut dy)) = (from, towards);
    let (home_x, home_y) = towards;
    let steps = (length / STEP) as usize + 1;
    let mut knots = vec![Knot { u, v, radius }];
    let mut swell: f32 = 1.0;
    for step in 0..steps {
        // A turn to the side, and a pull back to the first direction, so that cracks cross the image.
        let turn = rng.range(-0.75, 0.75);
        (dx, dy) = (dx - turn * dy + 0.25 * home_x, dy + turn * dx + 0.25 * home_y);
        let norm = (dx * dx + dy * dy).sqrt().max(1e-3);
        (dx, dy) = (dx / norm, dy / norm);
        (u, v) = (u + STEP * dx, v + STEP * dy);
        swell = (swell + rng.range(-0.25, 0.25)).clamp(0.6, 1.4);
        // The last fifth runs out to a point.
        let taper = ((steps - step) as f32 / (0.2 * steps as f32)).min(1.0);
        knots.push(Knot { u, v, radius: radius * swell * (0.4 + 0.6 * taper) });
        if !(-0.1..1.1).contains(&u) || !(-0.1..1.1).contains(&v) {
            break;
        }
    }
    knots
}

/// Draws the cracks of one kind into a surface.
fn crack(rng: &mut Rng, kind: usize, size: usize, light: &mut [f32], mask: &mut [u8]) {
    let pixel = 1.0 / size as f32;
    let (radius, depth) = match kind {
        HAIRLINE => (rng.range(0.006, 0.009), rng.range(0.34, 0.52)),
        WIDE => (rng.range(0.013, 0.028), rng.range(0.28, 0.56)),
        BRANCHING => (rng.range(0.007, 0.014), rng.range(0.30, 0.52)),
        _ => (rng.range(0.005, 0.008), rng.range(0.30, 0.45)),
    };
    // A line thinner than a pixel fades instead of vanishing.
    let radius = radius.max(0.42 * pixel);
    let mut lines = Vec::new();
    let main = |rng: &mut Rng| {
        // From one side to the other, along either axis.
        let (along, across) = (direction(rng, 0.25), rng.range(0.15, 0.85));
        let start = rng.range(-0.05, 0.12);
        match rng.below(2) {
            0 => path(rng, (start, across), along, 1.1, radius),
            _ => path(rng, (across, start), (along.1, along.0), 1.1, radius),
        }
    };
    lines.push(main(rng));
    if kind == BRANCHING {
        for _ in 0..2 + rng.below(3) {
            let knot = lines[0][(lines[0].len() as f32 * rng.range(0.15, 0.75)) as usize];
            let (towards, length) = (direction(rng, 8.0), rng.range(0.25, 0.6));
            lines.push(path(rng, (knot.u, knot.v), towards, length, 0.75 * knot.radius.max(radius)));
        }
    } else if kind != HAIRLINE && kind != WIDE {
        for _ in 0..2 + rng.below(2) {
            lines.push(main(rng));
        }
        for _ in 0..3 + rng.below(3) {
            let line = &lines[rng.below(lines.len() as u64) as usize];
            let knot = line[rng.below(line.len() as u64) as usize];
            let (towards, length) = (direction(rng, 8.0), rng.range(0.15, 0.4));
            lines.push(path(rng, (knot.u, knot.v), towards, length, 0.8 * radius));
        }
    }
    let mut cover = vec![0.0f32; light.len()];
    for line in &lines {
        stroke(line, size, |at, c| cover[at] = cover[at].max(c));
    }
    for ((value, mask), cover) in light.iter_mut().zip(mask).zip(cover) {
        *value *= 1.0 - depth * cover;
        if cover >= 0.4 {
            *mask = 255;
        }
    }
}
