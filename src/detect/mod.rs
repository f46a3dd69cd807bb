//! Detectors: trained systems with preprocessing, calibration and threshold. Every door of the program
//! (command line, library, service) stands on this layer.
//!
//! A [`Detector`] is trained from [`Samples`] or read from a model file, and gives a [`Verdict`] on each
//! sample. The threshold follows from held-out normal samples alone (split conformal prediction): of new
//! normal samples at most the share that was asked for is flagged. Nothing here prints, and nothing reads the
//! environment; what goes on is told to an [`Observer`].

mod apply;
mod assess;
mod baselines;
mod builder;
mod calibrate;
mod detector;
mod error;
mod images;
mod job;
mod observe;
mod rows;
mod samples;
mod series;
mod settings;

pub use apply::{Applied, Each, Selection, no_image, score_selection};
pub use assess::{Assessment, See, TestSet, assess, balanced, check_limit, losses};
pub use baselines::{BASELINES, Baseline, scored as baseline_scores};
pub use builder::TrainingBuilder;
pub use calibrate::{FALSE_ALARM_RATE, POINT_FALSE_ALARM_RATE, calibrate, calibration, own, own_threshold};
pub use detector::{Detector, Evaluated, Query, Verdict};
pub use error::DetectError;
pub use images::{Images, options_of};
pub use job::{Job, Trained, checkpoint_path};
pub use observe::{Observer, Progress, Watching};
pub use rows::{Rows, held_out_row_scores, open_table, row_scores};
pub use samples::{InMemory, Samples};
pub use series::{Alarm, PointTruths, Series, alarm_rule, alarms, open_series, open_to_score, point_scores};
pub use settings::{CheckedSettings, Settings};
