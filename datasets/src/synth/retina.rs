//! Patches of optical coherence tomography B-scans of the retina, as the paper behind AnoGAN used (Schlegl et
//! al., IPMI 2017), drawn from a model: stacked layers of known reflectivity order, curved and tilted, with
//! vessel shadows and multiplicative speckle. Coordinates are fractions of the image: u to the right, v
//! downwards.

use std::ops::RangeInclusive;

use super::curve::{ValueNoise, beyond, bump};
use super::{Drawing, ImageGenerator};
use crate::rng::Rng;

const KINDS: [&str; 4] = ["intraretinal_fluid", "subretinal_fluid", "hyperreflective_foci", "drusen"];
const INTRARETINAL: usize = 0;
const SUBRETINAL: usize = 1;
const FOCI: usize = 2;
const DRUSEN: usize = 3;

/// Reflectivity from top to bottom: vitreous, RNFL, GCL + IPL, INL, OPL, ONL, EZ, OS, (subretinal fluid),
/// RPE, (drusen), choroid. The two in brackets have no thickness in a healthy eye.
const LEVELS: [f32; 12] = [0.05, 0.66, 0.46, 0.26, 0.45, 0.20, 0.78, 0.44, 0.05, 0.92, 0.58, 0.46];
/// Edges between them: edge k lies above level k + 1.
const EDGES: usize = LEVELS.len() - 1;
const ILM: usize = 0;
const INL_TOP: usize = 2;
const ONL_TOP: usize = 4;
const EZ_TOP: usize = 5;
const FLUID_TOP: usize = 7;
const RPE_TOP: usize = 8;
const DRUSEN_TOP: usize = 9;
const BRUCH: usize = 10;
/// Thickness of the levels between ILM and Bruch's membrane, as shares of the retina.
const THICKNESS: [f32; EDGES - 1] = [0.10, 0.22, 0.12, 0.09, 0.22, 0.07, 0.09, 0.0, 0.09, 0.0];

const CYST_LEVEL: f32 = 0.06;
const FOCUS_LEVEL: f32 = 1.0;

/// The generator; it has no state.
pub(crate) struct Retina;

impl ImageGenerator for Retina {
    fn name(&self) -> &'static str {
        "retina"
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
        let scene = Scene::new(&mut Rng::new(&[key, &[0]].concat()));
        let mut lesions = Lesions::default();
        if let Some(kind) = kind {
            lesions = Lesions::new(&mut Rng::new(&[key, &[1]].concat()), kind, &scene, size);
        }
        render(&scene, &lesions, size, &mut Rng::new(&[key, &[2]].concat()))
    }
}

/// The healthy anatomy of one patch.
struct Scene {
    top: f32,
    tilt: f32,
    bow: f32,
    wobble: ValueNoise<5>,
    total: f32,
    thickness: [ValueNoise<4>; EDGES - 1],
    /// Depth, position and width of the foveal pit; depth 0 away from the fovea.
    pit: (f32, f32, f32),
    levels: [f32; LEVELS.len()],
    /// Position, width and depth of vessel shadows.
    vessels: [(f32, f32, f32); 2],
    gain: ValueNoise<4>,
    choroid: [ValueNoise<9>; 3],
    speckle: f32,
}

impl Scene {
    fn new(rng: &mut Rng) -> Self {
        let brightness = rng.range(0.88, 1.10);
        Scene {
            top: rng.range(0.14, 0.22),
            tilt: rng.range(-0.06, 0.06),
            bow: rng.range(-0.035, 0.035),
            wobble: ValueNoise::new(rng, 0.008),
            total: rng.range(0.48, 0.52),
            thickness: std::array::from_fn(|_| ValueNoise::new(rng, 0.07)),
            pit: match rng.below(8) {
                0 => (rng.range(0.03, 0.05), rng.range(0.2, 0.8), rng.range(0.18, 0.32)),
                _ => (0.0, 0.5, 1.0),
            },
            levels: LEVELS.map(|level| level * brightness * rng.range(0.93, 1.07)),
            vessels: std::array::from_fn(|_| match rng.below(2) {
                0 => (rng.unit(), rng.range(0.020, 0.045), rng.range(0.15, 0.35)),
                _ => (0.0, 1.0, 0.0),
            }),
            gain: ValueNoise::new(rng, 0.06),
            choroid: std::array::from_fn(|_| ValueNoise::new(rng, 0.22)),
            speckle: rng.range(0.07, 0.11),
        }
    }

