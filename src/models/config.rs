//! Sizes that every system has, and the checks of them.
//!
//! **The rule of sides.** Networks follow from height and width, any two numbers from 16 to 1,024. A *level*
//! is what is left of a sample after so many halvings, each side rounded up: 50×33 (height × width) becomes
//! 25×17, 13×9, 7×5. Samples are halved as long as their smaller side stays 4 or more; that number of levels,
//! L, is the network's, and what is left, the *bottom*, has a smaller side of 4 to 6 and is as long as it is.
//! The bottom's head is one linear layer of all of it. For squares of 4·2ᴸ the bottom is 4×4, as the papers
//! have it.
//!
//! | layer | from a side s | |
//! |---|---|---|
//! | convolution of kernel k, stride 2 | ⌈s/2⌉ | k − 2 zeros around even sides, k − 1 around odd ones; the smaller half before: TensorFlow's "SAME" |
//! | its transpose | s from ⌈s/2⌉ | the same zeros are cut off again, which leaves exactly s |
//! | pooling by 2 | ⌈s/2⌉ | the last window of an odd side has one row, whose mean or maximum is taken of what is there |
//! | repeating by 2 | s from ⌈s/2⌉ | the last repeated row is dropped where s is odd |
//!
//! U-Nets go on until the smaller side is 1, EGBAD's networks end at 8 or more: [`Config::halvings`]. Windows
//! of signals have one side, their length, and the other stays 1.

use ganomede_datasets::Size;
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

/// Least side of images, and length of windows.
pub const MIN_SIDE: usize = 16;
/// Greatest side of images, and length of windows.
pub const MAX_SIDE: usize = 1024;

