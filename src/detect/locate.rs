//! Where an image is anomalous, at the image's own size.

use std::path::Path;
use std::sync::PoisonError;

use ganomede_datasets::{Dataset, OpenOptions, Split, WholeImage};

use super::{DetectError, Detector, Query, TileScorer, Verdict, options_of, tiling};
use crate::maps::Region;
use crate::models::Form;
use crate::models::scorer::Found;

/// Tiles scored side by side.
const TILES: usize = 64;

/// A verdict with its places.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The verdict; its own map is that of the networks' input, of large images of the tile that scores
    /// highest.
    pub verdict: Verdict,
    /// Height and width of the image.
    pub size: [usize; 2],
    /// The map at that size, smoothed; NaN where the networks saw nothing. Absent for scores without a place.
    pub map: Option<Vec<f32>>,
    /// Where the colours of its picture begin and end, the same for all images.
    pub range: [f32; 2],
    /// The value from which on a pixel is called anomalous; unknown without a calibration of maps.
    pub threshold: Option<f32>,
    /// Connected regions of such pixels, from the highest peak on.
    pub regions: Vec<Region>,
    /// Regions beyond the thousand highest.
    pub regions_left_out: usize,
}

impl Detector {
    /// Judges an image and says where it is anomalous, at the image's own size.
    ///
    /// # Errors
    /// As [`Detector::score`]; [`DetectError::Input`] for values, which have no size of their own.
    pub fn locate<'q>(&self, query: impl Into<Query<'q>>) -> Result<Located, DetectError> {
        self.locate_prepared(&self.prepare(query)?, None)
    }

    /// Whether images are judged by their tiles.
    pub fn is_tiled(&self) -> bool {
        tiling(self.model(), self.score_config()).is_some()
    }

    /// Judges a large image by its tiles.
    pub(super) fn found_by_tiles(
        &self,
        image: &WholeImage,
        see: Option<super::SeeRow<'_>>,
    ) -> Result<Found, DetectError> {
        let lock = || self.tiled.lock().unwrap_or_else(PoisonError::into_inner);
        let observer = &mut ();
        let mut scorer = TileScorer::new(&self.applied(observer), TILES)?;
        scorer.keep(std::mem::take(&mut *lock()));
        let found = scorer.score(image, &mut (), see)?.found;
        *lock() = scorer.into_kept();
        Ok(found)
    }

    /// An image at its own resolution.
    pub(super) fn whole(&self, query: Query<'_>) -> Result<WholeImage, DetectError> {
        if self.model().header.config.form != Form::Image {
            return Err(DetectError::Input(
                "the model is of series or tables, not of images; give values to be scored".to_owned(),
            ));
        }
        let options = OpenOptions { without_masks: true, ..options_of(self.model(), OpenOptions::default()) };
        Ok(match query {
            Query::Values(_) | Query::Measured(_) => {
                return Err(DetectError::Input(
                    "values have no size of their own; give the image itself, or score the values".to_owned(),
                ));
            }
            Query::File(path) => {
                let set = Dataset::open(&path.to_string_lossy(), &options)?;
                set.whole(one_split(&set, path)?, 0)?
            }
            Query::Encoded(bytes) => WholeImage::decode("the image", bytes.to_vec(), &options)?,
            Query::Pixels(image) => WholeImage::of_pixels("the image", image.into_owned(), &options)?,
        })
    }
}

/// The part of a set that holds one image, and no other.
pub(super) fn one_split(set: &Dataset, path: &Path) -> Result<Split, DetectError> {
    let split = if set.is_empty(Split::Test) { Split::Train } else { Split::Test };
    match set.len(split) {
        1 => Ok(split),
        count => {
            let spec = path.to_string_lossy();
            Err(DetectError::Input(format!("'{spec}' holds {count} images; give one file")))
        }
    }
}
