//! What the pixels of held-out normal maps are like: the scale of all later ones.

use serde::{Deserialize, Serialize};

/// The share of normal pixels that a pixel threshold aims at, unless told otherwise.
pub const MAP_FALSE_ALARM_RATE: f64 = 0.001;

/// Shares of the pixels that lie below the levels that are kept.
const SHARES: [f64; 21] = [
    0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998,
    0.9999, 0.99995, 0.99998, 0.99999, 1.0,
];
/// Pixels that are looked at, of all maps together.
const MOST: usize = 1 << 22;

/// Quantiles of the pixels of held-out normal maps; stored in the model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Levels {
    /// Maps that were looked at.
    maps: usize,
    /// Pixels of them that were looked at.
    pixels: usize,
    /// Share of the pixels below, and the level; both ascend.
    levels: Vec<[f64; 2]>,
}

/// What a model file holds, not yet checked.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    maps: usize,
    pixels: usize,
    levels: Vec<[f64; 2]>,
}

impl From<Levels> for Stored {
    fn from(Levels { maps, pixels, levels }: Levels) -> Self {
        Self { maps, pixels, levels }
    }
}

impl TryFrom<Stored> for Levels {
    type Error = &'static str;

    fn try_from(Stored { maps, pixels, levels }: Stored) -> Result<Self, Self::Error> {
        let ascends = |axis: usize| levels.is_sorted_by(|a, b| a[axis] <= b[axis]);
        let in_range = levels.iter().all(|[share, level]| (0.0..=1.0).contains(share) && level.is_finite());
        if levels.len() < 2 || levels.len() > 1000 || !in_range || !ascends(0) || !ascends(1) {
            return Err("the levels of the maps' pixels do not ascend");
        }
        Ok(Self { maps, pixels, levels })
    }
}

impl Levels {
    /// Maps that were looked at.
    pub fn maps(&self) -> usize {
        self.maps
    }

    /// The level below which this share of the held-out normal pixels lies, linear between those that are
    /// kept.
    pub fn level(&self, share: f64) -> f64 {
        let above = self.levels.partition_point(|[at, _]| *at < share).min(self.levels.len() - 1);
        let [[low_at, low], [high_at, high]] = [self.levels[above.saturating_sub(1)], self.levels[above]];
        if high_at <= low_at || share >= high_at {
            return high;
        }
        low + (high - low) * ((share - low_at) / (high_at - low_at)).clamp(0.0, 1.0)
    }

    /// The level that at most the share `rate` of the held-out normal pixels reaches: the next one up that is
    /// kept. The highest of them at least where they are too few.
    pub fn threshold(&self, rate: f64) -> f32 {
        let share = 1.0 - rate;
        let kept = self.levels.iter().find(|[at, _]| *at >= share - 1e-12);
        let level = kept.unwrap_or(&self.levels[self.levels.len() - 1])[1] as f32;
        level.next_up()
    }

    /// Where the colours of a picture begin and end: from the median of normal pixels to twice as far as
    /// their 99.9 % level. Half of the scale is left for anomalies; it is the same for all images.
    pub fn range(&self) -> [f32; 2] {
        let (low, high) = (self.level(0.5), self.level(0.999));
        let reach = if high > low { 2.0 * (high - low) } else { f64::from(f32::EPSILON).max(low.abs()) };
        [low as f32, (low + reach) as f32]
    }
}

/// Gathers pixels of held-out normal maps; of large ones those at regular distances.
#[derive(Debug, Clone, Default)]
pub struct Pixels {
    values: Vec<f32>,
    maps: usize,
}

impl Pixels {
    /// Values at most of each of `maps` maps.
    pub fn share(maps: usize) -> usize {
        MOST / maps.max(1)
    }

