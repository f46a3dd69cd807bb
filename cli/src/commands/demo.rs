//! `demo`: the main job end to end on built-in data.

use std::path::PathBuf;

use ganomede::train::Team;
use ganomede_datasets::{Reads, Size};

use crate::commands::{eval, train};
use crate::shared::args::{
    ChannelsArg, DataArgs, FitArg, Global, ModelArg, PreprocessArgs, RecipeArgs, SearchArgs,
};
use crate::shared::programs::ChosenSystem;
use crate::shared::samples::SampleArgs;
use crate::shared::session::check_report;
use crate::shared::{CliError, Interrupt, note, say, say_json, shown};

/// Train on built-in retina scans, search and score test scans, write report/report.html.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede demo --report report")]
pub(crate) struct Args {
    /// Folder for the model, the samples and report.html.
    #[arg(long, value_name = "DIR", default_value = "report")]
    report: PathBuf,
    /// Size of the images: 64 is a square, 96x64 has the width first.
    #[arg(long, value_name = "WxH", default_value_t = Size::square(64))]
    size: Size,
    /// Channels of the first feature maps.
    #[arg(long, default_value_t = 32)]
    width: usize,
    /// Training steps.
    #[arg(long, default_value_t = 900)]
    steps: u64,
    /// Gradient steps of each search.
    #[arg(long, default_value_t = 200)]
    search_steps: usize,
    /// Test images, half of them anomalous.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    test_images: u32,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    check_report(&args.report, &Reads::new())?;
    let device = global.open()?;
    note(&format!("demo on {}", device.describe()));
    let data = DataArgs {
        data: format!("builtin:retina:train=2000,test={}", args.test_images).into(),
        ..DataArgs::default()
    };
    let search = SearchArgs { search_steps: Some(args.search_steps), ..SearchArgs::default() };
    let model = args.report.join("retina.safetensors");
    let training = train::Args {
        system: ChosenSystem::USUAL,
        data: data.clone(),
        preprocess: PreprocessArgs {
            size: args.size,
            channels: ChannelsArg::Gray,
            fit: FitArg::Stretch,
            centre_crop: false,
            window: None,
            flatten: false,
            standardise: false,
            bits: None,
            tile: None,
            tiles_per_image: None,
            augment: String::new(),
        },
        out: model.clone(),
        width: args.width,
        latent: None,
        prior: None,
        kernel: 4,
        options: vec![],
        batch: None,
        epochs: None,
        steps: Some(args.steps),
        minutes: None,
        lr: None,
        accumulate: 1,
        sync_bn: false,
        team: Team::default(),
        recipe: RecipeArgs::default(),
        val_fraction: 0.05,
        textures: None,
        checkpoint_every: 0,
        keep_every: 0,
        resume: false,
        can_resume: false,
        half: false,
        half_checkpoints: false,
        samples: Some(args.report.join("samples")),
        log: None,
        samples_from: SampleArgs::default(),
        search: search.clone(),
    };
    train::train_model(&training, global, &device, interrupt)?;
    let evaluation = eval::Args {
        model: ModelArg { model },
        data,
        report: Some(args.report.clone()),
        batch: 64,
        limit_test: None,
        false_alarm_rate: None,
        panels: 3,
        timeline: Some(args.report.join("samples")),
        seeds: 1,
        samples: SampleArgs::default(),
        search,
    };
    let eval::Evaluated { assessment, page } = eval::evaluate(&evaluation, global, &device, interrupt)?;
    if global.json {
        return say_json(&assessment.samples().map(|samples| &samples.evaluation));
    }
    say(&assessment.summary())?;
    page.map_or(Ok(()), |page| say(&format!("report: {}", shown(&page))))
}
