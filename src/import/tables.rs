//! Tables of names: where the published repositories have what our layers hold.

use ganomede_datasets::{Fit, Size};

use super::published::{Found, Layout, Names, Network, Plan, Row, Table};
use crate::models::{Config, Prior};

/// All that are known.
pub(super) const ALL: [Table; 5] = [
    Table {
        system: "ganomaly",
        repository: "samet-akcay/ganomaly",
        networks: &[
            Network { file: "netG.pth", is: |names| begins(names, "encoder1.main."), without: "" },
            Network {
                file: "netD.pth",
                is: |names| begins(names, "features.0."),
                without: "the discriminator is as before training; no score of ganomaly asks it",
            },
        ],
        plan: ganomaly,
    },
    Table {
        system: "skip-ganomaly",
        repository: "samet-akcay/skip-ganomaly",
        networks: &[
            Network { file: "netG.pth", is: |names| begins(names, "model.model."), without: "" },
            Network { file: "netD.pth", is: |names| begins(names, "feat."), without: "" },
        ],
        plan: skip_ganomaly,
    },
    Table {
        system: "f-anogan",
        repository: "dbbbbm/f-AnoGAN-PyTorch",
        networks: &[
            Network { file: "netG.pth", is: |names| begins(names, "bn."), without: "" },
            Network { file: "netE.pth", is: |names| begins(names, "conv_in."), without: "" },
            Network { file: "netD.pth", is: |names| begins(names, "rb1."), without: "" },
        ],
        plan: f_anogan,
    },
    Table {
        system: "f-anogan",
        repository: "A03ki/f-AnoGAN",
        networks: &[
            Network { file: "generator", is: |names| begins(names, "conv_blocks."), without: "" },
            Network { file: "encoder", is: |names| outputs(names).is_some_and(|n| n != 1), without: "" },
            Network { file: "discriminator", is: |names| outputs(names) == Some(1), without: "" },
        ],
        plan: f_anogan_resize,
    },
    Table {
        system: "deep-svdd",
        repository: "lukasruff/Deep-SVDD-PyTorch",
        networks: &[Network { file: "model.tar", is: |names| begins(names, "conv1."), without: "" }],
        plan: deep_svdd,
    },
];

fn begins(names: &Names, beginning: &str) -> bool {
    names.iter().any(|(name, _)| name.starts_with(beginning))
}

/// Outputs of the head that A03ki's critic and encoder share.
fn outputs(names: &Names) -> Option<usize> {
    let (_, shape) = names.iter().find(|(name, _)| name == "adv_layer.0.weight")?;
    shape.first().copied()
}

/// A word about networks of other ports that people have.
pub(super) fn known_others(system: &str, names: &Names) -> &'static str {
    let is_dense = |(name, shape): &(String, Vec<usize>)| name == "model.0.weight" && shape.len() == 2;
    if begins(names, "last_layer.") || names.iter().any(is_dense) {
        "; A03ki/f-AnoGAN's networks of its folder mnist are dense, and no network of f-anogan here is: train it with \
         `ganomede train f-anogan`"
    } else if system != "f-anogan" && (begins(names, "conv_blocks.") || outputs(names).is_some()) {
        "; those of A03ki/f-AnoGAN are read with --system f-anogan"
    } else {
        ""
    }
}

/// Rows of a norm over a batch.
fn norm(rows: &mut Vec<Row>, network: usize, ours: &str, theirs: &str, is_affine: bool) {
    let parts: &[&str] = match is_affine {
        true => &["weight", "bias", "running_mean", "running_var"],
        false => &["running_mean", "running_var"],
    };
    for part in parts {
        rows.push(row(network, format!("{ours}.{part}"), format!("{theirs}.{part}")));
    }
}

fn row(network: usize, ours: impl Into<String>, theirs: impl Into<String>) -> Row {
    Row { ours: ours.into(), network, theirs: theirs.into(), layout: Layout::Same }
}

/// Sizes of networks whose convolutions halve an image down to 4×4.
fn sizes(levels: usize, channels: usize, width: usize, latent: usize) -> Config {
    let side = 4usize.checked_shl(levels as u32).unwrap_or(usize::MAX);
    Config { size: Size::square(side), channels, width, latent, prior: Prior::Normal, ..Config::default() }
}

/// How many convolutions follow the first, in a network whose names count their channels.
fn pyramids(found: &Found<'_>, network: usize, prefix: &str, width: usize) -> usize {
    let name = |i: usize| {
        let from = width.checked_shl(i as u32)?;
        Some(format!("{prefix}pyramid-{from}-{}-conv.weight", from.checked_mul(2)?))
    };
    (0..16).take_while(|&i| name(i).is_some_and(|name| found.shape(network, &name).is_some())).count()
}

