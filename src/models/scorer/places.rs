//! Settings of tiles and of maps, which a score is made with and a model file records.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::maps::Grid;
use crate::models::{Config, ConfigError, Form};

/// The score of an image as a function of the scores of its tiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TileScore {
    /// The highest.
    #[default]
    Max,
    /// The mean of the highest k; of all where there are fewer.
    Top(usize),
    /// The mean.
    Mean,
}

impl TileScore {
    /// The score of an image whose tiles score so; NaN without any.
    pub fn of(self, scores: &[f64]) -> f64 {
        let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
        match self {
            Self::Max => scores.iter().copied().fold(f64::NAN, f64::max),
            Self::Mean => mean(scores),
            Self::Top(k) => {
                let mut sorted = scores.to_vec();
                sorted.sort_unstable_by(|a, b| b.total_cmp(a));
                mean(&sorted[..k.clamp(1, sorted.len().max(1)).min(sorted.len())])
            }
        }
    }
}

impl fmt::Display for TileScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => write!(f, "max"),
            Self::Top(k) => write!(f, "top:{k}"),
            Self::Mean => write!(f, "mean"),
        }
    }
}

impl FromStr for TileScore {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let top = |k: &str| k.parse().ok().filter(|&k| (1..=1_000_000).contains(&k)).map(Self::Top);
        let read = match text {
            "max" => Some(Self::Max),
            "mean" => Some(Self::Mean),
            _ => text.strip_prefix("top:").and_then(top),
        };
        read.ok_or_else(|| ConfigError::new("tile-score", text, "max, mean, or top:K with K of 1 to 1000000"))
    }
}

impl TryFrom<String> for TileScore {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl From<TileScore> for String {
    fn from(score: TileScore) -> Self {
        score.to_string()
    }
}

/// How an image is cut into tiles of the networks' size, and scored by them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tiling {
    /// Pixels from one tile to the next, down and across; half a tile where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<[usize; 2]>,
    /// The image's score.
    #[serde(default)]
    pub score: TileScore,
}

impl Tiling {
    /// Pixels from one tile to the next, down and across.
    pub fn step(&self, config: &Config) -> [usize; 2] {
        self.step.unwrap_or_else(|| config.extent().map(|side| side.div_ceil(2)))
    }

    /// Checks that tiles of this model's size leave no gap.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        if config.form != Form::Image {
            return Err(ConfigError::new("tile", "asked for", "left out: only images are cut into tiles"));
        }
        let (tile, step) = (config.extent(), self.step(config));
        match tile.iter().zip(step).find(|(side, step)| !(1..=**side).contains(step)) {
            None => Ok(()),
            Some((side, step)) => {
                let allowed = format!("1 to {side}, the side of a tile: beyond it there would be gaps");
                Err(ConfigError::new("tile-step", step, allowed))
            }
        }
    }

    /// The tiles of an image of this height and width; `None` where it is smaller than a tile.
    pub fn grid(&self, size: [usize; 2], config: &Config) -> Option<Grid> {
        Grid::new(size, config.extent(), self.step(config))
    }
}

/// How maps are made of what a system says of each pixel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MapConfig {
    /// Standard deviation of a Gaussian, in pixels of the networks' input; as is usual for the size where
    /// nothing is said, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smooth: Option<f64>,
    /// Whether maps say how far a pixel lies from what held-out normals have at its place, in standard
    /// deviations.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relative: bool,
}

impl MapConfig {
    /// The usual smoothing, as a share of the shorter side of the networks' input: 1 pixel of 64.
    pub const USUAL: f64 = 1.0 / 64.0;

    /// Standard deviation in pixels of the networks' input.
    pub fn sigma(&self, config: &Config) -> f64 {
        let [height, width] = config.extent();
        self.smooth.unwrap_or_else(|| Self::USUAL * height.min(width) as f64)
    }

    /// Checks both fields.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn check(&self, tiled: bool) -> Result<(), ConfigError> {
        if let Some(smooth) = self.smooth.filter(|s| !(0.0..=64.0).contains(s)) {
            return Err(ConfigError::new("map-smooth", smooth, "0 to 64 pixels of the networks' input"));
        }
        if self.relative && tiled {
            let allowed = "left out of models of tiles: a place of a tile is no place of the part";
            return Err(ConfigError::new("map-relative", "asked for", allowed));
        }
        Ok(())
    }

    /// Whether nothing was said.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_judged_by_its_tiles() {
        let scores = [3.0, -1.0, 2.0, 0.0];
        assert_eq!(TileScore::Max.of(&scores), 3.0);
        assert_eq!(TileScore::Mean.of(&scores), 1.0);
        assert_eq!(TileScore::Top(2).of(&scores), 2.5);
        assert_eq!(TileScore::Top(9).of(&scores), 1.0);
        assert_eq!(TileScore::Top(1).of(&[-4.0]), -4.0);
        for text in ["max", "mean", "top:3"] {
            assert_eq!(text.parse::<TileScore>().unwrap().to_string(), text);
        }
        for text in ["", "top", "top:0", "top:x", "MAX", "top:-1"] {
            assert!(text.parse::<TileScore>().is_err(), "{text}");
        }
    }

    #[test]
    fn steps_leave_no_gap() {
        let config = Config { size: ganomede_datasets::Size::square(32), ..Config::default() };
        let tiling = |step| Tiling { step: Some([step, step]), ..Tiling::default() };
        assert_eq!(Tiling::default().step(&config), [16, 16]);
        assert!(tiling(1).check(&config).is_ok() && tiling(32).check(&config).is_ok());
        for step in [0, 33] {
            let error = tiling(step).check(&config).unwrap_err().to_string();
            assert!(error.contains("tile-step") && error.contains("1 to 32"), "{error}");
        }
    }
}