/// What one sample is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// An image, `[channels, height, width]`.
    #[default]
    Image,
    /// A window of a series, `[channels, 1, length]`.
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
    /// Height and width of the images, or as a square the length of the windows: 16 to 1024; 1 for tables.
    pub size: Size,
    /// Channels of the images (1 gray, 3 colour) or signals; features of a table.
    pub channels: usize,
    /// Channels of the first layer's feature maps, w; later layers have up to 8·w, unless an option says
    /// otherwise.
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
            size: Size::square(64),
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
        Self { form, size: if form == Form::Table { Size::square(1) } else { self.size }, ..self }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |field: &str, value: usize, allowed: &str| Err(ConfigError::new(field, value, allowed));
        let allowed = match self.form {
            Form::Table => (self.size != Size::square(1)).then_some("1 for tables"),
            Form::Signal if !self.size.is_square() => Some("one number for windows of series"),
            _ if self.size.shorter() < MIN_SIDE || self.size.longer() > MAX_SIDE => Some("16 to 1024 a side"),
            _ => None,
        };
        if let Some(allowed) = allowed {
            return Err(ConfigError::new("size", self.size, allowed));
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

    /// Number of halvings down to the bottom, L.
    pub fn levels(&self) -> usize {
        self.halvings(4)
    }

    /// Number of times that a sample can be halved, rounding up, before its smaller side is less than
    /// `least`.
    pub fn halvings(&self, least: usize) -> usize {
        let side = match self.form {
            Form::Signal => self.size.width,
            Form::Image | Form::Table => self.size.shorter(),
        };
        let halved = |side: &usize| (*side > 1).then(|| side.div_ceil(2)).filter(|&half| half >= least);
        std::iter::successors(Some(side), halved).count() - 1
    }

    /// Doublings after which channels stay the same: 8·w.
    pub const DOUBLINGS: usize = 3;

    /// Channels that halving i leads to, the first being 0: w·min(2^i, 8).
    pub fn channels_at(&self, level: usize) -> usize {
        self.channels_within(level, Self::DOUBLINGS)
    }

    /// As [`Config::channels_at`] with so many doublings at most.
    pub fn channels_within(&self, level: usize, doublings: usize) -> usize {
        self.width << level.min(doublings)
    }

    /// Height and width of a sample.
    pub fn extent(&self) -> [usize; 2] {
        match self.form {
            Form::Image => self.size.extent(),
            Form::Signal => [1, self.size.width],
            Form::Table => [1, 1],
        }
    }

    /// Height and width after so many halvings, rounding up.
    pub fn extent_at(&self, level: usize) -> [usize; 2] {
        self.extent().map(|side| (0..level).fold(side, |side, _| side.div_ceil(2)))
    }

    /// Height and width of the smallest feature map: 4×4 for images of 4·2ᴸ, 1×4 for such signals.
    pub fn bottom(&self) -> [usize; 2] {
        self.extent_at(self.levels())
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

    /// The stride-2 convolution from this level to the next. Transposed it leads back to exactly this level.
    pub fn halving(&self, level: usize) -> ConvOptions {
        self.halving_by(self.kernel, level)
    }

    /// As [`Config::halving`], with another kernel.
    pub fn halving_by(&self, kernel: usize, level: usize) -> ConvOptions {
        let zeros =
            self.extent_at(level).map(|side| (2 * side.div_ceil(2) + kernel).saturating_sub(side + 2));
        let along = self.spread(1, 0);
        let [low, high] = [0, 1].map(|more| [0, 1].map(|d| along[d] * (zeros[d] + more) / 2));
        ConvOptions { stride: self.spread(2, 1), pad_low: low, pad_high: high, ..ConvOptions::default() }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: &str) -> Config {
        Config { size: size.parse().unwrap(), ..Config::default() }
    }

    #[test]
    fn squares_of_powers_of_two_end_at_four() {
        for (levels, size) in
            [(2, "16"), (3, "32"), (4, "64"), (5, "128"), (6, "256"), (7, "512"), (8, "1024")]
        {
            let config = of(size);
            assert_eq!((config.levels(), config.bottom()), (levels, [4, 4]), "{size}");
            assert_eq!(config.halvings(1), levels + 2, "{size}");
            let signal = Config { form: Form::Signal, ..config };
            assert_eq!((signal.levels(), signal.bottom()), (levels, [1, 4]), "{size}");
        }
        for (kernel, low, high) in [(4, 1, 1), (5, 1, 2), (3, 0, 1)] {
            let options = of("64").halving_by(kernel, 2);
            assert_eq!((options.pad_low, options.pad_high, options.stride), ([low; 2], [high; 2], [2; 2]));
        }
    }

    #[test]
    fn other_sides_are_halved_rounding_up_while_the_smaller_stays_four() {
        for (size, levels, bottom) in [
            ("96x64", 4, [4, 6]),
            ("33x50", 3, [7, 5]),
            ("17x128", 2, [32, 5]),
            ("200", 6, [4, 4]),
            ("31", 3, [4, 4]),
            ("16x1024", 2, [256, 4]),
        ] {
            let config = of(size);
            assert_eq!((config.levels(), config.bottom()), (levels, bottom), "{size}");
        }
    }

    #[test]
    fn every_convolution_halves_and_its_transpose_restores() {
        for (width, height) in (16..=70).flat_map(|w| [(w, 16), (w, 71 - w / 2), (17, w)]) {
            let size = Size { height, width };
            let signal = Config { size: Size::square(width), form: Form::Signal, ..Config::default() };
            for config in [Config { size, ..Config::default() }, signal] {
                for (level, kernel) in (0..config.halvings(1)).flat_map(|level| [3, 4, 5].map(|k| (level, k)))
                {
                    let (from, to) = (config.extent_at(level), config.extent_at(level + 1));
                    let (options, kernel) = (config.halving_by(kernel, level), config.kernel(kernel));
                    for d in 0..2 {
                        let zeros = options.pad_low[d] + options.pad_high[d];
                        assert_eq!(
                            (from[d] + zeros - kernel[d]) / options.stride[d] + 1,
                            to[d],
                            "{config:?} {d}"
                        );
                        assert_eq!(
                            (to[d] - 1) * options.stride[d] + kernel[d] - zeros,
                            from[d],
                            "{config:?} {d}"
                        );
                        assert!(options.pad_high[d] - options.pad_low[d] < 2);
                    }
                }
            }
        }
    }

    #[test]
    fn sides_out_of_range_and_lengths_of_two_numbers_are_refused() {
        for size in ["15", "15x64", "64x15", "1025", "64x1025", "0", "0x0"] {
            let error = of(size).check().unwrap_err().to_string();
            assert_eq!(error, format!("size is {}; it must be 16 to 1024 a side", of(size).size));
        }
        let signal = |size: &str| Config { form: Form::Signal, ..of(size) };
        assert!(signal("64x32").check().unwrap_err().to_string().contains("one number"));
        for size in ["16", "17x1024", "1000x999"] {
            of(size).check().unwrap();
        }
        signal("100").check().unwrap();
    }

    #[test]
    fn files_of_squares_have_one_number() {
        let json = |size: &str| serde_json::to_value(of(size)).unwrap()["size"].clone();
        assert_eq!((json("64"), json("96x64")), (serde_json::json!(64), serde_json::json!("96x64")));
        let old = r#"{"size":64,"channels":1,"width":64,"latent":100,"prior":"uniform","kernel":4}"#;
        assert_eq!(serde_json::from_str::<Config>(old).unwrap(), Config::default());
    }
}
