//! A Gaussian over a map, row by row.

use std::collections::VecDeque;

/// Standard deviations at which the kernel is cut off, as SciPy does.
const CUT: f64 = 4.0;

/// A Gaussian filter of rows; beyond the borders the map is mirrored, border pixels twice
/// (`d c b a | a b c d | d c b a`).
#[derive(Debug, Clone)]
pub struct Smooth {
    /// Weights from one end to the other; they add up to 1.
    kernel: Vec<f64>,
    width: usize,
    /// Rows that are still read, smoothed along themselves.
    rows: VecDeque<Vec<f32>>,
    /// Number of the first of them.
    first: usize,
    /// Rows given so far.
    pushed: usize,
    /// The next row to hand on.
    next: usize,
    padded: Vec<f32>,
    sums: Vec<f64>,
    row: Vec<f32>,
}

impl Smooth {
    /// A filter of rows of `width` pixels with a standard deviation of `sigma` pixels; 0 changes no bit.
    pub fn new(width: usize, sigma: f64) -> Self {
        Self {
            kernel: kernel(sigma),
            width,
            rows: VecDeque::new(),
            first: 0,
            pushed: 0,
            next: 0,
            padded: vec![],
            sums: vec![],
            row: vec![],
        }
    }

    /// Rows of memory that a filter of this width of kernel keeps.
    pub fn rows_kept(sigma: f64) -> usize {
        2 * (CUT * sigma.max(0.0) + 0.5) as usize + 1
    }

    fn radius(&self) -> usize {
        self.kernel.len() / 2
    }

    /// Takes the next row, and hands on those that are ready.
    ///
    /// # Errors
    /// Of the function.
    pub fn push<E>(&mut self, row: &[f32], out: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let radius = self.radius();
        let along = self.along(row);
        self.rows.push_back(along);
        self.pushed += 1;
        while self.next + radius < self.pushed {
            self.emit(usize::MAX, out)?;
        }
        Ok(())
    }

    /// Hands on the last rows.
    ///
    /// # Errors
    /// Of the function.
    pub fn finish<E>(&mut self, out: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        while self.next < self.pushed {
            self.emit(self.pushed, out)?;
        }
        Ok(())
    }

    /// A row smoothed along itself.
    fn along(&mut self, row: &[f32]) -> Vec<f32> {
        let (radius, width) = (self.radius(), self.width);
        self.padded.clear();
        let reach = radius as i64;
        let mirrored_at = |x: i64| row[mirrored(x, width)];
        self.padded.extend((-reach..0).map(mirrored_at));
        self.padded.extend_from_slice(&row[..width]);
        self.padded.extend((width as i64..width as i64 + reach).map(mirrored_at));
        self.sums.clear();
        self.sums.resize(width, 0.0);
        for (k, &weight) in self.kernel.iter().enumerate() {
            for (sum, &value) in self.sums.iter_mut().zip(&self.padded[k..]) {
                *sum += weight * f64::from(value);
            }
        }
        self.sums.iter().map(|&sum| sum as f32).collect()
    }

    /// Hands on the next row of a map of `height` rows, which need not be known as long as it is far.
    fn emit<E>(&mut self, height: usize, out: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let radius = self.radius();
        self.sums.clear();
        self.sums.resize(self.width, 0.0);
        for (k, &weight) in self.kernel.iter().enumerate() {
            let y = mirrored((self.next + k) as i64 - radius as i64, height);
            for (sum, &value) in self.sums.iter_mut().zip(&self.rows[y - self.first]) {
                *sum += weight * f64::from(value);
            }
        }
        self.row.clear();
        self.row.extend(self.sums.iter().map(|&sum| sum as f32));
        self.next += 1;
        // Rows that only earlier ones read.
        while self.first + radius < self.next {
            self.rows.pop_front();
            self.first += 1;
        }
        out(&self.row)
    }
}