    /// Begins a map of `pixels` pixels among `maps`; the function says of each pixel, by its number, whether
    /// it is to be given.
    pub fn begin(&mut self, pixels: usize, maps: usize) -> impl Fn(usize) -> bool + use<> {
        self.maps += 1;
        let share = (Self::share(maps) as f64 / pixels.max(1) as f64).min(1.0);
        // Multiples of the golden section, modulo 1, are spread evenly: along rows and columns alike.
        let below = (share * u64::MAX as f64) as u64;
        move |i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) <= below
    }

    /// Adds a pixel; what is NaN was not seen and does not count.
    pub fn add(&mut self, value: f32) {
        if value.is_finite() {
            self.values.push(value);
        }
    }

    /// Adds a whole map.
    pub fn map(&mut self, map: &[f32], maps: usize) {
        let given = self.begin(map.len(), maps);
        (0..map.len()).filter(|&i| given(i)).for_each(|i| self.add(map[i]));
    }

    /// Their levels; `None` without any.
    pub fn levels(mut self) -> Option<Levels> {
        let count = self.values.len();
        if count == 0 {
            return None;
        }
        self.values.sort_unstable_by(f32::total_cmp);
        // The share 1 − 1/n of n pixels lies below the highest: levels beyond would say the same.
        let level = |share: f64| {
            let at = (share * count as f64).ceil() as usize;
            [share, f64::from(self.values[at.saturating_sub(1).min(count - 1)])]
        };
        Some(Levels { maps: self.maps, pixels: count, levels: SHARES.map(level).to_vec() })
    }
}

/// What held-out normal maps are like at each place: mean and standard deviation of every pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Means, `[height, width]` of the networks' input.
    pub mean: Vec<f32>,
    /// Standard deviations.
    pub deviation: Vec<f32>,
}

impl Place {
    /// Share of the mean deviation that is added to each: where normals hardly differ, a small difference is
    /// not to count for much.
    const FLOOR: f32 = 0.1;

    /// Of maps of one size; `None` with fewer than three.
    pub fn of(maps: &[Vec<f32>]) -> Option<Self> {
        let (first, count) = (maps.first()?, maps.len() as f64);
        if maps.len() < 3 {
            return None;
        }
        let (mut mean, mut square) = (vec![0.0f64; first.len()], vec![0.0f64; first.len()]);
        for map in maps {
            mean.iter_mut().zip(map).for_each(|(sum, &value)| *sum += f64::from(value) / count);
        }
        for map in maps {
            for ((sum, mean), &value) in square.iter_mut().zip(&mean).zip(map) {
                *sum += (f64::from(value) - mean).powi(2) / (count - 1.0);
            }
        }
        let deviation = square.iter().map(|&s| s.sqrt() as f32).collect();
        Some(Self { mean: mean.into_iter().map(|m| m as f32).collect(), deviation })
    }

    fn floor(&self) -> f32 {
        let usual = self.deviation.iter().sum::<f32>() / self.deviation.len().max(1) as f32;
        (Self::FLOOR * usual).max(1e-12)
    }

    /// What [`Place::relative`] divides by.
    #[cfg(any(feature = "onnx", feature = "torch"))]
    pub(crate) fn scale(&self) -> Vec<f32> {
        let floor = self.floor();
        self.deviation.iter().map(|deviation| deviation + floor).collect()
    }

    /// How many standard deviations a map lies above the mean, place by place.
    pub fn relative(&self, map: &mut [f32]) {
        let floor = self.floor();
        for ((value, mean), deviation) in map.iter_mut().zip(&self.mean).zip(&self.deviation) {
            *value = (*value - mean) / (deviation + floor);
        }
    }