    /// Edges of the healthy layers in one column.
    fn edges(&self, u: f32) -> [f32; EDGES] {
        let x = u - 0.5;
        let pit = self.pit.0 * bump((u - self.pit.1) / self.pit.2);
        let mut edges =
            [self.top + self.tilt * x + self.bow * (4.0 * x * x - 0.5) + self.wobble.at(u); EDGES];
        for (k, share) in THICKNESS.iter().enumerate() {
            edges[k + 1] = edges[k] + self.total * share * (1.0 + self.thickness[k].at(u));
        }
        // The pit presses the inner layers together down to the OPL and leaves the outer ones in place.
        let depth = (edges[ONL_TOP] - edges[ILM]).max(1e-3);
        let (ilm, press) = (edges[ILM], (pit / depth).min(0.75));
        for edge in &mut edges[..ONL_TOP] {
            *edge += (ilm + depth - *edge) * press;
        }
        edges
    }
}

/// An ellipse: cysts and foci.
struct Ellipse {
    u: f32,
    v: f32,
    radius_u: f32,
    radius_v: f32,
}

/// A lift of the layers: fluid below the retina or drusen.
struct Lift {
    u: f32,
    width: f32,
    height: f32,
}

/// What disease adds to a scene.
#[derive(Default)]
struct Lesions {
    cysts: Vec<Ellipse>,
    foci: Vec<Ellipse>,
    fluid: Vec<Lift>,
    drusen: Vec<Lift>,
}

impl Lesions {
    fn new(rng: &mut Rng, kind: usize, scene: &Scene, size: usize) -> Self {
        let mut lesions = Lesions::default();
        let pixel = 1.0 / size as f32;
        match kind {
            INTRARETINAL => {
                for _ in 0..3 + rng.below(3) {
                    let u = rng.range(0.12, 0.88);
                    let edges = scene.edges(u);
                    let top = if rng.below(3) == 0 { INL_TOP } else { ONL_TOP };
                    let v = (edges[top] + edges[top + 1]) * 0.5;
                    let radius_v = rng.range(0.065, 0.100).max(1.5 * pixel);
                    lesions.cysts.push(Ellipse { u, v, radius_u: radius_v * rng.range(1.0, 1.8), radius_v });
                }
            }
            SUBRETINAL => lesions.fluid.push(Lift {
                u: rng.range(0.25, 0.75),
                width: rng.range(0.18, 0.34),
                height: rng.range(0.07, 0.13).max(2.0 * pixel),
            }),
            FOCI => {
                for _ in 0..7 + rng.below(5) {
                    let u = rng.range(0.06, 0.94);
                    let edges = scene.edges(u);
                    // Anywhere between the GCL and the EZ.
                    let v = rng.range(edges[1] + 0.02, edges[EZ_TOP] - 0.02);
                    let radius = rng.range(0.024, 0.036).max(1.1 * pixel);
                    lesions.foci.push(Ellipse {
                        u,
                        v,
                        radius_u: radius * rng.range(1.0, 1.4),
                        radius_v: radius,
                    });
                }
            }
            DRUSEN => {
                for _ in 0..2 + rng.below(3) {
                    lesions.drusen.push(Lift {
                        u: rng.range(0.1, 0.9),
                        width: rng.range(0.08, 0.14).max(2.0 * pixel),
                        height: rng.range(0.07, 0.12).max(1.5 * pixel),
                    });
                }
            }
            _ => {}
        }
        lesions
    }

