//! The arithmetic of anomaly maps: smoothing, enlarging to the size of an image, stitching of tiles, and what
//! is found in them: levels of normal pixels, and connected regions.
//!
//! Maps go row by row from one stage to the next, so that an image of any height takes the memory of a few
//! rows. A stage is given rows in order and hands its own to a function, which may refuse.
//!
//! ```
//! use ganomede::maps::{Regions, Smooth};
//!
//! let (mut smooth, mut regions) = (Smooth::new(5, 1.0), Regions::new(5, 0.1));
//! let mut see = |row: &[f32]| {
//!     regions.row(row);
//!     Ok::<(), ()>(())
//! };
//! for y in 0..5 {
//!     let row: Vec<f32> = (0..5).map(|x| if (x, y) == (2, 3) { 1.0 } else { 0.0 }).collect();
//!     smooth.push(&row, &mut see)?;
//! }
//! smooth.finish(&mut see)?;
//! let (found, _) = regions.finish();
//! assert_eq!((found.len(), found[0].at), (1, [2, 3]));
//! # Ok::<(), ()>(())
//! ```

mod enlarge;
mod levels;
mod regions;
mod smooth;
mod stitch;

pub use enlarge::{View, enlarge};
pub use levels::{Levels, MAP_FALSE_ALARM_RATE, Pixels, Place};
pub use regions::{Region, Regions};
pub use smooth::{Smooth, smoothed};
#[cfg(feature = "onnx")]
pub(crate) use smooth::{kernel, mirrored};
pub use stitch::{Grid, Stitch};
