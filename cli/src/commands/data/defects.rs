//! `data defects`: what synthetic defects look like on the images of a set.

use std::path::PathBuf;

use ganomede::report::{image_grid, save_png_atomic};
use ganomede_datasets::memory::Held;
use ganomede_datasets::{Channels, DataError, Image, OpenOptions, Preprocess, Rng, Size, Split, defects};
use ganomede_host::interrupt;
use serde::Serialize;

use super::{Choice, Given};
use crate::shared::args::{ChannelsArg, Global};
use crate::shared::session::check_file;
use crate::shared::{CliError, say, say_json, shown};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    choice: Choice,
    /// PNG to write: a row of normal images, then a row for each kind of defect; beside each image the mask
    /// of what changed.
    #[arg(long, value_name = "F.png")]
    preview: PathBuf,
    /// Images, spread over the training split.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=32))]
    images: u64,
    /// Size of the images: 64 is a square, 96x64 has the width first.
    #[arg(long, value_name = "WxH", default_value_t = Size::square(64))]
    size: Size,
    /// Gray or colour.
    #[arg(long, value_enum, default_value = "gray")]
    channels: ChannelsArg,
}

#[derive(Serialize)]
struct Summary<'a> {
    preview: &'a std::path::Path,
    kinds: Vec<&'static str>,
    ids: Vec<String>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    check_file(&args.preview, &args.given.reads())?;
    let channels: Channels = args.channels.into();
    let preprocess = Preprocess { channels, ..Preprocess::new(args.size) };
    let data = args.choice.open(&args.given, OpenOptions { preprocess, ..OpenOptions::default() })?;
    let (count, wanted) = (data.len(Split::Train), args.images as usize);
    if count == 0 {
        return Err(CliError::input(format!(
            "{} has no training image; there is nothing to draw defects on",
            data.spec()
        )));
    }
    let columns = wanted.min(count);
    let kinds: Vec<&str> = defects::KINDS.iter().map(|kind| kind.name).collect();
    let cells = (kinds.len() + 1) * 2 * columns;
    let [height, width] = args.size.extent();
    let held = Held::default();
    // Values of all cells and of the images.
    let bytes = 4 * (channels.count() * height * width * (cells + columns)) as u64;
    held.grow(bytes).map_err(|short| CliError::input(format!("the picture {short}")))?;
    let (mut images, mut ids) = (vec![], vec![]);
    for column in 0..columns {
        let sample = data.load(Split::Train, column * count / columns)?;
        ids.push(sample.id);
        images.push(sample.image);
    }
    let mut pixels: Vec<f32> = vec![];
    let mut put = |image: &Image, mask: &[bool]| {
        pixels.extend(&image.pixels);
        let white = |_| mask.iter().map(|&here| if here { 1.0 } else { -1.0 });
        pixels.extend((0..image.channels).flat_map(white));
    };
    images.iter().for_each(|image| put(image, &vec![false; image.height * image.width]));
    for (number, kind) in defects::KINDS.iter().enumerate() {
        for (column, image) in images.iter().enumerate() {
            interrupt::check().map_err(DataError::from)?;
            let source = &images[(column + 1) % columns];
            let mut rng = Rng::new(&[global.seed, number as u64, column as u64]);
            let defect = defects::draw(kind, image, source, &mut rng);
            put(&defect.image, &defect.mask.pixels);
        }
    }
    let grid = image_grid(&pixels, cells, channels.count(), args.size.extent(), 2 * columns)?;
    save_png_atomic(&args.preview, &grid)?;
    if global.json {
        return say_json(&Summary { preview: &args.preview, kinds, ids });
    }
    say(&format!("{columns} images with defects ({}), in {}", kinds.join(", "), shown(&args.preview)))
}