/// Channels and width by the first convolution, whose name has them too.
fn first(found: &Found<'_>, network: usize, prefix: &str) -> Result<[usize; 2], String> {
    let beginning = format!("{prefix}initial-conv-");
    let name = found.names[network].iter().map(|(name, _)| name).find(|name| name.starts_with(&beginning));
    let name = name.cloned().ok_or_else(|| format!("has no tensor '{beginning}…'"))?;
    let [width, channels, ..] = found.shape_of::<4>(network, &name)?;
    Ok([channels, width])
}

/// The encoder that GANomaly's networks share; its head is a convolution of all that is left.
fn encoder(
    rows: &mut Vec<Row>,
    network: usize,
    ours: &str,
    theirs: &str,
    [channels, width, levels]: [usize; 3],
) {
    let mut add = |ours: String, theirs: String| rows.push(row(network, ours, theirs));
    add(format!("{ours}.input.weight"), format!("{theirs}initial-conv-{channels}-{width}.weight"));
    let mut now = width;
    for level in 1..levels {
        add(format!("{ours}.down{level}.weight"), format!("{theirs}pyramid-{now}-{}-conv.weight", 2 * now));
        now *= 2;
    }
    add(format!("{ours}.output.weight"), format!("{theirs}final-{now}-1-conv.weight"));
    for level in 1..levels {
        norm(
            rows,
            network,
            &format!("{ours}.down{level}_bn"),
            &format!("{theirs}pyramid-{}-batchnorm", width << level),
            true,
        );
    }
}

fn ganomaly(found: &mut Found<'_>) -> Result<Plan, String> {
    let [channels, width] = first(found, 0, "encoder1.main.")?;
    let levels = 1 + pyramids(found, 0, "encoder1.main.", width);
    let top = width << (levels - 1);
    let [latent, ..] = found.shape_of::<4>(0, &format!("encoder1.main.final-{top}-1-conv.weight"))?;
    let mut rows = vec![];
    for name in ["encoder1", "encoder2"] {
        encoder(
            &mut rows,
            0,
            &format!("generator.{name}"),
            &format!("{name}.main."),
            [channels, width, levels],
        );
    }
    let (ours, theirs) = ("generator.decoder", "decoder.main.");
    let project =
        row(0, format!("{ours}.project.weight"), format!("{theirs}initial-{latent}-{top}-convt.weight"));
    rows.push(Row { layout: Layout::Turned, ..project });
    norm(&mut rows, 0, &format!("{ours}.project_bn"), &format!("{theirs}initial-{top}-batchnorm"), true);
    for up in 1..levels {
        let (from, to) = (top >> (up - 1), top >> up);
        rows.push(row(
            0,
            format!("{ours}.up{up}.weight"),
            format!("{theirs}pyramid-{from}-{to}-convt.weight"),
        ));
        norm(&mut rows, 0, &format!("{ours}.up{up}_bn"), &format!("{theirs}pyramid-{to}-batchnorm"), true);
    }
    rows.push(row(
        0,
        format!("{ours}.output.weight"),
        format!("{theirs}final-{width}-{channels}-convt.weight"),
    ));
    // A sequence of numbered layers: convolution, activation, then convolution, norm, activation.
    let ours = "discriminator";
    rows.push(row(1, format!("{ours}.input.weight"), "features.0.weight"));
    for level in 1..levels {
        let at = 3 * level - 1;
        rows.push(row(1, format!("{ours}.down{level}.weight"), format!("features.{at}.weight")));
        norm(&mut rows, 1, &format!("{ours}.down{level}_bn"), &format!("features.{}", at + 1), true);
    }
    rows.push(row(1, format!("{ours}.output.weight"), "classifier.0.weight"));
    let config = sizes(levels, channels, width, latent);
    Ok(Plan { config, options: cap(levels), fit: Fit::Crop, rows, values: vec![] })
}

/// What says that channels double at each of so many levels, where that is more than elsewhere here.
fn cap(levels: usize) -> Vec<(&'static str, String)> {
    let goes_on = levels > Config::DOUBLINGS + 1;
    goes_on.then(|| ("cap", "none".to_owned())).into_iter().collect()
}

