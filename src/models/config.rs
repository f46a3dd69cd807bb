//! Sizes that every system has, and the checks of them.

use serde::{Deserialize, Serialize};

use crate::tape::{ConvOptions, RandomState, Tape, Tensor};

/// A configuration value outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; it must be {allowed}")]
pub struct ConfigError {
    /// Field of [`Config`] that is out of range.
    pub field: String,
    /// Value given.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl ConfigError {
    /// An error about one field.
    pub fn new(field: impl Into<String>, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), allowed: allowed.into() }
    }
}

/// Distribution of the latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// U(−1, 1), DCGAN's.
    Uniform,
    /// N(0, 1).
    Normal,
}

impl Prior {
    /// New latents `[n, latent]`.
    pub fn sample<'t>(self, tape: &'t Tape, random: &RandomState, n: usize, latent: usize) -> Tensor<'t> {
        match self {
            Self::Uniform => tape.uniform(random, &[n, latent]).affine(2.0, -1.0),
            Self::Normal => tape.normal(random, &[n, latent]),
        }
    }
}

/// What one sample is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A square image, `[channels, size, size]`.
    #[default]
    Image,
    /// A window of a series, `[channels, 1, size]`.
    Signal,
    /// A row of a table, `[channels, 1, 1]`: the features are the channels.
    Table,
}

/// Sizes of the networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// What one sample is.
    #[serde(default)]
    pub form: Form,
    /// Side of the square images, or length of the windows: a power of two from 16 to 256; 1 for tables.
    pub size: usize,
    /// Channels of the images (1 gray, 3 colour) or signals; features of a table.
    pub channels: usize,
    /// Channels of the first layer's feature maps, w; later layers have up to 8·w.
    pub width: usize,
    /// Length of the latent vector.
    pub latent: usize,
    /// Distribution of the latent.
    pub prior: Prior,
    /// Convolution kernel, 4 or 5.
    pub kernel: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            form: Form::Image,
            size: 64,
            channels: 1,
            width: 64,
            latent: 100,
            prior: Prior::Uniform,
            kernel: 4,
        }
    }
}

impl Config {
    /// The same for samples of a form: rows of tables have no extent.
    #[must_use]
    pub fn of(self, form: Form) -> Self {
        Self { form, size: if form == Form::Table { 1 } else { self.size }, ..self }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |field: &str, value: usize, allowed: &str| Err(ConfigError::new(field, value, allowed));
        if self.form == Form::Table {
            if self.size != 1 {
                return bad("size", self.size, "1 for tables");
            }
        } else if !self.size.is_power_of_two() || !(16..=256).contains(&self.size) {
            return bad("size", self.size, "a power of two from 16 to 256");
        }
        match self.form {
            Form::Image if self.channels != 1 && self.channels != 3 => {
                return bad("channels", self.channels, "1 (gray) or 3 (rgb)");
            }
            _ if !(1..=4096).contains(&self.channels) => {
                return bad("channels", self.channels, "1 to 4096");
            }
            _ => {}
        }
        if !(1..=1024).contains(&self.width) {
            return bad("width", self.width, "1 to 1024");
        }
        if !(1..=65_536).contains(&self.latent) {
            return bad("latent", self.latent, "1 to 65536");
        }
        if self.kernel != 4 && self.kernel != 5 {
            return bad("kernel", self.kernel, "4 or 5");
        }
        Ok(())
    }

    /// Refuses samples of a form that a system's networks do not take.
    ///
    /// # Errors
    /// [`ConfigError`] listing the forms that they take.
    pub fn check_form(&self, allowed: &[Form]) -> Result<(), ConfigError> {
        let name = |form: Form| format!("{form:?}").to_lowercase();
        if allowed.contains(&self.form) {
            return Ok(());
        }
        let names: Vec<_> = allowed.iter().copied().map(name).collect();
        Err(ConfigError::new("form", name(self.form), format!("{} for this system", names.join(" or "))))
    }

    /// Number of stride-2 layers down to a side of 4, L.
    pub fn levels(&self) -> usize {
        (self.size.max(4).ilog2() as usize).saturating_sub(2)
    }

    /// Channels at level i of a pyramid, whose side is s / 2^(i+1): w·min(2^i, 8).
    pub fn channels_at(&self, level: usize) -> usize {
        self.width * (1 << level.min(3))
    }

    /// Height and width of a sample.
    pub fn extent(&self) -> [usize; 2] {
        match self.form {
            Form::Image => [self.size, self.size],
            Form::Signal => [1, self.size],
            Form::Table => [1, 1],
        }
    }

    /// Height and width of the smallest feature map: 4×4 for images, 1×4 for signals.
    pub fn bottom(&self) -> [usize; 2] {
        self.spread(4, 1)
    }

    /// `value` along each axis that samples extend in, `flat` along the others.
    fn spread(&self, value: usize, flat: usize) -> [usize; 2] {
        match self.form {
            Form::Image => [value, value],
            Form::Signal => [flat, value],
            Form::Table => [flat, flat],
        }
    }

    /// A kernel of this size: k×k for images, 1×k for signals.
    pub fn kernel(&self, size: usize) -> [usize; 2] {
        self.spread(size, 1)
    }

    /// Options of a convolution along the axes that samples extend in.
    pub fn strided(&self, stride: usize, low: usize, high: usize) -> ConvOptions {
        ConvOptions {
            stride: self.spread(stride, 1),
            pad_low: self.spread(low, 0),
            pad_high: self.spread(high, 0),
            ..ConvOptions::default()
        }
    }

    /// The stride-2 convolution that halves a side: kernel 4 with padding 1, or 5 with TensorFlow's "SAME"
    /// padding.
    pub fn halving(&self) -> ConvOptions {
        self.strided(2, 1, if self.kernel == 4 { 1 } else { 2 })
    }

    /// Length of the flattened map at the bottom of a discriminator, f(x).
    pub fn features(&self) -> usize {
        let [h, w] = self.bottom();
        h * w * self.channels_at(self.levels().saturating_sub(1))
    }

    /// Shape of a batch of samples.
    pub fn images(&self, n: usize) -> [usize; 4] {
        let [h, w] = self.extent();
        [n, self.channels, h, w]
    }

    /// Elements of one sample.
    pub fn sample_len(&self) -> usize {
        self.images(1).iter().product()
    }

    /// Pixels of one sample's map.
    pub fn map_len(&self) -> usize {
        self.extent().iter().product()
    }
}
