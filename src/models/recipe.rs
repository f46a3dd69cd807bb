//! What is done to the training of every system alike: how step sizes change, whether weights are averaged,
//! and what is made of batch norm's running statistics.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How the step sizes of all optimisers change over a stage of training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// They stay.
    #[default]
    Constant,
    /// ½·(1 + cos(π·t/T)) of them at step t of T (Loshchilov & Hutter, ICLR 2017, equation 5, one period).
    Cosine,
    /// A tenth of them from half of the steps on, a hundredth from three quarters on (He et al., CVPR 2016,
    /// §4.2).
    Step,
}

impl Schedule {
    /// What step sizes are multiplied by at step `at` of `len`, both counted within a stage.
    pub fn rate(self, at: u64, len: u64) -> f32 {
        let part = at as f64 / len.max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos())) as f32,
            Self::Step if part < 0.5 => 1.0,
            Self::Step if part < 0.75 => 0.1,
            Self::Step => 0.01,
        }
    }

    /// Its name, as commands take it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::Step => "step",
        }
    }

    fn is_constant(&self) -> bool {
        *self == Self::Constant
    }
}

/// How every system's training goes, whatever the system. The default is what files of earlier versions
/// were trained with: nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Whether running statistics of batch norm are those of one pass over the training data after a stage,
    /// not those that the last steps blended.
    #[serde(default)]
    pub batch_norm_pass: bool,
    /// Decay of moving averages of the weights that take the place of the weights when a stage ends; none
    /// without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f32>,
    /// How step sizes change.
    #[serde(default, skip_serializing_if = "Schedule::is_constant")]
    pub schedule: Schedule,
    /// Steps of the whole training that the schedule is for; 0 where it is constant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub schedule_steps: u64,
    /// Whether networks see each image [standardised](super::standardise), in training and ever after.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standardise: bool,
    /// Parts that each batch comes in, at least 1: their gradients are added before an optimiser steps. The
    /// batch of a header is that of one part.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub parts: usize,
    /// Whether batch norm takes mean and variance of the whole batch, and not of each part.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync_bn: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        let mut recipe = Self::USUAL;
        recipe.batch_norm_pass = false;
        recipe
    }
}

fn one() -> usize {
    1
}

fn is_one(parts: &usize) -> bool {
    *parts == 1
}

fn is_zero(steps: &u64) -> bool {
    *steps == 0
}

impl Recipe {
    /// What trainings have unless told otherwise.
    pub const USUAL: Self = Self {
        batch_norm_pass: true,
        ema: None,
        schedule: Schedule::Constant,
        schedule_steps: 0,
        standardise: false,
        parts: 1,
        sync_bn: false,
    };

    /// The most parts of a batch.
    pub const MOST_PARTS: usize = 4096;

    /// What names of averages of weights begin with in checkpoints.
    pub const AVERAGES: &str = "average";

    /// Whether nothing is done.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=Self::MOST_PARTS).contains(&self.parts) {
            let allowed = format!("1 to {}", Self::MOST_PARTS);
            return Err(ConfigError::new("accumulate", self.parts, allowed));
        }
        match self.ema {
            Some(decay) if !(decay > 0.0 && decay < 1.0) => {
                Err(ConfigError::new("ema", decay, "between 0 and 1, 0.999 is usual"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_papers() {
        let of = |schedule: Schedule| [0, 25, 49, 50, 74, 75, 99].map(|at| schedule.rate(at, 100));
        assert_eq!(of(Schedule::Constant), [1.0; 7]);
        assert_eq!(of(Schedule::Step), [1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]);
        let cosine = of(Schedule::Cosine);
        assert_eq!((cosine[0], cosine[3]), (1.0, 0.5));
        assert!((cosine[1] - 0.853_553_4).abs() < 1e-6 && cosine[6] > 0.0 && cosine[6] < 1e-3);
        assert!(cosine.is_sorted_by(|a, b| a > b), "{cosine:?}");
    }

    #[test]
    fn a_plain_recipe_is_what_older_files_say() {
        let old: Recipe = serde_json::from_str("{}").unwrap();
        assert!(old.is_plain() && !Recipe::USUAL.is_plain());
        assert_eq!(serde_json::to_string(&Recipe::USUAL).unwrap(), r#"{"batch_norm_pass":true}"#);
        for decay in [0.0, 1.0, f32::NAN, -0.5] {
            assert!(Recipe { ema: Some(decay), ..Recipe::default() }.check().is_err(), "{decay}");
        }
    }
}