/// Blocks of a U-Net lie within each other: level i is the fourth layer of level i − 1, the second of the
/// outermost.
fn skip_ganomaly(found: &mut Found<'_>) -> Result<Plan, String> {
    let [width, channels, ..] = found.shape_of::<4>(0, "model.model.0.weight")?;
    let level = |i: usize| match i {
        1 => "model.model".to_owned(),
        _ => format!("model.model.1.model{}", ".3.model".repeat(i - 2)),
    };
    let depth = (2..12).find(|&i| found.shape(0, &format!("{}.5.weight", level(i))).is_none()).unwrap_or(12);
    let mut rows = vec![];
    for i in 1..=depth {
        let (at, ours) = (level(i), "generator");
        let [down, up, norms] = match i {
            1 => [0, 3, 0],
            _ if i == depth => [1, 3, 4],
            _ => [1, 5, 6],
        };
        rows.push(row(0, format!("{ours}.down{i}.weight"), format!("{at}.{down}.weight")));
        rows.push(row(0, format!("{ours}.up{i}.weight"), format!("{at}.{up}.weight")));
        if i == 1 {
            rows.push(row(0, format!("{ours}.up1.bias"), format!("{at}.{up}.bias")));
        } else {
            norm(&mut rows, 0, &format!("{ours}.up{i}_bn"), &format!("{at}.{norms}"), true);
        }
        if 1 < i && i < depth {
            norm(&mut rows, 0, &format!("{ours}.down{i}_bn"), &format!("{at}.2"), true);
        }
    }
    let [_, of_d] = first(found, 1, "feat.")?;
    let levels = 1 + pyramids(found, 1, "feat.", of_d);
    let [latent, ..] =
        found.shape_of::<4>(1, &format!("feat.final-{}-1-conv.weight", of_d << (levels - 1)))?;
    encoder(&mut rows, 1, "discriminator.features", "feat.", [channels, of_d, levels]);
    let verdict = row(1, "discriminator.verdict.weight", "clas.classifier.weight");
    rows.push(Row { layout: Layout::Middle, ..verdict });
    let config = sizes(depth - 2, channels, width, latent);
    Ok(Plan { config, options: cap(levels), fit: Fit::Crop, rows, values: vec![] })
}

/// Rows of a weight and its bias.
fn both(rows: &mut Vec<Row>, network: usize, ours: String, theirs: String) {
    for part in ["weight", "bias"] {
        rows.push(row(network, format!("{ours}.{part}"), format!("{theirs}.{part}")));
    }
}

/// The resize-convolutions: layers numbered in one sequence, activations and dropout among them.
fn f_anogan_resize(found: &mut Found<'_>) -> Result<Plan, String> {
    let [features, latent] = found.shape_of::<2>(0, "l1.0.weight")?;
    let [top] = found.shape_of::<1>(0, "conv_blocks.0.weight")?;
    let [channels, ..] = found.shape_of::<4>(0, "conv_blocks.9.weight")?;
    let mut rows = vec![];
    both(&mut rows, 0, "generator.project".into(), "l1.0".into());
    norm(&mut rows, 0, "generator.project_bn", "conv_blocks.0", true);
    for (up, at) in [(1, 2), (2, 6)] {
        both(&mut rows, 0, format!("generator.up{up}"), format!("conv_blocks.{at}"));
        norm(&mut rows, 0, &format!("generator.up{up}_bn"), &format!("conv_blocks.{}", at + 1), true);
    }
    both(&mut rows, 0, "generator.output".into(), "conv_blocks.9".into());
    for (network, name) in [(1, "encoder"), (2, "critic")] {
        both(&mut rows, network, format!("{name}.input"), "model.0".into());
        for level in 1..=3 {
            let at = 4 * level - 1;
            both(&mut rows, network, format!("{name}.down{level}"), format!("model.{at}"));
            norm(&mut rows, network, &format!("{name}.down{level}_bn"), &format!("model.{}", at + 3), true);
        }
        both(&mut rows, network, format!("{name}.output"), "adv_layer.0".into());
    }
    let config = Config {
        size: Size::square((features / top.max(1)).isqrt().saturating_mul(4)),
        channels,
        width: top / 8,
        latent,
        prior: Prior::Normal,
        ..Config::default()
    };
    let options = vec![("nets", "resize".to_owned())];
    Ok(Plan { config, options, fit: Fit::Stretch, rows, values: vec![] })
}

