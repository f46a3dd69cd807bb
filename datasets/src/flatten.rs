//! Layer flattening of optical coherence tomography scans: columns are shifted so that the brightest layer,
//! the pigment epithelium of a retina, lies level, as in the paper behind AnoGAN (Schlegl et al., IPMI 2017).

use crate::pixels::{Raw, Samples};

/// Shifts every column so that the brightest layer lies in one row, the median of where it lay; what a shift
/// leaves open repeats the border pixel. The same shifts apply to a mask.
pub(crate) fn flatten(image: &Raw, mask: Option<&Raw>) -> (Raw, Option<Raw>) {
    let shifts = shifts(image);
    (shifted(image, &shifts), mask.map(|mask| shifted(mask, &shifts)))
}

/// Rows to move each column down by (negative: up).
fn shifts(image: &Raw) -> Vec<isize> {
    let path = smoothed(&brightest_path(image));
    let mut sorted = path.clone();
    sorted.sort_unstable();
    let level = sorted[sorted.len() / 2];
    path.iter().map(|&row| level as isize - row as isize).collect()
}

/// The row of each column on the path from left to right that gathers most light, where neighbours differ by
/// a bounded slope: dynamic programming, so that a bright speck does not draw the path to itself.
fn brightest_path(image: &Raw) -> Vec<usize> {
    let (width, height) = (image.width, image.height);
    // Layers fall or rise by less than the height over half the width.
    let slope = (2 * height).div_ceil(width).clamp(1, 16);
    let mut best = column(image, 0);
    // back[x · height + y]: how far above (or below) y the path was in the column before, plus the slope.
    let mut back = vec![0u8; width * height];
    for x in 1..width {
        let light = column(image, x);
        let next = (0..height).map(|y| {
            let from = y.saturating_sub(slope)..(y + slope + 1).min(height);
            // Straight on wins ties.
            let before = from.fold(y, |most, row| if best[row] > best[most] { row } else { most });
            back[x * height + y] = (before + slope - y) as u8;
            best[before] + light[y]
        });
        best = next.collect();
    }
    let mut row = (0..height).fold(0, |most, row| if best[row] > best[most] { row } else { most });
    let mut path = vec![row; width];
    for x in (1..width).rev() {
        row = row + usize::from(back[x * height + row]) - slope;
        path[x - 1] = row;
    }
    path
}

/// One column's light, averaged over a 32nd of the height.
fn column(image: &Raw, x: usize) -> Vec<f32> {
    let reach = (image.height / 64).max(1);
    let mut sums = vec![0.0f32; image.height + 1];
    for y in 0..image.height {
        let at = (y * image.width + x) * image.channels;
        // Alpha is no light.
        let colours = if image.channels < 3 { 1 } else { 3 };
        let light: f32 = match &image.samples {
            Samples::U8(s) => s[at..at + colours].iter().map(|&v| f32::from(v)).sum(),
            Samples::U16(s) => s[at..at + colours].iter().map(|&v| f32::from(v) / 257.0).sum(),
        };
        sums[y + 1] = sums[y] + light;
    }
    let mean = |y: usize| {
        let (low, high) = (y.saturating_sub(reach), (y + reach + 1).min(image.height));
        (sums[high] - sums[low]) / (high - low) as f32
    };
    (0..image.height).map(mean).collect()
}

/// Moving average over a 16th of the width.
fn smoothed(path: &[usize]) -> Vec<usize> {
    let reach = (path.len() / 32).max(1);
    // Sums up to each place: a window's is a difference of two, whatever its width.
    let mut sums = vec![0];
    sums.extend(path.iter().scan(0, |sum, y| {
        *sum += y;
        Some(*sum)
    }));
    let mean = |x: usize| {
        let (from, to) = (x.saturating_sub(reach), (x + reach + 1).min(path.len()));
        (sums[to] - sums[from] + (to - from) / 2) / (to - from)
    };
    (0..path.len()).map(mean).collect()
}

fn shifted(image: &Raw, shifts: &[isize]) -> Raw {
    fn moved<T: Copy>(samples: &[T], image: &Raw, shifts: &[isize]) -> Vec<T> {
        let mut moved = Vec::with_capacity(samples.len());
        for y in 0..image.height {
            for (x, &shift) in shifts.iter().enumerate() {
                let from = (y as isize - shift).clamp(0, image.height as isize - 1) as usize;
                let at = (from * image.width + x) * image.channels;
                moved.extend_from_slice(&samples[at..at + image.channels]);
            }
        }
        moved
    }
    let samples = match &image.samples {
        Samples::U8(s) => Samples::U8(moved(s, image, shifts)),
        Samples::U16(s) => Samples::U16(moved(s, image, shifts)),
    };
    Raw { samples, ..*image }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// A bright band along a curve over noise, with bright specks; and the band alone as mask.
    fn scan(width: usize, height: usize, curve: impl Fn(f32) -> f32) -> (Raw, Raw) {
        let mut rng = Rng::new(&[5]);
        let (mut gray, mut band) = (vec![0; width * height], vec![0; width * height]);
        for at in 0..width * height {
            let middle = curve((at % width) as f32 / width as f32) * height as f32;
            let inside = ((at / width) as f32 - middle).abs() <= 0.03 * height as f32;
            let speck = rng.below(100) == 0;
            gray[at] =
                if inside { 170 + rng.below(60) } else { rng.below(110) + 120 * u64::from(speck) } as u8;
            band[at] = u8::from(inside) * 255;
        }
        (Raw::gray8(width, height, gray), Raw::gray8(width, height, band))
    }

    fn spread(band: &Raw) -> f64 {
        let Samples::U8(samples) = &band.samples else { panic!("8 bits") };
        let centre = |x: usize| {
            let rows: Vec<_> = (0..band.height).filter(|y| samples[y * band.width + x] > 0).collect();
            rows.iter().sum::<usize>() as f64 / rows.len() as f64
        };
        let centres: Vec<_> = (0..band.width).map(centre).collect();
        centres.iter().fold(f64::MIN, |a, &b| a.max(b)) - centres.iter().fold(f64::MAX, |a, &b| a.min(b))
    }

    #[test]
    fn a_curved_layer_becomes_level_and_its_mask_with_it() {
        for (width, height) in [(128, 96), (300, 80), (65, 130)] {
            let (image, band) = scan(width, height, |u| 0.35 + 0.25 * u + 0.5 * (u - 0.5) * (u - 0.5));
            assert!(spread(&band) > 0.2 * height as f64);
            let (_, flat) = flatten(&image, Some(&band));
            assert!(spread(&flat.unwrap()) <= 0.05 * height as f64 + 1.0, "{width}×{height}");
        }
    }

    #[test]
    fn a_level_layer_and_a_constant_image_stay() {
        let (image, _) = scan(64, 64, |_| 0.5);
        let (flat, _) = flatten(&image, None);
        let Samples::U8(samples) = &flat.samples else { panic!("8 bits") };
        assert!((31..34).all(|y| samples[y * 64..(y + 1) * 64].iter().all(|&v| v >= 170)));
        for (width, height) in [(8, 8), (1, 9), (9, 1)] {
            let constant = Raw::gray8(width, height, vec![7; width * height]);
            assert_eq!(flatten(&constant, None).0, constant);
        }
    }
}