/// The weights of a Gaussian with a standard deviation of `sigma` pixels, an odd number that adds up to 1; a
/// single one where it is 0.
pub(crate) fn kernel(sigma: f64) -> Vec<f64> {
    let radius = if sigma > 0.0 { (CUT * sigma + 0.5) as i64 } else { 0 };
    let weight = |x: i64| if radius == 0 { 1.0 } else { (-0.5 * (x as f64 / sigma).powi(2)).exp() };
    let weights: Vec<f64> = (-radius..=radius).map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

/// The place within `0..length` that a mirrored position shows.
pub(crate) fn mirrored(x: i64, length: usize) -> usize {
    if x < 0 && length == usize::MAX {
        return (-1 - x) as usize;
    }
    let x = x as i128;
    let length = length as i128;
    let period = x.rem_euclid(2 * length);
    (if period < length { period } else { 2 * length - 1 - period }) as usize
}

/// A whole map smoothed.
pub fn smoothed(map: &[f32], width: usize, sigma: f64) -> Vec<f32> {
    if sigma <= 0.0 || width == 0 {
        return map.to_vec();
    }
    let mut done = Vec::with_capacity(map.len());
    let mut keep = |row: &[f32]| {
        done.extend_from_slice(row);
        Ok::<(), std::convert::Infallible>(())
    };
    let mut smooth = Smooth::new(width, sigma);
    let pushed: Result<(), _> = map.chunks_exact(width).try_for_each(|row| smooth.push(row, &mut keep));
    let Ok(()) = pushed.and_then(|()| smooth.finish(&mut keep));
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| next()).collect()
    }

    /// The definition, pixel by pixel.
    fn direct(map: &[f32], width: usize, sigma: f64) -> Vec<f64> {
        let height = map.len() / width;
        let radius = (4.0 * sigma + 0.5) as i64;
        let weight = |x: i64| (-0.5 * (x as f64 / sigma).powi(2)).exp();
        let total: f64 = (-radius..=radius).map(weight).sum();
        let mut done = vec![];
        for y in 0..height as i64 {
            for x in 0..width as i64 {
                let mut sum = 0.0;
                for dy in -radius..=radius {
                    for dx in -radius..=radius {
                        let (v, u) = (mirrored(y + dy, height), mirrored(x + dx, width));
                        sum += weight(dy) * weight(dx) * f64::from(map[v * width + u]);
                    }
                }
                done.push(sum / (total * total));
            }
        }
        done
    }

    #[test]
    fn maps_of_any_shape_are_smoothed_as_the_definition_says() {
        for (width, height, sigma) in [(9, 7, 1.0), (5, 40, 2.0), (40, 3, 2.5), (3, 2, 4.0), (1, 1, 1.0)] {
            let map = noise(width * height);
            let (got, want) = (smoothed(&map, width, sigma), direct(&map, width, sigma));
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(want) {
                assert!(
                    (f64::from(*got) - want).abs() < 1e-6,
                    "{width}×{height} σ {sigma}: {got}, not {want}"
                );
            }
        }
    }

    #[test]
    fn no_smoothing_keeps_the_bits_and_a_constant_stays_one() {
        let map = noise(60);
        let mut smooth = Smooth::new(6, 0.0);
        let mut rows = vec![];
        let mut keep = |row: &[f32]| {
            rows.extend_from_slice(row);
            Ok::<(), ()>(())
        };
        map.chunks(6).for_each(|row| smooth.push(row, &mut keep).unwrap());
        smooth.finish(&mut keep).unwrap();
        assert_eq!(rows, map);
        assert_eq!(smoothed(&map, 6, 0.0), map);
        assert!(smoothed(&[0.3; 77], 11, 3.0).iter().all(|&v| v == 0.3));
    }

    /// `scipy.ndimage.gaussian_filter(np.arange(12).reshape(3, 4) ** 2 / 10, 1.5)` of SciPy 1.x in f64.
    #[test]
    fn smoothed_as_scipy_smooths() {
        let map: Vec<f32> = (0..12).map(|i| (i * i) as f32 / 10.0).collect();
        let want = [
            2.314168975997,
            2.671684000584,
            3.194208448321,
            3.576642780711,
            3.414371032599,
            3.871297259028,
            4.534222621644,
            5.016068155876,
            4.537603787341,
            5.093941215612,
            5.897267493106,
            6.478524229181,
        ];
        for (got, want) in smoothed(&map, 4, 1.5).iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 2e-6, "{got}, not {want}");
        }
    }

    #[test]
    fn few_rows_are_kept() {
        let mut smooth = Smooth::new(4, 2.0);
        for _ in 0..1000 {
            smooth.push(&[1.0; 4], &mut |_| Ok::<(), ()>(())).unwrap();
            assert!(smooth.rows.len() <= Smooth::rows_kept(2.0));
        }
    }
}
