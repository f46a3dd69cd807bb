//! Data sets of Ganomede: folders, labelled sets and built-in generators behind one type, decoded on demand
//! and delivered in reproducible batches. Plain images; no tensors.
//!
//! ```
//! use std::sync::Arc;
//! use ganomede_datasets::{BatchOptions, Batches, Dataset, OpenOptions, Split};
//!
//! let data = Arc::new(Dataset::open("builtin:retina:train=100,test=20", &OpenOptions::default())?);
//! let (train, validation) = data.holdout(0.1, 0)?;
//! assert_eq!((train.len(), validation.len()), (90, 10));
//! let options = BatchOptions { batch: 32, shuffle: true, ..BatchOptions::default() };
//! for batch in Batches::new(data, Split::Train, train, options)? {
//!     let batch = batch?;
//!     assert_eq!(batch.images.len(), batch.len() * 64 * 64);
//! }
//! # Ok::<(), ganomede_datasets::DataError>(())
//! ```

mod augment;
mod batches;
mod csv_file;
mod csv_info;
mod dataset;
mod decode;
pub mod defects;
mod dicom;
mod error;
pub mod files;
mod flatten;
mod groups;
mod indices;
mod info;
mod manifest;
pub mod memory;
mod ordered;
mod output;
mod patches;
mod pixels;
mod preprocess;
mod reads;
mod rng;
pub mod signal;
mod single;
mod size;
mod source;
mod synth;
pub mod table;
mod tiff;
mod tiles;
mod write;

pub use augment::Augment;
pub use batches::{Batch, BatchOptions, Batches};
pub use csv_info::{CsvColumn, CsvInfo, csv_info};
pub use dataset::{Dataset, Findings, OpenOptions, Sample};
pub use decode::has_image_name;
pub use error::DataError;
pub use groups::{GroupRule, Groups, SuggestedGroups};
pub use indices::Indices;
pub use info::{ClassInfo, DatasetInfo, SplitInfo, info};
pub use manifest::{Manifest, ManifestFile, Overlap};
pub use patches::PatchOptions;
pub use pixels::{Image, Mask};
pub use preprocess::{Channels, Fit, Frame, Preprocess, Window};
pub use reads::Reads;
pub use rng::Rng;
pub use signal::{Interval, SignalOptions, SignalSet, Standardize, TrainPart, Warp, Windows, write_signal};
pub use single::{decode_image, prepare_image};
pub use size::{Size, SizeError};
pub use source::{Entry, MaskReport, Place, Rejected, Split, Truth};
pub use table::{FAR, MinMax, Schema, Table, TableOptions, Trained};
pub use tiles::{TileBatches, TileOptions, WholeImage};
pub use write::{Written, extract_patches, write_mvtec};
