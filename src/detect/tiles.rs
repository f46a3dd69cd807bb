//! Large images by tiles of the networks' size, at the image's own resolution.

use ganomede_datasets::WholeImage;
use ganomede_datasets::memory::Held;
use rayon::prelude::*;

use super::{Applied, DetectError, Observer};
use crate::device::Device;
use crate::maps::{Smooth, Stitch};
use crate::models::ConfigError;
use crate::models::file::ModelFile;
use crate::models::scorer::{Found, ScoreConfig, Scorer, Tiling};

/// Sees the rows of a map at the size of its image, in order.
pub type SeeRow<'a> = &'a mut dyn FnMut(&[f32]) -> Result<(), DetectError>;

/// A model that scores whole images by their tiles.
pub struct TileScorer<'a> {
    device: &'a Device,
    model: &'a ModelFile,
    path: &'a std::path::Path,
    score: &'a ScoreConfig,
    tiling: Tiling,
    searched: bool,
    /// Tiles side by side, at most.
    most: usize,
    /// Scorers by their batch.
    kept: Vec<Scorer>,
}

/// What was found about an image by its tiles.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundByTiles {
    /// The image's score; parts, reconstruction and map are those of the tile with the highest.
    pub found: Found,
    /// Tiles that were scored.
    pub tiles: usize,
    /// Left and upper edge of the tile with the highest score.
    pub highest: [usize; 2],
}

impl<'a> TileScorer<'a> {
    /// Scorers that are kept: images of many sizes take batches of few.
    const KEPT: usize = 4;

    /// Of a model of tiles, which scores `batch` of them side by side at most.
    ///
    /// # Errors
    /// [`DetectError::Config`] for steps out of range, [`DetectError::Score`] for settings that the model
    /// cannot be scored with.
    pub fn new(applied: &Applied<'a>, batch: usize) -> Result<Self, DetectError> {
        let header = &applied.model.header;
        let tiling = tiling(applied.model, applied.score).ok_or_else(|| {
            ConfigError::new("tile", "asked for", "left out: the model was trained on whole images")
        })?;
        tiling.check(&header.config)?;
        let searched = crate::models::scorer::is_searched(header, applied.score, batch)?;
        let Applied { device, model, path, score, .. } = *applied;
        Ok(Self { device, model, path, score, tiling, searched, most: batch, kept: vec![] })
    }

    /// Takes over scorers of the same model and settings.
    pub(super) fn keep(&mut self, kept: Vec<Scorer>) {
        self.kept = kept;
    }

    /// Gives the scorers away.
    pub(super) fn into_kept(self) -> Vec<Scorer> {
        self.kept
    }

    /// Tiles of an image of this height and width; `None` where it is smaller than one.
    pub fn tiles(&self, size: [usize; 2]) -> Option<usize> {
        Some(self.tiling.grid(size, &self.model.header.config)?.len())
    }

    /// A sentence about what scoring such images costs, where each tile is searched.
    pub fn cost(&self, images: usize, size: [usize; 2]) -> Option<String> {
        let score = &self.score;
        let steps = if score.refine > 0 { score.refine } else { score.search.steps };
        let (tiles, restarts) = (self.tiles(size)?, if score.refine > 0 { 1 } else { score.search.restarts });
        let total = (tiles * images) as u64 * (steps * restarts) as u64;
        self.searched.then(|| {
            let each = if images == 1 {
                format!("the image has {tiles} tiles")
            } else {
                format!("{images} images of {tiles} tiles each, if all have the size of the first")
            };
            format!(
                "each tile is searched: {each}, with {steps} steps from {restarts} start{} that is {total} steps of the \
                 search; a larger step between tiles takes fewer",
                if restarts == 1 { "" } else { "s" }
            )
        })
    }

    /// Scores an image; `see` gets the rows of its map, smoothed and blended of those of its tiles. Tiles of
    /// a score without a map have their score everywhere.
    ///
    /// # Errors
    /// [`DetectError::Data`] for an image smaller than a tile, [`DetectError::Score`] where a tile cannot be
    /// scored, what `see` refuses, and where the observer stops it.
    pub fn score(
        &mut self,
        image: &WholeImage,
        observer: &mut dyn Observer,
        see: Option<SeeRow<'_>>,
    ) -> Result<FoundByTiles, DetectError> {
        image.check_tile()?;
        let config = &self.model.header.config;
        let size = image.size();
        let grid = self.tiling.grid(size, config).ok_or_else(|| {
            DetectError::Input(format!("{}×{} pixels cannot be cut into tiles", size[1], size[0]))
        })?;
        let (count, pixels) = (grid.len(), config.map_len());
        let sigma = self.score.maps.sigma(config);
        let held = Held::default();
        let mut map = match see {
            None => None,
            Some(see) => {
                let rows = (Smooth::rows_kept(sigma) + 2) as u64 * size[1] as u64 * 4;
                held.grow(Stitch::bytes(config.extent()[0], size[1]) + rows).map_err(|short| {
                    DetectError::Input(format!("the map of {} {short}", ganomede_host::line(image.id())))
                })?;
                Some((Stitch::new(grid.clone()), Smooth::new(size[1], sigma), see))
            }
        };
        let scorer = self.scorer(count)?;
        let (mut scores, mut best) = (Vec::with_capacity(count), None::<(Found, usize)>);
        for start in (0..count).step_by(scorer.batch()) {
            if !observer.goes_on() {
                return Err(DetectError::Stopped);
            }
            let tiles = start..count.min(start + scorer.batch());
            let values: Vec<Vec<f32>> =
                tiles.into_par_iter().map(|i| image.tile(grid.at(i)).pixels).collect();
            for (i, found) in scorer.score(&values.concat(), None)?.into_iter().enumerate() {
                if let Some((stitch, smooth, see)) = &mut map {
                    let flat;
                    let of_tile = match &found.map {
                        Some(map) => map,
                        None => {
                            flat = vec![found.score as f32; pixels];
                            &flat
                        }
                    };
                    stitch.add(of_tile, &mut |row| smooth.push(row, see))?;
                }
                scores.push(found.score);
                if best.as_ref().is_none_or(|(best, _)| found.score > best.score) {
                    best = Some((found, start + i));
                }
            }
        }
        if let Some((stitch, smooth, see)) = &mut map {
            stitch.finish(&mut |row| smooth.push(row, see))?;
            smooth.finish(see)?;
        }
        let (best, at) = best.unwrap_or_default();
        let found = Found { score: self.tiling.score.of(&scores), ..best };
        Ok(FoundByTiles { found, tiles: count, highest: grid.at(at) })
    }

    /// A scorer whose batches an image of this many tiles fills as well as may be.
    fn scorer(&mut self, tiles: usize) -> Result<&mut Scorer, DetectError> {
        let even = tiles.div_ceil(tiles.div_ceil(self.most));
        let batch = if even > 8 { even.next_multiple_of(8) } else { even }.min(self.most);
        let at = match self.kept.iter().position(|scorer| scorer.batch() == batch) {
            Some(at) => at,
            None => {
                if self.kept.len() == Self::KEPT {
                    self.kept.remove(0);
                }
                self.kept.push(Scorer::new(self.device, self.model, self.path, self.score, batch)?);
                self.kept.len() - 1
            }
        };
        Ok(&mut self.kept[at])
    }
}

/// How images are cut for a model; `None` for models of whole images.
pub fn tiling(model: &ModelFile, score: &ScoreConfig) -> Option<Tiling> {
    model.header.data.tiles.as_ref().map(|trained| score.tiles.unwrap_or(trained.tiling))
}
