//! `data`: built-in generators, checks, patches, conversion, previews of augmentation and manifests.

mod augment;
mod defects;
mod manifest;

use std::path::PathBuf;

use ganomede_datasets::{
    CsvInfo, Dataset, DatasetInfo, Findings, OpenOptions, Place, Preprocess, Reads, SignalOptions, SignalSet,
    Split, SplitInfo, Truth, Written, csv_info, extract_patches, info, signal, write_mvtec, write_signal,
};
use ganomede_host::line;
use serde::Serialize;

use crate::shared::args::{Global, parse_window};
use crate::shared::findings::{report_all, report_masks, report_rejected, report_skipped};
use crate::shared::table::TextTable;
use crate::shared::{CliError, say, say_json, shown};

/// Generate, check, cut and convert data sets.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede data synth retina --out scans --train 200 --test 50\n  \
    ganomede data info scans --all\n  ganomede data patches slides/ --out patches --count 5000 --patch 64\n  \
    ganomede data convert mnist/ --normal-class 3 --out threes\n  \
    ganomede data augment scans --augment flip,rotate:10,noise:0.05 --preview preview.png\n  \
    ganomede data defects scans --preview defects.png\n  \
    ganomede data manifest scans --out scans.json --strict")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Write a built-in generator's images, with masks, in MVTec layout; telemetry as CSV with labels.
    #[command(after_help = "Example:\n  ganomede data synth retina --out scans --train 200 --test 50")]
    Synth(Synth),
    /// Count, measure and check what a data set holds.
    #[command(after_help = "Example:\n  ganomede data info parts/ --all")]
    Info(InfoArgs),
    /// Cut random square patches out of the training images, into a flat folder.
    #[command(after_help = "Example:\n  ganomede data patches slides/ --out patches --count 5000 --patch 64")]
    Patches(Patches),
    /// Write any data set as PNG files in MVTec layout.
    #[command(after_help = "Example:\n  ganomede data convert mnist/ --normal-class 3 --out threes")]
    Convert(Convert),
    /// Draw training images beside what augmentation makes of them.
    #[command(
        after_help = "Example:\n  ganomede data augment parts/ --augment flip,rotate:10 --preview preview.png"
    )]
    Augment(augment::Args),
    /// Draw synthetic defects on training images, with the mask of what changed: what `train` and `recommend`
    /// check models with.
    #[command(after_help = "Example:\n  ganomede data defects parts/ --preview defects.png")]
    Defects(defects::Args),
    /// List every file with its hash, and the test images that are training images as well.
    #[command(after_help = "Example:\n  ganomede data manifest parts/ --out parts.json --strict")]
    Manifest(manifest::Args),
}

/// The data set that a command reads.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = true)]
struct Given {
    /// A folder with all below it (MVTec, BTAD, VisA, Kolektor, a folder for each class, or any), a pattern,
    /// a list (CSV with a column path), an IDX, CIFAR-10 or NPZ set, or builtin:retina, concrete, casting,
    /// digits; or several of these.
    #[arg(value_name = "D")]
    place: Vec<String>,
    /// The same, as the other commands take it.
    #[arg(long, value_name = "D")]
    data: Vec<String>,
    /// Images named in a CSV file with the column path, and if you like label, split and mask.
    #[arg(long, value_name = "F.csv")]
    list: Vec<String>,
}

impl Given {
    fn all(&self) -> Vec<&str> {
        [&self.place, &self.data, &self.list].into_iter().flatten().map(String::as_str).collect()
    }

    fn spec(&self) -> &str {
        self.all().first().copied().unwrap_or_default()
    }

    fn reads(&self) -> Reads {
        self.all().into_iter().fold(Reads::new(), Reads::data)
    }
}

/// How sets are split and bad files treated.
#[derive(Debug, Clone, clap::Args)]
struct Choice {
    /// Normal classes of labelled sets, and names of the folders or labels of normal images; the others are
    /// anomalous [default of folders: good, ok or normal].
    #[arg(long, visible_alias = "normal", value_name = "K", num_args = 1.., value_delimiter = ',')]
    normal_class: Vec<String>,
    /// Anomalous classes, likewise; the others are normal.
    #[arg(long, value_name = "K", num_args = 1.., value_delimiter = ',')]
    anomalous_class: Vec<String>,
    /// Folder of the masks of the images, if not where their layout has them.
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    /// How masks are named, without extension, * for the name of the image [default: *_mask, *_gt, *_label,
    /// *_ground_truth or *].
    #[arg(long, value_name = "PATTERN")]
    mask_name: Option<String>,
    /// Make a file that cannot be read an error instead of skipping it, and a test image that is trained on.
    #[arg(long)]
    strict: bool,
    /// Bits that the samples of 16-bit images really use, such as 12 [default: all 16].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16))]
    bits: Option<u32>,
    /// Window through which DICOM images are seen, in their rescaled values, for example 40,400 [default:
    /// that of each file, else all that its bits can hold].
    #[arg(long, value_name = "CENTRE,WIDTH", value_parser = parse_window, allow_hyphen_values = true)]
    window: Option<[f64; 2]>,
}

