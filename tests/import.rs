//! Checkpoints of PyTorch: those of the published repositories give the outputs that torch gives, and what is
//! no state dict is refused. `tests/torch/published.py` makes the files.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use ganomede::device::Device;
use ganomede::import::{Given, Imported, like, published};
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::{Found, ScoreConfig, Scorer};
use safetensors::SafeTensors;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::common::{cpu, gpu};
use crate::hostile::{checkpoint, entries};

/// Greatest difference from torch.
const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch/published").join(name)
}

/// What torch gives.
fn expected(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(fixture("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec();
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn import(system: &str, files: &[&str], range: Option<[f32; 2]>) -> Imported {
    let files = files.iter().map(|name| fixture(name)).collect();
    published(system, &Given { files, range }).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(system: &str, files: &[&str], range: Option<[f32; 2]>) -> String {
    let files = files.iter().map(|name| fixture(name)).collect();
    published(system, &Given { files, range }).expect_err("this is refused").to_string()
}

/// What a model finds in images x[i] = sin(0.37 i).
fn found(device: &Device, model: &ModelFile, score: &str, count: usize) -> Vec<Found> {
    let config = ScoreConfig { score: score.to_owned(), ..ScoreConfig::default() };
    let mut scorer = Scorer::new(device, model, Path::new("imported"), &config, count).unwrap();
    let length = model.header.config.sample_len() * count;
    let images: Vec<f32> = (0..length).map(|i| (0.37 * i as f64).sin() as f32).collect();
    scorer.score(&images, None).unwrap()
}

fn assert_close(what: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((found - wanted).abs() <= TOLERANCE * largest, "{what}, {i}: {found} and {wanted}");
    }
}

/// Scores, and reconstructions where there are some, of both devices.
fn agrees(imported: &Imported, name: &str, scores: &[(&str, &str)]) {
    for (device, at) in [(cpu(), "cpu"), (gpu(), "gpu")] {
        for (score, output) in scores {
            let wanted = expected(&format!("{name}.{output}"));
            let found = found(&device, &imported.model, score, wanted.len());
            let values: Vec<f32> = found.iter().map(|f| f.score as f32).collect();
            assert_close(&format!("{name}, {score} on {at}"), &values, &wanted);
            if *output == "score" && found[0].reconstruction.is_some() {
                let made: Vec<f32> = found.into_iter().filter_map(|f| f.reconstruction).flatten().collect();
                assert_close(
                    &format!("{name}, x̂ on {at}"),
                    &made,
                    &expected(&format!("{name}.reconstruction")),
                );
            }
        }
    }
}

#[test]
fn ganomaly_gives_what_torch_gives() {
    let model = import("ganomaly", &["ganomaly-netD.pth", "ganomaly-netG.pth"], None);
    assert_eq!(model.notes, [""; 0]);
    assert!(model.model.header.calibration.is_none());
    let config = &model.model.header.config;
    assert_eq!(
        (config.size.sides().as_str(), config.channels, config.width, config.latent),
        ("32×32", 1, 2, 8)
    );
    agrees(&model, "ganomaly", &[("code", "score"), ("norm", "norm")]);
    // The discriminator takes no part in scores.
    let alone = import("ganomaly", &["ganomaly-netG.pth"], None);
    assert!(
        alone.notes[0].contains("without netD.pth: the discriminator is as before training"),
        "{:?}",
        alone.notes
    );
    agrees(&alone, "ganomaly", &[("code", "score")]);
    let of = |model: &Imported, name: &str| {
        model.model.tensors.iter().find(|t| t.name == name).unwrap().values.clone()
    };
    assert_ne!(of(&model, "discriminator.input.weight"), of(&alone, "discriminator.input.weight"));
    assert_eq!(of(&model, "generator.decoder.up1.weight"), of(&alone, "generator.decoder.up1.weight"));
}

#[test]
fn skip_ganomaly_of_several_gpus_and_in_double_precision_gives_what_torch_gives() {
    let model = import("skip-ganomaly", &["skip-ganomaly-netG.pth", "skip-ganomaly-netD.pth"], None);
    assert!(model.notes[0].starts_with("rounded from float64 to float32: 'feat."), "{:?}", model.notes);
    agrees(&model, "skip-ganomaly", &[("code", "score")]);
}

#[test]
fn f_anogan_in_half_precision_gives_what_torch_gives() {
    let files = ["f-anogan-netG.pth", "f-anogan-netD.pth", "f-anogan-netE.pth"];
    let model = import("f-anogan", &files, None);
    agrees(&model, "f-anogan", &[("f-anogan", "score"), ("critic", "critic"), ("z-distance", "z-distance")]);
}

/// A03ki's networks: norms behind activations, with 0.8 added to the variance, and files without an ending.
#[test]
fn f_anogan_of_resize_convolutions_gives_what_torch_gives() {
    let files = ["resize/discriminator", "resize/generator", "resize/encoder"];
    let model = import("f-anogan", &files, None);
    assert_eq!(model.notes, [""; 0]);
    let header = &model.model.header;
    assert!(header.options.is("nets", "resize"));
    let config = &header.config;
    assert_eq!(
        (config.size.sides().as_str(), config.channels, config.width, config.latent),
        ("48×48", 3, 2, 5)
    );
    let scores = [("f-anogan", "score"), ("residual", "residual"), ("critic", "critic")];
    agrees(&model, "f-anogan-resize", &scores);
    agrees(&model, "f-anogan-resize", &[("z-distance", "z-distance")]);
    for (system, files, what) in [
        (
            "f-anogan",
            &files[..2],
            &["encoder is missing: name generator, encoder, discriminator of A03ki"][..],
        ),
        // Its networks and those of another repository.
        (
            "f-anogan",
            &["resize/encoder", "f-anogan-netG.pth"],
            &["f-anogan-netG.pth' is no network of A03ki/f-AnoGAN (generator, encoder, discriminator): "],
        ),
        (
            "f-anogan",
            &["ganomaly-netG.pth"],
            &["is no network of dbbbbm/f-AnoGAN-PyTorch (netG.pth, netE.pth, netD.pth) or A03ki/f-AnoGAN ("],
        ),
        ("ganomaly", &files[..1], &["those of A03ki/f-AnoGAN are read with --system f-anogan"]),
    ] {
        let found = refused(system, files, None);
        assert!(what.iter().all(|part| found.contains(part)), "{system} {files:?}: {found}");
    }
}

/// Above 96 pixels these go on doubling channels, where ours would stop at eight times the width.
#[test]
fn networks_whose_channels_go_on_doubling_give_what_torch_gives() {
    let model = import("ganomaly", &["ganomaly-128-netG.pth"], None);
    let header = &model.model.header;
    assert_eq!((header.config.size.sides().as_str(), header.options.text("cap")), ("128×128", "none"));
    agrees(&model, "ganomaly-128", &[("code", "score")]);
    let files = ["skip-ganomaly-128-netD.pth", "skip-ganomaly-128-netG.pth"];
    let model = import("skip-ganomaly", &files, None);
    assert!(model.model.header.options.is("cap", "none"));
    agrees(&model, "skip-ganomaly-128", &[("code", "score")]);
    // Smaller ones are what they were.
    assert!(import("ganomaly", &["ganomaly-netG.pth"], None).model.header.options.is("cap", "8"));
}

#[test]
fn deep_svdd_of_both_networks_gives_what_torch_gives() {
    for (name, objective) in [("deep-svdd-mnist", "one-class"), ("deep-svdd-cifar10", "soft-boundary")] {
        let model = import("deep-svdd", &[&format!("{name}.tar")], Some([-2.5, 4.0]));
        assert!(model.model.header.options.is("objective", objective));
        agrees(&model, name, &[("distance", "score")]);
    }
}

#[test]
fn an_imported_model_is_a_model_file() {
    let model = import("ganomaly", &["ganomaly-netG.pth"], None).model;
    let bytes = model.to_bytes(Path::new("m")).unwrap();
    let read = ModelFile::from_bytes(Path::new("m"), &bytes).unwrap();
    let ordered = |model: &ModelFile| -> BTreeMap<String, Vec<f32>> {
        model.tensors.iter().map(|t| (t.name.clone(), t.values.clone())).collect()
    };
    assert_eq!((ordered(&read), &read.header), (ordered(&model), &model.header));
    assert_eq!(read.header.data.spec, "unknown: imported from ganomaly-netG.pth");
}

#[test]
fn other_networks_are_refused_with_the_first_layer_that_differs() {
    for (system, files, range, what) in [
        (
            "skip-ganomaly",
            &["skip-ganomaly-netG.pth", "skip-ganomaly-128-netD.pth"][..],
            None,
            &["has no tensor 'feat.initial-conv-3-1.weight'", "[2, 3, 4, 4]"][..],
        ),
        ("skip-ganomaly", &["skip-ganomaly-netG.pth"], None, &["netD.pth is missing", "netG.pth, netD.pth"]),
        ("f-anogan", &["f-anogan-netG.pth", "f-anogan-netD.pth"], None, &["netE.pth is missing"]),
        (
            "ganomaly",
            &["ganomaly-netG.pth", "ganomaly-netG.pth"],
            None,
            &["is netG.pth as", "name one of them"],
        ),
        (
            "ganomaly",
            &["deep-svdd-mnist.tar"],
            None,
            &["is no network of samet-akcay/ganomaly", "conv1.weight"],
        ),
        ("deep-svdd", &["deep-svdd-mnist.tar"], None, &["--range LOW,HIGH", "min_max"]),
        ("deep-svdd", &["ganomaly-netG.pth"], None, &["is no network of lukasruff/Deep-SVDD-PyTorch"]),
        (
            "pca",
            &["ganomaly-netG.pth"],
            None,
            &["published checkpoints of 'pca' are not known", "skip-ganomaly"],
        ),
        (
            "ganomaly",
            &["legacy.pth"],
            None,
            &["of before PyTorch 1.6", "torch.save(torch.load(file), new_file)"],
        ),
        ("ganomaly", &["script.pth"], None, &["TorchScript", "state_dict()"]),
        ("ganomaly", &["module.pth"], None, &["'torch.nn.modules.linear.Linear'", "nothing is executed"]),
        ("ganomaly", &["no.pth"], None, &["cannot read", "no.pth"]),
    ] {
        let found = refused(system, files, range);
        assert!(what.iter().all(|part| found.contains(part)), "{system} {files:?}: {found}");
    }
}

/// Writes bytes beside other tests' and imports them as GANomaly's generator.
fn hostile(name: &str, bytes: &[u8]) -> String {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("import");
    std::fs::create_dir_all(&place).unwrap();
    let path = place.join(name);
    std::fs::write(&path, bytes).unwrap();
    published("ganomaly", &Given { files: vec![path], range: None }).expect_err(name).to_string()
}

fn zipped(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Entries of an archive.
type Parts = Vec<(String, Vec<u8>)>;

#[test]
fn hostile_archives_are_refused_with_a_reason() {
    let right = checkpoint(&[("encoder1.main.initial-conv-1-2.weight", &[2, 1, 4, 4], "FloatStorage")]);
    // It is read as far as it goes.
    assert!(hostile("right.pth", &right).contains("has no tensor 'encoder1.main.final-2-1-conv.weight'"));
    let parts = entries(&right);
    let of = |change: &dyn Fn(&mut Parts), method| {
        let mut parts = parts.clone();
        change(&mut parts);
        let parts: Vec<_> = parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        zipped(&parts, method)
    };
    let stored = CompressionMethod::Stored;
    for (name, bytes, what) in [
        ("nothing", vec![], "is no archive of torch.save, or is cut short"),
        ("cut", right[..right.len() - 5].to_vec(), "is no archive of torch.save, or is cut short"),
        (
            "behind",
            [right.clone(), b"more".to_vec()].concat(),
            "is no archive of torch.save, or is cut short",
        ),
        (
            "bomb",
            of(&|parts| parts[0].1 = vec![b'.'; 1 << 20], CompressionMethod::Deflated),
            "has a compressed entry",
        ),
        ("none", of(&|parts| parts.remove(0).0.clear(), stored), "has no data.pkl"),
        ("two", of(&|parts| parts.push(("other/data.pkl".into(), vec![])), stored), "has no data.pkl"),
        ("large", of(&|parts| parts[0].1 = vec![b'N'; (16 << 20) + 1], stored), "at most 16777216 are read"),
        (
            "big",
            of(&|parts| parts.push(("archive/byteorder".into(), b"big".to_vec())), stored),
            "the highest byte first",
        ),
        ("storage", of(&|parts| _ = parts.pop(), stored), "has no tensor 'encoder1.main.final"),
    ] {
        let found = hostile(&format!("{name}.pth"), &bytes);
        assert!(found.contains(what), "{name}: {found}");
    }
    // A count of entries that no archive has, in both of its last records.
    let mut many = right.clone();
    let end = many.len() - 22;
    many[end + 10..end + 12].copy_from_slice(&[0xff, 0xff]);
    assert!(hostile("many.pth", &many).contains("lists 65535 entries"));
}

/// What is done to names, shapes and types of storages.
type Change<'c> = &'c dyn Fn(&mut Vec<(String, Vec<usize>, &'static str)>);

#[test]
fn tensors_of_other_kinds_and_sizes_are_refused_and_strides_honoured() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("import");
    std::fs::create_dir_all(&place).unwrap();
    let original = import("deep-svdd", &["deep-svdd-mnist.tar"], Some([-2.5, 4.0])).model;
    let model = place.join("like.safetensors");
    original.save(&model).unwrap();
    let tensors: Vec<(String, Vec<usize>)> =
        original.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
    let write = |change: Change<'_>| {
        let mut all: Vec<_> = tensors.iter().map(|(n, s)| (n.clone(), s.clone(), "FloatStorage")).collect();
        change(&mut all);
        let all: Vec<_> = all.iter().map(|(n, s, k)| (n.as_str(), s.as_slice(), *k)).collect();
        let path = place.join("state.pth");
        std::fs::write(&path, checkpoint(&all)).unwrap();
        like(&path, &model).map_err(|e| e.to_string())
    };
    // Element i of a storage is i; those of this writer have the last dimension first.
    let read = write(&|_| {}).unwrap().model;
    for tensor in read.tensors.iter().filter(|t| t.shape.len() > 1) {
        let (rows, columns) = (tensor.shape[0], tensor.values.len() / tensor.shape[0]);
        assert_eq!(tensor.values[1], rows as f32, "{}", tensor.name);
        if rows > 1 {
            assert_eq!(tensor.values[columns], 1.0, "{}", tensor.name);
        }
    }
    for kind in ["DoubleStorage", "HalfStorage", "BFloat16Storage"] {
        let found = write(&|all| all.iter_mut().for_each(|t| t.2 = kind)).unwrap();
        assert_eq!(found.notes.len(), usize::from(kind == "DoubleStorage"), "{kind}: {:?}", found.notes);
        // Halves hold whole numbers up to 2048, bfloat16 those up to 256.
        let small =
            |model: &ModelFile| model.tensors.iter().find(|t| t.name == "centre").unwrap().values.clone();
        assert_eq!(small(&found.model), small(&read), "{kind}");
    }
    let changes: [(&str, Change<'_>); 5] = [
        ("has a tensor of int64 where weights belong", &|all| all[0].2 = "LongStorage"),
        ("has no tensor '", &|all| _ = all.remove(0)),
        ("expected [", &|all| all[0].1.push(1)),
        ("has a tensor 'surplus' [2] that", &|all| all.push(("surplus".into(), vec![2], "FloatStorage"))),
        ("has two tensors named", &|all| all.push(all[0].clone())),
    ];
    for (what, change) in changes {
        let found = write(change).expect_err(what);
        assert!(found.contains(what), "{what}: {found}");
    }
    // Counters of batches are nothing that we have.
    write(&|all| all.push(("encoder.bn1.num_batches_tracked".into(), vec![], "LongStorage"))).unwrap();
}

/// GANomaly's generator at 16×16 and width 2, by names and shapes.
fn generator() -> Vec<(String, Vec<usize>)> {
    let mut all: Vec<(String, Vec<usize>)> = vec![];
    let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    let norm = |name: String, channels: usize| {
        ["weight", "bias", "running_mean", "running_var"].map(|part| (format!("{name}.{part}"), [channels]))
    };
    for encoder in ["encoder1", "encoder2"] {
        add(format!("{encoder}.main.initial-conv-1-2.weight"), &[2, 1, 4, 4]);
        add(format!("{encoder}.main.pyramid-2-4-conv.weight"), &[4, 2, 4, 4]);
        norm(format!("{encoder}.main.pyramid-4-batchnorm"), 4).iter().for_each(|(n, s)| add(n.clone(), s));
        add(format!("{encoder}.main.final-4-1-conv.weight"), &[3, 4, 4, 4]);
    }
    add("decoder.main.initial-3-4-convt.weight".into(), &[3, 4, 4, 4]);
    norm("decoder.main.initial-4-batchnorm".into(), 4).iter().for_each(|(n, s)| add(n.clone(), s));
    add("decoder.main.pyramid-4-2-convt.weight".into(), &[4, 2, 4, 4]);
    norm("decoder.main.pyramid-2-batchnorm".into(), 2).iter().for_each(|(n, s)| add(n.clone(), s));
    add("decoder.main.final-2-1-convt.weight".into(), &[2, 1, 4, 4]);
    all
}

#[test]
fn missing_surplus_and_misshapen_tensors_are_named() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("import");
    std::fs::create_dir_all(&place).unwrap();
    let write = |name: &str, all: &[(String, Vec<usize>)]| {
        let all: Vec<_> = all.iter().map(|(n, s)| (n.as_str(), s.as_slice(), "FloatStorage")).collect();
        let path = place.join(name);
        std::fs::write(&path, checkpoint(&all)).unwrap();
        published("ganomaly", &Given { files: vec![path], range: None })
    };
    let right = generator();
    let model = write("right-netG.pth", &right).unwrap().model;
    // [in, out, h, w] with the first innermost, as a linear layer [out·h·w, in]: 0 to 191 in order.
    let project = model.tensors.iter().find(|t| t.name == "generator.decoder.project.weight").unwrap();
    assert_eq!(project.shape, [64, 3]);
    assert_eq!(project.values, (0..192).map(|i| i as f32).collect::<Vec<_>>());

    // Every tensor is needed, in its shape.
    for at in 0..right.len() {
        let mut fewer = right.clone();
        let (name, shape) = fewer.remove(at);
        let error = write("fewer.pth", &fewer).expect_err(&name).to_string();
        // The first, second and seventh tell the sizes, so that others are looked for without them.
        let looked_for = if [0, 1, 6].contains(&at) { "encoder1.main." } else { &name };
        assert!(error.contains(&format!("has no tensor '{looked_for}")), "{name}: {error}");
        let mut other = right.clone();
        other[at].1 = shape.iter().map(|size| size + 1).collect();
        let error = write("other.pth", &other).expect_err(&name).to_string();
        assert!(error.contains("encoder1.main") || error.contains(&name), "{name}: {error}");
    }
    let mut more = right.clone();
    more.push(("encoder1.main.extra-layers-0-2-conv.weight".into(), vec![2, 2, 3, 3]));
    let error = write("more.pth", &more).expect_err("extra layers").to_string();
    for part in ["'encoder1.main.extra-layers-0-2-conv.weight' [2, 2, 3, 3]", "ganomaly here has no layer"] {
        assert!(error.contains(part), "{error}");
    }
    // Networks of another port that none here is.
    for (name, shape) in [("model.0.weight", vec![2, 2]), ("last_layer.0.weight", vec![1, 2])] {
        let dense = checkpoint(&[(name, &shape, "FloatStorage")]);
        let path = place.join("dense.pth");
        std::fs::write(&path, dense).unwrap();
        let error =
            published("f-anogan", &Given { files: vec![path], range: None }).expect_err(name).to_string();
        assert!(error.contains("A03ki/f-AnoGAN's networks of its folder mnist are dense"), "{error}");
    }
}
