//! The groups in which the help shows arguments: one table for all commands.

use clap::Command;

/// Headings in their order, each with the names of its arguments.
const GROUPS: [(&str, &[&str]); 8] = [
    (
        "Data",
        &[
            "data",
            "list",
            "normal",
            "masks",
            "mask_name",
            "normal_class",
            "anomalous_class",
            "group",
            "strict",
            "limit_test",
            "split",
        ],
    ),
    (
        "Images",
        &[
            "size",
            "channels",
            "fit",
            "window",
            "centre_crop",
            "flatten",
            "standardise",
            "bits",
            "tile",
            "tiles_per_image",
            "augment",
        ],
    ),
    ("Series", &["signal", "train_part", "labels", "time_column", "columns", "stride"]),
    ("Tables", &["table", "header", "label_column", "train_fraction", "anomaly_share"]),
    ("Networks", &["width", "latent", "prior", "kernel", "options", "settings", "form"]),
    (
        "Training",
        &[
            "epochs",
            "steps",
            "minutes",
            "lr",
            "lr_schedule",
            "ema",
            "batch_norm_pass",
            "batch",
            "accumulate",
            "sync_bn",
            "val_fraction",
            "textures",
            "checkpoint_every",
            "keep_every",
            "resume",
            "seeds",
            "half_checkpoints",
        ],
    ),
    (
        "Scoring",
        &[
            "score",
            "watch",
            "shard",
            "search_steps",
            "restarts",
            "lambda",
            "search_lr",
            "search_tolerance",
            "clip_z",
            "refine",
            "false_alarm_rate",
            "tile_step",
            "tile_score",
            "map_smooth",
            "map_relative",
            "map_false_alarm_rate",
        ],
    ),
    (
        "Output",
        &[
            "out",
            "half",
            "samples",
            "log",
            "report",
            "maps",
            "maps_raw",
            "maps_mask",
            "panels",
            "timeline",
            "film",
            "stages",
            "markdown",
            "section",
        ],
    ),
];
/// Commands with so many arguments that they are shown in groups.
const GROUPED: [&str; 7] = ["train", "eval", "score", "export", "compare", "recommend", "search"];

/// The command with its arguments in groups, those of one group side by side.
pub(crate) fn grouped(command: Command) -> Command {
    GROUPED.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| {
            sub.mut_args(|arg| {
                let is_positional = arg.is_positional();
                let place = GROUPS.iter().position(|(_, names)| names.contains(&arg.get_id().as_str()));
                match place.filter(|_| !is_positional) {
                    Some(place) => arg.help_heading(GROUPS[place].0),
                    None => arg,
                }
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_argument_of_a_training_has_a_group() {
        let command = grouped(crate::Cli::command());
        let train = command.find_subcommand("train").unwrap();
        let loose: Vec<_> = train
            .get_arguments()
            .filter(|arg| !arg.is_positional() && arg.get_help_heading().is_none())
            .map(|arg| arg.get_id().to_string())
            .filter(|name| name != "help")
            .collect();
        assert!(loose.is_empty(), "in no group: {loose:?}; add them to GROUPS");
    }
}
