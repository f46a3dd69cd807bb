//! Handwritten-like digits: white strokes on black, in the manner of MNIST, as ten kinds of images of which
//! none is more than the others. Defects are changes of the strokes.

use std::ops::RangeInclusive;

use super::field::{Knot, byte, direction, stroke};
use super::{Drawing, ImageGenerator};
use crate::rng::Rng;

const KINDS: [&str; 4] = ["gap", "blot", "slash", "bulge"];
const GAP: usize = 0;
const BLOT: usize = 1;
const SLASH: usize = 2;

/// Points of the strokes of each digit, in hundredths of the image.
const DIGITS: [&[&[(i8, i8)]]; 10] = [
    &[&[(50, 18), (35, 25), (30, 50), (35, 75), (50, 82), (65, 75), (70, 50), (65, 25), (50, 18)]],
    &[&[(38, 32), (52, 18), (52, 82)]],
    &[&[(32, 32), (40, 20), (58, 19), (67, 32), (62, 47), (31, 81), (70, 81)]],
    &[&[(33, 24), (50, 17), (66, 27), (62, 43), (46, 48), (64, 54), (69, 69), (52, 83), (32, 75)]],
    &[&[(58, 82), (58, 18), (29, 62), (72, 62)]],
    &[&[(67, 19), (37, 19), (35, 46), (54, 43), (68, 56), (64, 76), (47, 83), (32, 75)]],
    &[&[(62, 18), (42, 36), (33, 62), (42, 80), (60, 80), (68, 65), (58, 53), (40, 56), (34, 66)]],
    &[&[(31, 20), (70, 20), (46, 82)]],
    &[&[
        (50, 49),
        (36, 40),
        (38, 23),
        (50, 17),
        (62, 23),
        (64, 40),
        (50, 49),
        (33, 62),
        (36, 78),
        (50, 83),
        (64, 78),
        (67, 62),
        (50, 49),
    ]],
    &[&[(66, 35), (57, 48), (40, 45), (34, 31), (44, 19), (60, 20), (66, 35), (62, 62), (52, 82)]],
];

/// The generator; it has no state.
pub(crate) struct Digits;

impl ImageGenerator for Digits {
    fn name(&self) -> &'static str {
        "digits"
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
        let rng = &mut Rng::new(&[key, &[0]].concat());
        let digit = DIGITS[rng.below(10) as usize];
        let hand = Hand::new(rng);
        let mut ink = vec![0.0_f32; size * size];
        let strokes: Vec<Vec<Knot>> = digit.iter().map(|points| hand.stroke(points, rng)).collect();
        for knots in &strokes {
            stroke(knots, size, |at, cover| ink[at] = ink[at].max(cover));
        }
        let mut mask = vec![0; size * size];
        if let Some(kind) = kind {
            let rng = &mut Rng::new(&[key, &[1]].concat());
            spoil(kind, &strokes, size, rng, &mut ink, &mut mask);
        }
        Drawing { gray: ink.iter().map(|&cover| byte(cover * hand.ink)).collect(), mask }
    }
}

/// How someone writes: slant, size, place, width of the pen.
struct Hand {
    turn: (f32, f32),
    slant: f32,
    scale: (f32, f32),
    centre: (f32, f32),
    pen: f32,
    ink: f32,
}

impl Hand {
    fn new(rng: &mut Rng) -> Self {
        Hand {
            turn: direction(rng, 0.08),
            slant: rng.range(-0.22, 0.10),
            scale: (rng.range(0.85, 1.15), rng.range(0.90, 1.05)),
            centre: (0.5 + rng.range(-0.04, 0.04), 0.5 + rng.range(-0.03, 0.03)),
            pen: rng.range(0.030, 0.052),
            ink: rng.range(0.85, 1.0),
        }
    }

