//! `data augment --preview`: what augmentation makes of the training images, before a training is spent on
//! it.

use std::path::PathBuf;

use ganomede_datasets::{Augment, Channels, DataError, Image, OpenOptions, Preprocess, Size, Split};
use ganomede_host::interrupt;
use serde::Serialize;

use super::{Choice, Given};
use crate::shared::args::{ChannelsArg, FitArg, Global};
use crate::shared::session::check_file;
use crate::shared::{CliError, say, say_json, shown};
use ganomede::report::{image_grid, save_png_atomic};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    choice: Choice,
    /// Changes, for example flip,vflip,rotate:10,shift:0.1,brightness:0.2,contrast:0.2,noise:0.05.
    #[arg(long, value_name = "LIST")]
    augment: String,
    /// PNG to write: a row an image, the original at the left.
    #[arg(long, value_name = "F.png")]
    preview: PathBuf,
    /// Images, spread over the training split.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    images: u64,
    /// Augmented versions of each.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=63))]
    versions: u64,
    /// Size of the images: 64 is a square, 96x64 has the width first.
    #[arg(long, value_name = "WxH", default_value_t = Size::square(64))]
    size: Size,
    /// How images of other proportions come to the size, as in a training.
    #[arg(long, value_enum, default_value = "stretch")]
    fit: FitArg,
    /// Gray or colour.
    #[arg(long, value_enum, default_value = "gray")]
    channels: ChannelsArg,
}

#[derive(Serialize)]
struct Summary<'a> {
    preview: &'a std::path::Path,
    augment: &'a str,
    ids: Vec<String>,
    versions: u64,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let augment: Augment = args.augment.parse()?;
    if augment.is_none() {
        return Err(CliError::input("--augment names no change; give for example flip,rotate:10,noise:0.05"));
    }
    check_file(&args.preview, &args.given.reads())?;
    let channels: Channels = args.channels.into();
    let preprocess = Preprocess { channels, fit: args.fit.into(), ..Preprocess::new(args.size) };
    let data = args.choice.open(&args.given, OpenOptions { preprocess, ..OpenOptions::default() })?;
    let (count, wanted) = (data.len(Split::Train), args.images as usize);
    if count == 0 {
        return Err(CliError::input(format!(
            "{} has no training image; there is nothing to augment",
            data.spec()
        )));
    }
    let rows = wanted.min(count);
    let (mut pixels, mut ids) = (Vec::new(), Vec::new());
    let mut put = |image: Image| pixels.extend(image.pixels);
    for row in 0..rows {
        interrupt::check().map_err(DataError::from)?;
        let sample = data.load(Split::Train, row * count / rows)?;
        // Each row draws its own changes, the same for the same --seed.
        let version = |k: u64| augment.version(&sample.image, global.seed, row as u64 * args.versions + k);
        let versions: Vec<_> = (0..args.versions).map(version).collect();
        put(sample.image);
        versions.into_iter().for_each(&mut put);
        ids.push(sample.id);
    }
    let columns = args.versions as usize + 1;
    let grid = image_grid(&pixels, rows * columns, channels.count(), args.size.extent(), columns)?;
    save_png_atomic(&args.preview, &grid)?;
    let summary = Summary { preview: &args.preview, augment: &args.augment, ids, versions: args.versions };
    if global.json {
        return say_json(&summary);
    }
    say(&format!("{rows} images, each with {} versions, in {}", args.versions, shown(&args.preview)))
}
