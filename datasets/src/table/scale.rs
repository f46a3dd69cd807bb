//! Scaling of features to the range of the training rows.

use serde::{Deserialize, Serialize};

use crate::DataError;

/// A range below this share of its values is rounding: the feature counts as constant (a few last places of
/// an f64).
const ROUNDING: f64 = 1e-14;
/// Values further than this many ranges from the training rows count as that far: squares of it, and sums of
/// squares, are still numbers in single precision.
pub const FAR: f64 = 1e9;
/// Below this share of a feature's range, values are one and the same in single precision.
const RESOLVED: f64 = 1.0 / (1 << 24) as f64;

/// (x − min)/(max − min) of each feature with the extremes of the training rows, computed in double
/// precision. Other values may leave [0, 1]: that is what makes them conspicuous; beyond ±[`FAR`] they count
/// as ±[`FAR`]. A constant feature becomes x − min.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MinMax {
    /// Least value of each feature among the training rows.
    pub min: Vec<f64>,
    /// Largest value of each feature among the training rows.
    pub max: Vec<f64>,
}

impl MinMax {
    /// The extremes of each column of `rows`, of which there must be one; `names` are the columns.
    ///
    /// # Errors
    /// [`DataError`] naming a column whose range is not finite, or where one value leaves the others no room
    /// in single precision.
    pub fn fit(rows: &[&[f64]], names: &[String]) -> Result<Self, DataError> {
        let mut scale = Self::default();
        for (column, name) in names.iter().enumerate() {
            let values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            let (min, max) = extremes(&values).map_err(|found| {
                let (value, reason) = found.of(&values);
                DataError::spec(format!("column `{name}`"), format!("{value:?}: {reason}"))
            })?;
            scale.min.push(min);
            scale.max.push(max);
        }
        Ok(scale)
    }

    /// One value of a feature.
    pub fn apply(&self, feature: usize, value: f64) -> f32 {
        self.unbounded(feature, value).clamp(-FAR, FAR) as f32
    }

    /// Whether a value is so far from the training rows that [`MinMax::apply`] bounds it.
    pub(crate) fn is_far(&self, feature: usize, value: f64) -> bool {
        self.unbounded(feature, value).abs() > FAR
    }

    /// What a feature's distance from its least value is divided by: its range, 1 where it is constant.
    pub fn range(&self, feature: usize) -> f64 {
        let (min, max) = (self.min[feature], self.max[feature]);
        let is_constant = max - min <= ROUNDING * min.abs().max(max.abs());
        if is_constant { 1.0 } else { max - min }
    }

    fn unbounded(&self, feature: usize, value: f64) -> f64 {
        (value - self.min[feature]) / self.range(feature)
    }
}

/// What makes a feature's training values no base for a scaling.
#[derive(Debug, PartialEq)]
pub(crate) enum Unscalable {
    /// Their range is not finite.
    Range,
    /// The value at this place leaves the others no room: in single precision they would all be the same.
    Outlier(usize),
}

impl Unscalable {
    /// The value at fault among a column's, and what is wrong with it.
    pub(crate) fn of(self, values: &[f64]) -> (f64, &'static str) {
        match self {
            Self::Range => {
                let largest = values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
                (largest, "the column's range is beyond double precision; rescale it")
            }
            Self::Outlier(at) => (
                values[at],
                "it leaves the other values no room, in single precision they would be all the same; correct or remove \
                 the row, or take the logarithm of the column",
            ),
        }
    }
}

/// Extremes of a feature's training values, of which there must be one.
pub(crate) fn extremes(values: &[f64]) -> Result<(f64, f64), Unscalable> {
    let low_high = |(low, high): (f64, f64), &value: &f64| (low.min(value), high.max(value));
    let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), low_high);
    if !(max - min).is_finite() {
        return Err(Unscalable::Range);
    }
    // The bulk: without the hundredth part at either end, at least one value each.
    let cut = (values.len() / 100).max(1);
    if values.len() > 2 * cut + 1 {
        let mut ordered = values.to_vec();
        let (_, &mut low, rest) = ordered.select_nth_unstable_by(cut, f64::total_cmp);
        let place = rest.len() - cut - 1;
        let high = *rest.select_nth_unstable_by(place, f64::total_cmp).1;
        let bulk = high - low;
        if bulk > ROUNDING * low.abs().max(high.abs()) && bulk < RESOLVED * (max - min) {
            let extreme = if max - high > low - min { max } else { min };
            return Err(Unscalable::Outlier(values.iter().position(|&v| v == extreme).unwrap_or(0)));
        }
    }
    Ok((min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_offsets_far_values_and_constant_features_are_scaled_in_double_precision() {
        let min = vec![1.7e9, 3.0, 0.1, -1e300];
        let max = vec![1.7e9 + 99.0, 3.0, 0.1 + 1e-16, 1e300];
        let scale = MinMax { min, max };
        assert_eq!(scale.apply(0, 1.7e9 + 33.0), (33.0_f64 / 99.0) as f32);
        assert_eq!(scale.apply(1, 5.5), 2.5);
        assert_eq!(scale.apply(2, 0.3), (0.3 - 0.1) as f32, "a range of one rounding is none");
        assert_eq!(scale.apply(3, 0.0), 0.5);
        assert_eq!([1e39, -1e39].map(|v| scale.apply(0, v)), [1e9, -1e9]);
        assert!(scale.is_far(0, 1e39) && !scale.is_far(0, 1.8e9));
    }

    #[test]
    fn a_value_that_leaves_the_others_no_room_is_found() {
        let mut values: Vec<f64> = (0..50).map(f64::from).collect();
        assert_eq!(extremes(&values), Ok((0.0, 49.0)));
        values[7] = 1e39;
        assert_eq!(extremes(&values), Err(Unscalable::Outlier(7)));
        values[7] = -1e12;
        assert_eq!(extremes(&values), Err(Unscalable::Outlier(7)));
        // A long tail is none: the others are still told apart.
        values[7] = 1e6;
        assert_eq!(extremes(&values), Ok((0.0, 1e6)));
        (values[7], values[8]) = (1e308, -1e308);
        assert_eq!(extremes(&values), Err(Unscalable::Range));
        // Most values are one and the same: nothing is lost.
        let mut counts = vec![0.0; 50];
        counts[3] = 1e12;
        assert_eq!(extremes(&counts), Ok((0.0, 1e12)));
        for few in 1..4 {
            let few = &[1.0, 1e30, 2.0][..few];
            let max = few.iter().copied().fold(0.0, f64::max);
            assert_eq!(extremes(few), Ok((1.0, max)), "too few to tell which is the outlier");
        }
    }
}
