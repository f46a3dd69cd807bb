//! Detectors: trained systems with preprocessing, calibration and threshold. Every door of the program
//! (command line, library, service) stands on this layer.
//!
//! A [`Detector`] is trained from [`Samples`] or read from a model file, and gives a [`Verdict`] on each
//! sample. The threshold follows from held-out normal samples alone (split conformal prediction): of new
//! normal samples at most the share that was asked for is flagged. Nothing here prints, and nothing reads the
//! environment; what goes on is told to an [`Observer`].

mod apply;
mod assess;
mod builder;
mod calibrate;
#[cfg(feature = "report")]
mod compare;
mod detector;
mod error;
mod images;
mod job;
mod locate;
mod look;
mod maps;
mod observe;

mod open;
mod prepared;
mod queries;
mod recommend;
mod rows;
mod samples;
mod series;
mod settings;
mod shard;
mod tiles;
mod verdict;

pub use apply::{Applied, Each, Selection, no_image, score_selection};
#[cfg(feature = "report")]
pub use assess::Pages;
pub use assess::{Assess, Assessment, SampleAssessment, TestSet, check_limit, losses};
pub use builder::TrainingBuilder;
pub use calibrate::{
    FALSE_ALARM_RATE, HeldOut, Judge, POINT_FALSE_ALARM_RATE, calibrate, calibration, other_precision, own,
    rate_of, too_few_groups, usual_rate,
};
#[cfg(feature = "report")]
pub use compare::{Compared, Comparison, ComparisonData, ComparisonDocument, ComparisonPages, Trial};
pub use detector::{Detector, Query, Verdict};
pub use error::DetectError;
#[cfg(feature = "report")]
pub use images::ImageComparison;
pub use images::{ImageQueries, ImageTests, Images, options_of};
pub use job::{Job, Kept, Trained, checkpoint_path};
pub use locate::Located;
pub use look::{Look, Looked, look_at, look_with};
pub use maps::{HeldOutMaps, Maps, own_maps};
pub use observe::{Observer, Progress, Watching};
pub use open::{NormalData, QueryData, Reading, TestData, TrainingData};
pub use prepared::Prepared;
pub use queries::{Answer, Answers, MapOutputs, Queries, SeriesAnswer};
pub use recommend::{Candidate, Recommendation, Tried, TriedControl, recommend};
pub use rows::{RowCounts, RowQueries, RowTests, Rows, held_out_row_scores, open_table, row_scores};
pub use samples::{InMemory, Samples};
pub use series::{
    Alarm, BASELINES, Baseline, PointAssessment, PointTruths, Series, SeriesQueries, SeriesTests, alarm_rule,
    alarms, baseline_scores, open_series, open_to_score, point_scores,
};
#[cfg(feature = "report")]
pub use series::{SeriesComparison, SeriesMetrics, SeriesRow};
pub use settings::{CheckedSettings, Settings};
pub use shard::{Listed, Merged, Scoring, Shard, ShardHead, merge, write_shard};
pub use tiles::{FoundByTiles, SeeRow, TileScorer, tiling};