    /// Raises the edges above the lesion; layers further up follow less.
    fn lift(&self, u: f32, edges: &mut [f32; EDGES]) {
        for Lift { u: centre, width, height } in &self.fluid {
            let t = (u - centre) / width;
            let lift = height * (1.0 - t * t).max(0.0);
            edges[EZ_TOP..=FLUID_TOP].iter_mut().for_each(|edge| *edge -= lift);
            edges[..EZ_TOP].iter_mut().for_each(|edge| *edge -= 0.7 * lift);
        }
        let heights = self.drusen.iter().map(|d| d.height * bump((u - d.u) / d.width));
        let lift = heights.fold(0.0, f32::max);
        edges[EZ_TOP..=DRUSEN_TOP].iter_mut().for_each(|edge| *edge -= lift);
        edges[..EZ_TOP].iter_mut().for_each(|edge| *edge -= 0.3 * lift);
    }
}

fn render(scene: &Scene, lesions: &Lesions, size: usize, rng: &mut Rng) -> Drawing {
    let pixel = 1.0 / size as f32;
    let blur = pixel.max(0.012);
    let at = |i: usize| (i as f32 + 0.5) * pixel;
    let mut columns: Vec<_> = (0..size).map(|x| scene.edges(at(x))).collect();
    columns.iter_mut().enumerate().for_each(|(x, edges)| lesions.lift(at(x), edges));
    let mut light = vec![0.0f32; size * size];
    let mut mask = vec![0u8; size * size];
    for (x, edges) in columns.iter().enumerate() {
        let u = at(x);
        let shadow: f32 =
            scene.vessels.iter().map(|&(c, w, depth)| 1.0 - depth * bump((u - c) / (2.0 * w))).product();
        let vessel: f32 = scene.vessels.iter().map(|&(c, w, depth)| depth * bump((u - c) / w)).sum();
        let gain = 1.0 + scene.gain.at(u);
        let choroid = scene.choroid.each_ref().map(|curve| curve.at(u));
        // Edges lie in order, so going down a pixel sees only those within the blur; `passed` are behind it.
        let mut passed = 0;
        for y in 0..size {
            let v = at(y);
            while passed < EDGES && edges[passed] + 0.5 * blur <= v {
                passed += 1;
            }
            let mut value = scene.levels[passed];
            for k in (passed..EDGES).take_while(|&k| edges[k] - 0.5 * blur < v) {
                value += (scene.levels[k + 1] - scene.levels[k]) * beyond(v, edges[k], blur);
            }
            let below = v - edges[BRUCH];
            if below > 0.0 {
                // Three bands of vessels, darker with depth.
                let band = choroid[((below * 14.0) as usize).min(2)];
                value *= (1.0 + band * (below * 14.0).min(1.0)) / (1.0 + 5.0 * below);
            }
            let nerve = beyond(v, edges[ILM], blur) - beyond(v, edges[ILM + 1], blur);
            value += 0.5 * vessel * nerve;
            value *= gain * (1.0 - (1.0 - shadow) * beyond(v, edges[ILM + 1], 2.0 * blur));
            light[y * size + x] = value;
            let fluid = v > edges[FLUID_TOP] && v < edges[RPE_TOP];
            let druse =
                edges[BRUCH] - edges[DRUSEN_TOP] > 0.5 * pixel && v > edges[RPE_TOP] && v < edges[BRUCH];
            mask[y * size + x] = if fluid || druse { 255 } else { 0 };
        }
    }
    for cyst in &lesions.cysts {
        paint(cyst, CYST_LEVEL, 0.16, size, &mut light, &mut mask);
    }
    for focus in &lesions.foci {
        paint(focus, FOCUS_LEVEL, 0.0, size, &mut light, &mut mask);
    }
    Drawing { gray: speckled(&light, scene.speckle, size, rng), mask }
}

/// Blends an ellipse of one level into the image; `rim` brightens a ring of two pixels around it.
fn paint(shape: &Ellipse, level: f32, rim: f32, size: usize, light: &mut [f32], mask: &mut [u8]) {
    let n = size as f32;
    let (cx, cy) = (shape.u * n - 0.5, shape.v * n - 0.5);
    let (rx, ry) = (shape.radius_u * n, shape.radius_v * n);
    let span = |c: f32, r: f32| (c - r - 3.0).max(0.0) as usize..((c + r + 4.0).max(0.0) as usize).min(size);
    for y in span(cy, ry) {
        for x in span(cx, rx) {
            let (dx, dy) = ((x as f32 - cx) / rx, (y as f32 - cy) / ry);
            // Distance to the outline in pixels, negative inside; exact for circles.
            let distance = ((dx * dx + dy * dy).sqrt() - 1.0) * rx.min(ry);
            let inside = (0.5 - distance).clamp(0.0, 1.0);
            let ring = (1.0 - (distance - 1.0).abs()).max(0.0);
            let at = y * size + x;
            light[at] += (level - light[at]) * inside + rim * ring;
            if distance <= 0.5 {
                mask[at] = 255;
            }
        }
    }
}

