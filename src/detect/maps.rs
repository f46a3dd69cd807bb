//! Maps as people see them: smoothed, on one scale for all images, at the size of the image.

use ganomede_datasets::memory::Held;

use super::DetectError;
use crate::maps::{Levels, MAP_FALSE_ALARM_RATE, Pixels, Place, View, enlarge, smoothed};
use crate::models::file::{Calibration, MapCalibration, ModelFile};
use crate::models::scorer::{Found, MapConfig, ScoreConfig};
use crate::models::{Config, Form};

/// Memory that held-out maps of places take at most; of more, the first are looked at.
const HELD_OUT_BYTES: usize = 256 << 20;

/// How the maps of a model are made and read, under one set of score settings.
#[derive(Debug, Clone)]
pub struct Maps<'m> {
    config: &'m Config,
    sigma: f64,
    relative: Option<&'m Place>,
    calibration: Option<&'m MapCalibration>,
}

impl<'m> Maps<'m> {
    /// The maps of a model as `score` asks for them, on the scale of `calibration` if there is one.
    ///
    /// # Errors
    /// [`DetectError::Input`] for relative maps where nothing is known of held-out normals.
    pub fn new(
        model: &'m ModelFile,
        score: &ScoreConfig,
        calibration: Option<&'m MapCalibration>,
    ) -> Result<Self, DetectError> {
        let config = &model.header.config;
        let relative = calibration.and_then(|c| c.place.as_ref()).filter(|_| score.maps.relative);
        if score.maps.relative && relative.is_none() {
            return Err(DetectError::Input(
                "maps relative to held-out normals need to know these, and the model was calibrated without such \
                 maps; train it with relative maps, or evaluate it on the data that it was trained on"
                    .to_owned(),
            ));
        }
        Ok(Self { config, sigma: score.maps.sigma(config), relative, calibration })
    }

    /// As [`Maps::new`], on the scale that the model file has, if it is of such maps.
    ///
    /// # Errors
    /// As [`Maps::new`].
    pub fn own(model: &'m ModelFile, score: &ScoreConfig) -> Result<Self, DetectError> {
        Self::new(model, score, own_maps(model, score))
    }

    /// Standard deviation of the Gaussian, in pixels of the networks' input.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Whether maps are relative to held-out normals.
    pub fn is_relative(&self) -> bool {
        self.relative.is_some()
    }

    /// A map of the networks' input, smoothed and on the scale of its places.
    pub fn of(&self, map: &[f32]) -> Vec<f32> {
        let [_, width] = self.config.extent();
        let mut map = smoothed(map, width, self.sigma);
        if let Some(place) = self.relative {
            place.relative(&mut map);
        }
        map
    }

    /// The rows of such a map at the size of the image that it is of, `[height, width]`; NaN where the
    /// network saw nothing.
    ///
    /// # Errors
    /// Of the function.
    pub fn rows<E>(
        &self,
        map: &[f32],
        view: View,
        size: [usize; 2],
        out: &mut impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        enlarge(&self.of(map), self.config.extent(), view, size, out)
    }

    /// Where the colours of pictures begin and end, the same for all images; and whether that is of held-out
    /// normals.
    pub fn range(&self) -> ([f32; 2], bool) {
        match self.calibration {
            Some(calibration) => (calibration.levels.range(), true),
            // Residuals of images in [−1, 1]: half the range is as wrong as a picture gets before it
            // saturates.
            None => ([0.0, if self.config.channels == 1 { 1.0 } else { 0.8 }], false),
        }
    }

    /// The value from which on a pixel is called anomalous: that of the model file, or the one that a share
    /// `rate` of held-out normal pixels reaches at most. `None` without a calibration of such maps.
    pub fn threshold(&self, rate: Option<f64>) -> Option<f32> {
        let calibration = self.calibration?;
        Some(rate.map_or(calibration.threshold, |rate| calibration.levels.threshold(rate)))
    }
}

/// The scale of a model's maps, if it was made of maps as `score` asks for.
pub fn own_maps<'m>(model: &'m ModelFile, score: &ScoreConfig) -> Option<&'m MapCalibration> {
    maps_of(model.header.calibration.as_ref()?, score, &model.header.config)
}

/// The scale of maps that a calibration has, if it was made of maps as `score` asks for.
pub(super) fn maps_of<'c>(
    calibration: &'c Calibration,
    score: &ScoreConfig,
    config: &Config,
) -> Option<&'c MapCalibration> {
    let alike = |a: &MapConfig, b: &MapConfig| a.relative == b.relative && a.sigma(config) == b.sigma(config);
    let is_of_these = calibration.score.scores_as(score) && alike(&calibration.score.maps, &score.maps);
    calibration.maps.as_ref().filter(|_| is_of_these)
}

/// Gathers held-out normal maps into the scale of later ones.
pub struct HeldOutMaps {
    sigma: f64,
    width: usize,
    /// Maps that are expected.
    count: usize,
    pixels: Pixels,
    /// Whole maps, where places are compared.
    relative: bool,
    maps: Vec<Vec<f32>>,
    held: Held,
}

impl HeldOutMaps {
    /// Of `count` samples of a model, scored as `score` says; `None` for what has no maps.
    pub fn new(config: &Config, score: &ScoreConfig, count: usize) -> Option<Self> {
        (config.form == Form::Image && count > 0).then(|| Self {
            sigma: score.maps.sigma(config),
            width: config.extent()[1],
            count,
            pixels: Pixels::default(),
            relative: score.maps.relative,
            maps: vec![],
            held: Held::default(),
        })
    }

    /// Adds the map of a sample, if it has one.
    pub fn add(&mut self, found: &Found) {
        let Some(map) = &found.map else { return };
        let map = smoothed(map, self.width, self.sigma);
        if !self.relative {
            return self.pixels.map(&map, self.count);
        }
        let bytes = 4 * map.len();
        if (self.maps.len() + 1) * bytes <= HELD_OUT_BYTES && self.held.grow(bytes as u64).is_ok() {
            self.maps.push(map);
        }
    }

    /// The pixels of a map that comes row by row, already smoothed.
    pub(super) fn pixels(&mut self) -> (&mut Pixels, usize) {
        (&mut self.pixels, self.count)
    }

    /// The scale; `None` where there was no map, or too few to compare their places.
    pub fn calibration(mut self) -> Option<MapCalibration> {
        let place = if self.relative { Some(Place::of(&self.maps)?) } else { None };
        if let Some(place) = &place {
            let count = self.maps.len();
            for map in &mut self.maps {
                // As if it had not been among those that it is compared with.
                place.relative_without(map, count);
                self.pixels.map(map, count);
            }
        }
        let levels: Levels = self.pixels.levels()?;
        let threshold = levels.threshold(MAP_FALSE_ALARM_RATE);
        Some(MapCalibration { levels, threshold, rate: MAP_FALSE_ALARM_RATE, place })
    }
}