impl Choice {
    fn open(&self, given: &Given, options: OpenOptions) -> Result<Dataset, CliError> {
        let options = OpenOptions {
            normal_classes: self.normal_class.clone(),
            anomalous_classes: self.anomalous_class.clone(),
            masks: self.masks.clone(),
            mask_name: self.mask_name.clone(),
            strict: self.strict,
            bits: self.bits,
            window: self.window,
            ..options
        };
        Ok(Dataset::open_all(&given.all(), &options)?)
    }
}

#[derive(Debug, Clone, clap::Args)]
struct Synth {
    /// Which generator: retina, concrete, casting, digits or telemetry.
    #[arg(value_name = "NAME", default_value = "retina")]
    name: String,
    /// Folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Normal images for training [default: 200; telemetry: 8064 rows, 28 days].
    #[arg(long, value_name = "N")]
    train: Option<usize>,
    /// Test images, half of them anomalous [default: 50; telemetry: 4032 rows, 14 days].
    #[arg(long, value_name = "N")]
    test: Option<usize>,
    /// Side of the square images in pixels [default: 64].
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
}

#[derive(Debug, Clone, clap::Args)]
struct InfoArgs {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    choice: Choice,
    /// Decode every image, which finds all that cannot be used; otherwise 64 of each split.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct Patches {
    #[command(flatten)]
    given: Given,
    /// Folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Patches in all.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Side of a patch in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    patch: usize,
    /// First shift the columns of each image so that its brightest layer lies level (OCT scans).
    #[arg(long)]
    flatten: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct Convert {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    choice: Choice,
    /// Folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training images at most [default: all].
    #[arg(long, value_name = "N")]
    train: Option<usize>,
    /// Test images at most [default: all].
    #[arg(long, value_name = "N")]
    test: Option<usize>,
    /// Shift the columns of each image and mask so that its brightest layer lies level (OCT scans).
    #[arg(long)]
    flatten: bool,
}

/// What `synth`, `patches` and `convert` say.
#[derive(Debug, Serialize)]
struct Summary {
    source: String,
    out: PathBuf,
    #[serde(flatten)]
    written: Written,
    #[serde(flatten)]
    findings: Findings,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let summary = match &args.what {
        What::Info(args) => return show(args, global),
        What::Augment(args) => return augment::run(args, global),
        What::Defects(args) => return defects::run(args, global),
        What::Manifest(args) => return manifest::run(args, global),
        What::Synth(args) if args.name == "telemetry" => return telemetry(args, global),
        What::Synth(args) => synth(args, global)?,
        What::Patches(args) => {
            if args.given.all().len() > 1 {
                return Err(CliError::input("patches are cut from one place; give one"));
            }
            let source = args.given.spec().to_owned();
            let (written, findings) =
                extract_patches(&source, &args.out, args.count, args.patch, global.seed, args.flatten)?;
            Summary { source, out: args.out.clone(), written, findings }
        }
        What::Convert(args) => {
            let options = OpenOptions { flatten: args.flatten, ..OpenOptions::default() };
            let dataset = args.choice.open(&args.given, options)?;
            let most = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
            written(&dataset, &args.out, most(args.train), most(args.test))?
        }
    };
    report_rejected(&summary.findings.rejected);
    report_skipped(&summary.findings);
    report_masks(&summary.findings);
    if global.json {
        return say_json(&summary);
    }
    let Written { train, test, masks } = summary.written;
    let place = shown(&summary.out);
    say(&match &args.what {
        What::Patches(_) => format!("{train} patches in {place}"),
        _ => format!("{train} training images, {test} test images and {masks} masks in {place}"),
    })
}

fn synth(args: &Synth, global: &Global) -> Result<Summary, CliError> {
    let (train, test) = (args.train.unwrap_or(200), args.test.unwrap_or(50));
    let spec = format!("builtin:{}:train={train},test={test},seed={}", args.name, global.seed);
    let preprocess = Preprocess::new(args.size.unwrap_or(64));
    let dataset = Dataset::open(&spec, &OpenOptions { preprocess, ..OpenOptions::default() })?;
    written(&dataset, &args.out, train, test)
}

fn telemetry(args: &Synth, global: &Global) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Summary<'a> {
        source: &'a str,
        out: &'a std::path::Path,
        #[serde(flatten)]
        written: signal::SignalWritten,
    }
    if args.size.is_some() {
        return Err(CliError::input(
            "--size is for images; telemetry has none, give --train and --test in rows",
        ));
    }
    let counts = [("train", args.train), ("test", args.test)];
    let counts = counts.iter().filter_map(|(name, n)| n.map(|n| format!("{name}={n},")));
    let spec = format!("builtin:telemetry:{}seed={}", counts.collect::<String>(), global.seed);
    let set = SignalSet::open(&spec, &SignalOptions::default())?;
    let written = write_signal(&set, &args.out)?;
    if global.json {
        return say_json(&Summary { source: &spec, out: &args.out, written });
    }
    let signal::SignalWritten { train, test, intervals } = written;
    say(&format!("{train} training rows, {test} test rows and {intervals} faults in {}", shown(&args.out)))
}