    /// A stroke in this hand; its corners tremble, and are rounded once.
    fn stroke(&self, points: &[(i8, i8)], rng: &mut Rng) -> Vec<Knot> {
        let placed = points.iter().map(|&(u, v)| {
            let (u, v) = (f32::from(u) / 100.0 - 0.5, f32::from(v) / 100.0 - 0.5);
            let (u, v) = (u + rng.range(-0.015, 0.015), v + rng.range(-0.015, 0.015));
            let (u, v) = ((u + self.slant * v) * self.scale.0, v * self.scale.1);
            let (c, s) = self.turn;
            Knot { u: self.centre.0 + c * u - s * v, v: self.centre.1 + s * u + c * v, radius: self.pen }
        });
        let placed: Vec<Knot> = placed.collect();
        let between = |a: Knot, b: Knot, t: f32| Knot {
            u: a.u + (b.u - a.u) * t,
            v: a.v + (b.v - a.v) * t,
            radius: self.pen,
        };
        let mut rounded = vec![placed[0]];
        for pair in placed.windows(2) {
            rounded.extend([between(pair[0], pair[1], 0.25), between(pair[0], pair[1], 0.75)]);
        }
        rounded.push(placed[placed.len() - 1]);
        rounded
    }
}

/// Takes ink away, or adds some; the mask holds every pixel that changes.
fn spoil(kind: usize, strokes: &[Vec<Knot>], size: usize, rng: &mut Rng, ink: &mut [f32], mask: &mut [u8]) {
    let all = strokes[rng.below(strokes.len() as u64) as usize].as_slice();
    let inner = 1 + rng.below(all.len() as u64 - 2) as usize;
    let on = all[inner];
    let (line, fades) = match kind {
        GAP => (vec![Knot { radius: on.radius * 2.2, ..on }; 2], true),
        BLOT => {
            let (u, v) = (on.u + rng.range(-0.05, 0.05), on.v + rng.range(-0.05, 0.05));
            (vec![Knot { u, v, radius: on.radius * rng.range(2.2, 2.8) }; 2], false)
        }
        SLASH => {
            let (u, v) = (rng.range(0.16, 0.26), rng.range(0.18, 0.34));
            let from = Knot { u, v, radius: on.radius };
            let to = Knot { u: 1.0 - u + rng.range(-0.05, 0.05), v: 1.0 - v, ..from };
            (vec![from, to], false)
        }
        _ => {
            let wide = |knot: &Knot| Knot { radius: knot.radius * 2.0, ..*knot };
            (all[inner - 1..=inner + 1].iter().map(wide).collect(), false)
        }
    };
    stroke(&line, size, |at, cover| {
        let new = if fades { ink[at].min(1.0 - cover) } else { ink[at].max(cover) };
        if (new - ink[at]).abs() > 0.02 {
            mask[at] = 255;
        }
        ink[at] = new;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_changes_what_its_mask_holds_and_nothing_else() {
        for size in [16, 28, 64] {
            for (kind, name) in KINDS.into_iter().enumerate() {
                for index in 0..40 {
                    let sound = Digits.draw(&[0, 1, index], size, None);
                    let faulty = Digits.draw(&[0, 1, index], size, Some(kind));
                    assert!(sound.mask.iter().all(|&m| m == 0));
                    let masked = faulty.mask.iter().filter(|&&m| m != 0).count();
                    assert!((1..size * size / 4).contains(&masked), "{name} {index} at {size}: {masked}");
                    for ((a, b), m) in sound.gray.iter().zip(&faulty.gray).zip(&faulty.mask) {
                        assert!(*m != 0 || a.abs_diff(*b) <= 6, "{name} {index} at {size}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_digit_is_drawn_within_the_image() {
        let size = 32;
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..200 {
            seen.insert(Rng::new(&[7, index, 0]).below(10));
            let gray = Digits.draw(&[7, index], size, None).gray;
            let ink = gray.iter().filter(|&&v| v > 128).count();
            assert!((size..size * size / 3).contains(&ink), "{index}: {ink} pixels of ink");
            let border = (0..size).flat_map(|i| {
                [gray[i], gray[(size - 1) * size + i], gray[i * size], gray[i * size + size - 1]]
            });
            assert!(border.into_iter().all(|v| v == 0), "{index} reaches the border");
        }
        assert_eq!(seen.len(), 10);
    }
}
