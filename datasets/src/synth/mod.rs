//! Built-in generators: seeded images with pixel masks, so that demo and tests need no download.
//!
//! A new one is a file beside `retina.rs` that implements [`Generator`], and a line in [`GENERATORS`].

pub(crate) mod casting;
pub(crate) mod concrete;
mod curve;
mod field;
pub(crate) mod retina;
pub(crate) mod telemetry;

use std::ops::RangeInclusive;

/// Every built-in generator of images; telemetry is a series and has its own type.
pub(crate) const GENERATORS: [&dyn Generator; 3] = [&retina::Retina, &concrete::Concrete, &casting::Casting];

/// A gray image with its mask, both `size × size`, row-major.
pub(crate) struct Drawing {
    pub(crate) gray: Vec<u8>,
    /// Non-zero is anomalous; all zero where no anomaly was asked for.
    pub(crate) mask: Vec<u8>,
}

/// Draws image after image as a pure function of a key.
pub(crate) trait Generator: Send + Sync {
    /// Name in `builtin:NAME`.
    fn name(&self) -> &'static str;

    /// Raised whenever the same key gives other pixels; part of the digest.
    fn version(&self) -> u32;

    /// Class names of the anomalies.
    fn kinds(&self) -> &'static [&'static str];

    /// Sizes that can be drawn.
    fn sizes(&self) -> RangeInclusive<usize>;

    /// A normal image, or one with the anomaly `kinds()[kind]`. Without anomaly, the same key gives the same
    /// scene: the pair differs only by the anomaly.
    fn draw(&self, key: &[u64], size: usize, kind: Option<usize>) -> Drawing;
}
