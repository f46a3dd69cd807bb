//! Samples made ready apart from being scored, so that a service decodes side by side and scores in batches.

use std::borrow::Cow;

use ganomede_datasets::{Frame, WholeImage};

use super::{DetectError, Detector, Located, Maps, Query, Verdict};
use crate::maps::{Regions, View};
use crate::models::Form;

/// A sample as the networks see it; of a model of tiles the image itself.
pub struct Prepared {
    values: Vec<f32>,
    /// Where the values lie in their image, if they are of one.
    frame: Option<Frame>,
    /// The image that tiles are cut from.
    image: Option<WholeImage>,
}

impl Prepared {
    /// Height and width of the image; unknown of values.
    pub fn size(&self) -> Option<[usize; 2]> {
        self.image.as_ref().map(WholeImage::size).or(self.frame.map(|frame| frame.size))
    }
}

impl Detector {
    /// Decodes, resizes and checks a sample: what [`Detector::score`] does before it scores.
    ///
    /// # Errors
    /// As [`Detector::score`], but for what devices say.
    pub fn prepare<'q>(&self, query: impl Into<Query<'q>>) -> Result<Prepared, DetectError> {
        let query = query.into();
        if self.is_tiled() {
            return Ok(Prepared { values: vec![], frame: None, image: Some(self.whole(query)?) });
        }
        if self.model().header.config.form != Form::Image
            || matches!(query, Query::Values(_) | Query::Measured(_))
        {
            return Ok(Prepared { values: self.values(query)?, frame: None, image: None });
        }
        let image = self.whole(query)?;
        let (input, frame) = image.prepared();
        Ok(Prepared { values: input.pixels, frame: Some(frame), image: None })
    }

    /// Judges prepared samples in batches; each has the bits that it has alone.
    ///
    /// # Errors
    /// [`DetectError::Score`] where the device fails or a score is NaN.
    pub fn score_prepared(&self, samples: &[&Prepared]) -> Result<Vec<Verdict>, DetectError> {
        if self.is_tiled() {
            let judge = self.judge_of_samples()?;
            let images = samples.iter().filter_map(|sample| sample.image.as_ref());
            return images.map(|image| Ok(Verdict::new(self.found_by_tiles(image, None)?, &judge))).collect();
        }
        self.score_many(samples.iter().map(|sample| Query::Values(Cow::Borrowed(&sample.values))))
    }

    /// Where a prepared image is anomalous, at its own size. `verdict` is what [`Detector::score_prepared`]
    /// said of it; an image of tiles is scored here.
    ///
    /// # Errors
    /// [`DetectError::Input`] for values, which have no size of their own; of tiles, as
    /// [`Detector::score_prepared`].
    pub fn locate_prepared(
        &self,
        sample: &Prepared,
        verdict: Option<Verdict>,
    ) -> Result<Located, DetectError> {
        let Some(size) = sample.size() else {
            return Err(DetectError::Input(
                "values have no size of their own; give the image itself, or score the values".to_owned(),
            ));
        };
        let mut map = vec![];
        let maps = Maps::own(self.model(), self.score_config())?;
        let threshold = maps.threshold(None);
        let mut regions = threshold.map(|threshold| Regions::new(size[1], threshold));
        let mut see = |row: &[f32]| {
            map.extend_from_slice(row);
            regions.iter_mut().for_each(|regions| regions.row(row));
            Ok(())
        };
        let verdict = match (&sample.image, sample.frame, verdict) {
            (Some(image), ..) => {
                Verdict::new(self.found_by_tiles(image, Some(&mut see))?, &self.judge_of_samples()?)
            }
            (None, frame, verdict) => {
                let verdict = match verdict {
                    Some(verdict) => verdict,
                    None => Verdict::new(self.found_one(&sample.values)?, &self.judge_of_samples()?),
                };
                if let (Some(map), Some(frame)) = (&verdict.map, frame) {
                    let [x, y, width, height] = frame.part;
                    maps.rows(map, View { x, y, width, height }, size, &mut see)?;
                }
                verdict
            }
        };
        let (regions, regions_left_out) = regions.map(Regions::finish).unwrap_or_default();
        let map = (!map.is_empty()).then_some(map);
        Ok(Located { verdict, size, map, range: maps.range().0, threshold, regions, regions_left_out })
    }
}