fn written(dataset: &Dataset, out: &std::path::Path, train: usize, test: usize) -> Result<Summary, CliError> {
    let written = write_mvtec(dataset, out, train, test)?;
    Ok(Summary {
        source: dataset.spec().to_owned(),
        out: out.to_owned(),
        written,
        findings: dataset.findings(),
    })
}

fn show(args: &InfoArgs, global: &Global) -> Result<(), CliError> {
    if let [place] = args.given.all()[..]
        && let Some(info) = csv_info(place.as_ref())?
    {
        return if global.json { say_json(&info) } else { say(&csv_text(place, &info)) };
    }
    let info = info(&args.choice.open(&args.given, OpenOptions::default())?, args.all)?;
    if global.json {
        return say_json(&info);
    }
    say(&text(&info))?;
    report_all(&info.findings);
    Ok(())
}

fn text(info: &DatasetInfo) -> String {
    let why = if info.why.is_empty() { String::new() } else { format!(" ({})", line(&info.why)) };
    let mut parts = vec![format!("{}: {}{why}", line(&info.spec), info.layout)];
    parts.extend(info.splits.iter().map(split_text));
    if info.places.len() > 1 {
        parts.push(places_text(&info.places));
    }
    parts.join("\n\n")
}

/// Columns that are listed, at most.
const COLUMNS: usize = 200;

fn csv_text(place: &str, info: &CsvInfo) -> String {
    let mut table =
        TextTable::new(&["  column", ">numbers", ">missing", ">texts", ">distinct", ">least", ">most"]);
    for column in info.columns.iter().take(COLUMNS) {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
        let distinct = column.distinct.map_or("many".to_owned(), |count| count.to_string());
        table.row([
            format!("  {}", column.name),
            column.numbers.to_string(),
            column.missing.to_string(),
            column.texts.to_string(),
            distinct,
            number(column.least),
            number(column.most),
        ]);
    }
    let more = match info.columns.len().saturating_sub(COLUMNS) {
        0 => String::new(),
        more => format!("\n  … and {more} more"),
    };
    let header = if info.has_header { "the first row names them" } else { "without names" };
    let label = info
        .label
        .as_ref()
        .map_or(String::new(), |name| format!("; labels may be those of `{}`", line(name)));
    format!(
        "{}: {} rows of {} columns, {header}{label}\n{}{more}\nfor `--table` (rows) or `--signal` (a series) of the other \
         commands; a list of images has a column `path`",
        line(place),
        info.rows,
        info.columns.len(),
        table.text()
    )
}

/// Folders that are listed, at most.
const PLACES: usize = 40;

fn places_text(places: &[Place]) -> String {
    let mut table = TextTable::new(&["  folder", "split", "class", ">images"]);
    for place in places.iter().take(PLACES) {
        let split = place.split.map_or("both", Split::name);
        let class = if place.class.is_empty() { "(none)" } else { &place.class };
        let folder = format!("  {}", place.folder);
        table.row([folder, split.to_owned(), class.to_owned(), place.images.to_string()]);
    }
    let more = match places.len().saturating_sub(PLACES) {
        0 => String::new(),
        more => format!("\n  … and {more} more"),
    };
    format!("found in:\n{}{more}", table.text())
}

fn split_text(split: &SplitInfo) -> String {
    let name = if split.split == Split::Train { "training" } else { "test" };
    if split.count == 0 {
        return format!("{name}: no images");
    }
    let mut classes = TextTable::new(&["  class", "truth", ">images"]);
    for class in &split.classes {
        let truth = match class.truth {
            Truth::Normal => "normal",
            Truth::Anomalous => "anomalous",
            Truth::Unknown => "unknown",
        };
        let label = if class.class.is_empty() { "(none)" } else { &class.class };
        classes.row([format!("  {label}"), truth.to_owned(), class.count.to_string()]);
    }
    let list = |items: Vec<(String, usize)>| {
        let (shown, more) = items.split_at(items.len().min(5));
        let mut words: Vec<_> = shown.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        if !more.is_empty() {
            words.push(format!("and {} more", more.len()));
        }
        words.join(", ")
    };
    let sizes = split.sizes.iter().map(|(size, &count)| (size.clone(), count)).collect();
    let colours = split.colour_types.iter().map(|(colour, &count)| ((*colour).to_owned(), count)).collect();
    format!(
        "{name}: {} images, digest {}\n{}\n  of {} decoded: sizes {}; colours {}; {} with a mask",
        split.count,
        &split.digest[..split.digest.len().min(16)],
        classes.text(),
        split.decoded,
        list(sizes),
        list(colours),
        split.masks,
    )
}