/// Multiplicative speckle, correlated along the row as a scan has it, over a weak noise floor.
fn speckled(light: &[f32], strength: f32, size: usize, rng: &mut Rng) -> Vec<u8> {
    let mut gray = Vec::with_capacity(light.len());
    for row in light.chunks_exact(size) {
        let mut last = rng.bell();
        for &value in row {
            let fresh = rng.bell();
            // 0.8² + 0.6² = 1 keeps the variance.
            let noise = 0.8 * fresh + 0.6 * last;
            last = fresh;
            let noisy = value * (1.0 + strength * noise) + 0.03 + 0.012 * noise;
            gray.push((noisy * 255.0 + 0.5).clamp(0.0, 255.0) as u8);
        }
    }
    gray
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Mean gray of the masked and of the other pixels, before and after an anomaly.
    fn contrast(kind: usize, index: u64, size: usize) -> (f64, f64) {
        let normal = Retina.draw(&[0, 1, index], size, None);
        let ill = Retina.draw(&[0, 1, index], size, Some(kind));
        assert!(normal.mask.iter().all(|&m| m == 0));
        let change = |inside: bool| {
            let pixels =
                normal.gray.iter().zip(&ill.gray).zip(&ill.mask).filter(|(_, m)| (**m != 0) == inside);
            let (sum, count) = pixels.fold((0.0, 0), |(sum, count), ((a, b), _)| {
                (sum + (f64::from(*a) - f64::from(*b)).abs(), count + 1)
            });
            sum / f64::from(count)
        };
        (change(true), change(false))
    }

    #[test]
    fn the_mask_holds_the_change() {
        for size in [32, 64, 128] {
            for (kind, name) in KINDS.iter().enumerate() {
                let of = |index| contrast(kind, index, size);
                let (inside, outside): (Vec<_>, Vec<_>) = (0..20).map(of).unzip();
                let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
                let (inside, outside) = (mean(&inside), mean(&outside));
                // Fluid lifts the layers above it, so there is change outside as well.
                assert!(inside > 30.0 && inside > 2.5 * outside, "{name} at {size}: {inside} {outside}");
            }
        }
    }

    #[test]
    fn pixels_change_only_with_the_version() {
        let mut drawn = Vec::new();
        for (index, size) in [(0, 16), (1, 32), (2, 64)] {
            for kind in [None, Some(0), Some(1), Some(2), Some(3)] {
                let drawing = Retina.draw(&[9, 1, index], size, kind);
                drawn.extend(drawing.gray);
                drawn.extend(drawing.mask);
            }
        }
        let digest = Sha256::digest(&drawn);
        assert_eq!(Retina.version(), 1);
        assert_eq!(
            format!("{:02x?}", &digest[..4]),
            "[c3, 8a, 4c, cf]",
            "raise the version, then write down the new digest"
        );
    }

    #[test]
    fn layers_never_cross() {
        for seed in 0..200 {
            let scene = Scene::new(&mut Rng::new(&[seed]));
            for (kind, name) in KINDS.iter().enumerate() {
                let lesions = Lesions::new(&mut Rng::new(&[seed, 1]), kind, &scene, 64);
                for x in 0..64 {
                    let u = x as f32 / 63.0;
                    let mut edges = scene.edges(u);
                    lesions.lift(u, &mut edges);
                    let crossing = edges.windows(2).find(|pair| pair[0] > pair[1] + 1e-5);
                    assert!(crossing.is_none(), "seed {seed}, {name}, column {u}: {edges:?}");
                }
            }
        }
    }
}