/// The residual networks of 64×64, with layer norm in critic and encoder.
fn f_anogan(found: &mut Found<'_>) -> Result<Plan, String> {
    let [width, channels, ..] = found.shape_of::<4>(1, "conv_in.weight")?;
    let [latent, _] = found.shape_of::<2>(1, "fc.weight")?;
    let mut rows = vec![];
    both(&mut rows, 0, "generator.project".into(), "ln1".into());
    norm(&mut rows, 0, "generator.output_bn", "bn", true);
    both(&mut rows, 0, "generator.output".into(), "conv1.conv".into());
    for i in 1..=4 {
        let (ours, theirs) = (format!("generator.up{i}"), format!("rb{i}"));
        for j in [1, 2] {
            norm(&mut rows, 0, &format!("{ours}.bn{j}"), &format!("{theirs}.bn{j}"), true);
        }
        rows.push(row(0, format!("{ours}.conv1.weight"), format!("{theirs}.conv_1.conv.conv.weight")));
        both(&mut rows, 0, format!("{ours}.conv2"), format!("{theirs}.conv_2.conv"));
        both(&mut rows, 0, format!("{ours}.shortcut"), format!("{theirs}.conv_shortcut.conv.conv"));
    }
    for (network, name, input, block, output) in
        [(1, "encoder", "conv_in", "res", "fc"), (2, "critic", "conv1.conv", "rb", "ln1")]
    {
        both(&mut rows, network, format!("{name}.input"), input.into());
        both(&mut rows, network, format!("{name}.output"), output.into());
        for i in 1..=4 {
            let (ours, theirs) = (format!("{name}.down{i}"), format!("{block}{i}"));
            for j in [1, 2] {
                both(&mut rows, network, format!("{ours}.ln{j}"), format!("{theirs}.bn{j}"));
            }
            rows.push(row(network, format!("{ours}.conv1.weight"), format!("{theirs}.conv_1.conv.weight")));
            both(&mut rows, network, format!("{ours}.conv2"), format!("{theirs}.conv_2.conv.conv"));
            both(&mut rows, network, format!("{ours}.shortcut"), format!("{theirs}.conv_shortcut.conv.conv"));
        }
    }
    let config = sizes(4, channels, width, latent);
    let options = vec![("nets", "resnet-port".to_owned())];
    Ok(Plan { config, options, fit: Fit::Stretch, rows, values: vec![] })
}

/// φ alone: the decoder is of pretraining.
fn deep_svdd(found: &mut Found<'_>) -> Result<Plan, String> {
    let blocks = (1..8).take_while(|i| found.shape(0, &format!("conv{i}.weight")).is_some()).count();
    let [out, channels, ..] = found.shape_of::<4>(0, "conv1.weight")?;
    let [last, ..] = found.shape_of::<4>(0, &format!("conv{blocks}.weight"))?;
    let [latent, features] = found.shape_of::<2>(0, "fc1.weight")?;
    let bottom = (features / last.max(1)).isqrt();
    let is_small = blocks == 2;
    let (nets, norms, width) =
        if is_small { ("lenet-small", "bn", 8 * out) } else { ("lenet", "bn2d", 2 * out) };
    let mut rows = vec![row(0, "encoder.fc.weight", "fc1.weight")];
    for i in 1..=blocks {
        rows.push(row(0, format!("encoder.conv{i}.weight"), format!("conv{i}.weight")));
        norm(&mut rows, 0, &format!("encoder.bn{i}"), &format!("{norms}{i}"), false);
    }
    let mut numbers = |name: &str| (found.numbers)(name).map_err(|e| e.to_string());
    let centre = numbers("c")?
        .ok_or("has no centre 'c', which save_model of the repository writes beside the network")?;
    let radius = numbers("R")?.and_then(|r| r.first().copied()).unwrap_or(0.0);
    let Some([low, high]) = found.given.range else {
        return Err(
            "does not say to what range its images were scaled; give it with --range LOW,HIGH: the pair of \
                    the normal class in min_max of the repository's data sets of MNIST or CIFAR-10"
                .to_owned(),
        );
    };
    let config = Config {
        size: Size::square(bottom.saturating_mul(1 << blocks.min(16))),
        channels,
        width,
        latent,
        prior: Prior::Normal,
        ..Config::default()
    };
    let objective = if radius == 0.0 { "one-class" } else { "soft-boundary" };
    let options =
        vec![("nets", nets.to_owned()), ("objective", objective.to_owned()), ("slope", "0.01".to_owned())];
    let values = vec![
        ("centre", centre),
        ("radius", vec![radius]),
        ("range.low", vec![low]),
        ("range.high", vec![high]),
    ];
    Ok(Plan { config, options, fit: Fit::Stretch, rows, values })
}