    /// The same of one of the `count` maps that the means are of, as if it had not been among them.
    pub fn relative_without(&self, map: &mut [f32], count: usize) {
        let (floor, n) = (self.floor(), count.max(3) as f32);
        for ((value, mean), deviation) in map.iter_mut().zip(&self.mean).zip(&self.deviation) {
            let apart = *value - mean;
            let square = (n - 1.0) * deviation * deviation - apart * apart * n / (n - 1.0);
            let deviation = (square.max(0.0) / (n - 2.0)).sqrt();
            *value = apart * n / (n - 1.0) / (deviation + floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f32>) -> Levels {
        let values: Vec<f32> = values.into_iter().collect();
        let mut pixels = Pixels::default();
        pixels.map(&values, 1);
        pixels.levels().unwrap()
    }

    #[test]
    fn no_more_than_the_rate_reaches_the_threshold() {
        let values = || (0..100_000).map(|i| (i * 7919 % 100_000) as f32);
        let levels = of(values());
        for rate in [0.5, 0.05, 0.01, 0.003, 0.001, 0.0004, 1e-5, 1e-9] {
            let threshold = levels.threshold(rate);
            let reached = values().filter(|&v| v >= threshold).count() as f64 / 1e5;
            assert!(reached <= rate, "{rate}: {reached}");
        }
        assert_eq!(levels.threshold(0.001), 98_999.5f32.max(99_899.0).next_up());
        assert_eq!(levels.level(0.5), 49_999.0);
        let [low, high] = levels.range();
        assert_eq!((low, high), (49_999.0, (49_999.0 + 2.0 * (99_899.0 - 49_999.0)) as f32));
    }

    #[test]
    fn levels_come_back_from_a_file_and_damaged_ones_do_not() {
        let levels = of((0..1000).map(|i| i as f32 * 0.1));
        let text = serde_json::to_string(&levels).unwrap();
        assert_eq!(serde_json::from_str::<Levels>(&text).unwrap(), levels);
        for bad in [
            r#"{"maps":1,"pixels":2,"levels":[]}"#,
            r#"{"maps":1,"pixels":2,"levels":[[0.0,1.0],[1.0,0.5]]}"#,
            r#"{"maps":1,"pixels":2,"levels":[[0.0,1.0],[2.0,1.5]]}"#,
        ] {
            assert!(serde_json::from_str::<Levels>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_large_maps_pixels_are_taken_evenly() {
        let mut pixels = Pixels::default();
        let (width, height, maps) = (1000, 1000, 256);
        let given = pixels.begin(width * height, maps);
        let chosen: Vec<usize> = (0..width * height).filter(|&i| given(i)).collect();
        let share = Pixels::share(maps);
        assert!(chosen.len().abs_diff(share) < share / 100, "{} of {share}", chosen.len());
        for part in 0..4 {
            let in_columns = chosen.iter().filter(|&&i| i % width / 250 == part).count();
            let in_rows = chosen.iter().filter(|&&i| i / width / 250 == part).count();
            for count in [in_columns, in_rows] {
                assert!(count.abs_diff(share / 4) < share / 50, "{count} of {}", share / 4);
            }
        }
    }

    #[test]
    fn where_all_normals_light_up_nothing_is_unusual() {
        // A bright hub in all of them, with some noise; then a new one with a spot elsewhere.
        let normal = |n: usize| -> Vec<f32> {
            (0..9).map(|i| if i == 4 { 5.0 } else { 0.5 } + 0.1 * ((n * 7 + i * 3) % 5) as f32).collect()
        };
        let maps: Vec<_> = (0..20).map(normal).collect();
        let place = Place::of(&maps).unwrap();
        let mut map = normal(3);
        map[8] += 1.0;
        place.relative(&mut map);
        assert!(map[8] > 4.0 && map[4].abs() < 2.0, "{map:?}");
        assert_eq!(Place::of(&maps[..2]), None);

        let mut without = maps[0].clone();
        place.relative_without(&mut without, maps.len());
        let mut apart = maps[0].clone();
        let others = Place::of(&maps[1..]).unwrap();
        others.relative(&mut apart);
        for (i, (a, b)) in without.iter().zip(&apart).enumerate() {
            // The floor is that of all maps.
            let scale = (others.deviation[i] + others.floor()) / (others.deviation[i] + place.floor());
            assert!((a - b * scale).abs() < 1e-3, "{i}: {a}, not {b}");
        }
    }
}
