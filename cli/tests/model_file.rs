//! Model files: what is saved is loaded, and whatever is not a whole, unaltered file of this program, this
//! version and this system is refused with the reason.

use crate::binary;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{RETINA, assert_same_tensors, folder, ganomede, text, train};
use ganomede::device::Device;
use ganomede::models::file::{FORMAT, FileError, ModelFile, Storage};
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::scorer::{ScoreError, Scorer};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

/// A model trained for three steps, made once.
fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("model").join("tiny.safetensors");
        train(RETINA, &path, &["--steps", "3"]).well();
        path
    })
}

/// `bytes` as a file that `score` is asked to use.
fn score_with(name: &str, bytes: &[u8]) -> binary::Ended {
    let path = folder(name).join("damaged.safetensors");
    std::fs::write(&path, bytes).unwrap();
    ganomede(["score", text(&path), RETINA, "--json"])
}

fn bytes() -> Vec<u8> {
    std::fs::read(model()).unwrap()
}

/// Length of the safetensors header, with the eight bytes of the length itself.
fn header_len(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

/// The file with other metadata; tensors stay.
fn with_entry(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let mut entries = metadata.metadata().clone().unwrap();
    let entry = change(&entries["ganomede"]);
    entries.insert("ganomede".to_owned(), entry);
    let file = SafeTensors::deserialize(bytes).unwrap();
    serialize(file.tensors(), Some(entries)).unwrap()
}

#[test]
fn a_saved_file_loads_with_every_bit_and_field() {
    let file = ModelFile::load(model()).unwrap();
    let again = folder("again").join("copy.safetensors");
    file.save(&again).unwrap();
    assert_eq!(ModelFile::load(&again).unwrap(), file);
    assert_same_tensors(model(), &again);
    let header = &file.header;
    assert_eq!((header.format, header.system.as_str(), header.batch), (FORMAT, "anogan", 8));
    assert_eq!((header.config.size, header.config.width, header.config.latent), (16.into(), 4, 8));
    assert_eq!((header.data.training_images, header.data.held_out), (32, 8));
    assert_eq!(header.data.digest.len(), 64);
    assert_eq!(header.progress.steps, 3);
    let calibration = header.calibration.as_ref().unwrap();
    assert_eq!((calibration.quantiles.count(), calibration.score.search.steps), (8, 5));
    assert!(calibration.source.contains("8 held-out normal samples"), "{}", calibration.source);
}

#[test]
fn weights_have_pytorch_names_and_shapes() {
    let file = ModelFile::load(model()).unwrap();
    let shape = |name: &str| {
        file.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no '{name}'")).shape.clone()
    };
    // Linear is [out, in], ConvTranspose2d [in, out, k, k], Conv2d [out, in, k, k], batch norm [channels].
    assert_eq!(shape("generator.project.weight"), [16 * 8, 8]);
    assert_eq!(shape("generator.output.weight"), [4, 1, 4, 4]);
    assert_eq!(shape("generator.output.bias"), [1]);
    assert_eq!(shape("discriminator.input.weight"), [4, 1, 4, 4]);
    assert_eq!(shape("discriminator.down1.weight"), [8, 4, 4, 4]);
    for part in ["weight", "bias", "running_mean", "running_var"] {
        assert_eq!(shape(&format!("discriminator.down1_bn.{part}")), [8]);
    }
    assert!(
        file.tensors.iter().all(|t| t.name.starts_with("generator.") || t.name.starts_with("discriminator."))
    );
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let bytes = bytes();
    let header = header_len(&bytes);
    let path = folder("cut").join("cut.safetensors");
    let lengths =
        [0, 1, 7, 8, 9, header / 2, header - 1, header, header + 1, bytes.len() - 4, bytes.len() - 1];
    for length in lengths {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = ModelFile::load(&path).unwrap_err();
        assert!(matches!(error, FileError::Malformed { .. }), "{length} bytes: {error}");
    }
    score_with("cut-cli", &bytes[..bytes.len() / 2]).refused(2, &["damaged.safetensors", "cut short"]);
}

#[test]
fn a_flipped_bit_in_any_tensor_is_refused() {
    let bytes = bytes();
    let header = header_len(&bytes);
    let path = folder("flipped").join("flipped.safetensors");
    for at in (header..bytes.len()).step_by((bytes.len() - header) / 40).chain([bytes.len() - 1]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = ModelFile::load(&path).unwrap_err();
        assert!(matches!(error, FileError::Altered { .. }), "byte {at}: {error}");
    }
    let mut damaged = bytes.clone();
    damaged[header + 17] ^= 0x40;
    score_with("flipped-cli", &damaged).refused(2, &["damaged.safetensors", "altered", "SHA-256"]);
}

#[test]
fn a_flipped_bit_in_the_metadata_is_refused_or_changes_nothing() {
    let bytes = bytes();
    let original = ModelFile::load(model()).unwrap();
    let path = folder("metadata").join("flipped.safetensors");
    let mut refused = 0;
    let header = header_len(&bytes);
    for at in (0..header).step_by(13) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        match ModelFile::load(&path) {
            Err(_) => refused += 1,
            // Only padding and the case of an exponent can change without a change of meaning.
            Ok(same) => assert_eq!(same, original, "byte {at}"),
        }
    }
    assert!(refused > header / 13 * 9 / 10, "{refused} of {} were refused", header / 13);

    let lied = with_entry(&bytes, |entry| entry.replace("\"seed\":0", "\"seed\":1"));
    score_with("metadata-cli", &lied).refused(2, &["damaged.safetensors", "altered"]);
    let broken = with_entry(&bytes, |entry| entry[..entry.len() / 2].to_owned());
    score_with("metadata-broken", &broken).refused(2, &["damaged.safetensors", "metadata", "damaged"]);
}

#[test]
fn another_version_is_refused_by_its_number() {
    let other = with_entry(&bytes(), |entry| entry.replace("\"format\":2", "\"format\":7"));
    score_with("version", &other).refused(2, &["format 7", "reads 2", "train again"]);
}

#[test]
fn foreign_files_are_refused() {
    let zeros = [0_u8; 16];
    let tensor = TensorView::new(Dtype::F32, vec![4], &zeros).unwrap();
    let foreign = serialize([("weight", tensor)], None).unwrap();
    score_with("foreign", &foreign).refused(2, &["not written by this program", "ganomede train"]);
    score_with("text", b"This is a letter and no model.").refused(2, &["not a complete safetensors file"]);
    score_with("empty", b"").refused(2, &["not a complete safetensors file"]);
    ganomede(["score", text(&folder("nothing").join("none.safetensors")), RETINA])
        .refused(2, &["none.safetensors"]);
    ganomede(["score", text(&folder("directory")), RETINA]).refused(2, &["no file"]);
}

/// The model trained again with its weights in halves, made once.
fn half_model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("half-model").join("half.safetensors");
        train(RETINA, &path, &["--steps", "3", "--half"]).well();
        path
    })
}

/// A file of the same entry with other tensors: types and bytes as a careless or hostile program would write
/// them.
fn with_tensors(
    bytes: &[u8],
    change: impl Fn(&str, &TensorView<'_>) -> (Dtype, Vec<usize>, Vec<u8>),
) -> Vec<u8> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let file = SafeTensors::deserialize(bytes).unwrap();
    let changed: Vec<_> = file.iter().map(|(name, view)| (name.to_owned(), change(name, &view))).collect();
    let views = changed.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    serialize(views, metadata.metadata().clone()).unwrap()
}

fn as_it_is(view: &TensorView<'_>) -> (Dtype, Vec<usize>, Vec<u8>) {
    (view.dtype(), view.shape().to_vec(), view.data().to_vec())
}

#[test]
fn a_model_in_halves_has_half_the_bytes_and_the_same_names() {
    let (whole, half) = (ModelFile::load(model()).unwrap(), ModelFile::load(half_model()).unwrap());
    let mut weights = 0;
    for (a, b) in whole.tensors.iter().zip(&half.tensors) {
        assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
        let is_weight = a.name.ends_with(".weight") && a.shape.len() > 1;
        assert_eq!(b.storage, if is_weight { Storage::F16 } else { Storage::F32 }, "{}", a.name);
        for (x, y) in a.values.iter().zip(&b.values) {
            let bound = if is_weight { x.abs() / 2048.0 + 2.0_f32.powi(-25) } else { 0.0 };
            assert!((x - y).abs() <= bound, "{}: {x} became {y}", a.name);
        }
        weights += 2 * usize::from(is_weight) * a.values.len();
    }
    let tensors = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.len() - header_len(&bytes)
    };
    assert_eq!(tensors(model()) - tensors(half_model()), weights);
    let again = folder("half-again").join("copy.safetensors");
    half.save(&again).unwrap();
    assert_eq!(ModelFile::load(&again).unwrap(), half);
    ganomede(["score", text(half_model()), RETINA, "--json"]).well();
}

#[test]
fn damaged_files_in_halves_are_refused() {
    let bytes = std::fs::read(half_model()).unwrap();
    let path = folder("half-damaged").join("half.safetensors");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        ModelFile::load(&path)
    };
    assert_eq!(
        load(&with_tensors(&bytes, |_, view| as_it_is(view))).unwrap(),
        ModelFile::load(half_model()).unwrap()
    );
    let header = header_len(&bytes);
    for length in [header, header + 1, bytes.len() - 1] {
        assert!(matches!(load(&bytes[..length]), Err(FileError::Malformed { .. })), "{length} bytes");
    }
    for at in (header..bytes.len()).step_by((bytes.len() - header) / 20) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(matches!(load(&damaged), Err(FileError::Altered { .. })), "byte {at}");
    }
    // The same bytes under another type, and the same numbers stored otherwise, are another file.
    let first = "generator.project.weight";
    for dtype in [Dtype::BF16, Dtype::I16, Dtype::U16] {
        let changed = with_tensors(&bytes, |name, view| match name == first {
            true => (dtype, view.shape().to_vec(), view.data().to_vec()),
            false => as_it_is(view),
        });
        match load(&changed) {
            Err(FileError::Altered { .. }) => assert_eq!(dtype, Dtype::BF16),
            Err(FileError::Tensor { tensor, what, .. }) => {
                assert_ne!(dtype, Dtype::BF16);
                assert!(tensor == first && what.contains("expected F32, F16 or BF16"), "{tensor} {what}");
            }
            other => panic!("{dtype:?}: {other:?}"),
        }
    }
    let widened = with_tensors(&bytes, |name, view| match name == first {
        true => {
            let file = ModelFile::load(half_model()).unwrap();
            let tensor = file.tensors.iter().find(|t| t.name == first).unwrap();
            (Dtype::F32, view.shape().to_vec(), tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        false => as_it_is(view),
    });
    assert!(matches!(load(&widened), Err(FileError::Altered { .. })));
    // A shape that does not fit the bytes is no safetensors file at all.
    let text = String::from_utf8_lossy(&bytes[8..header]).into_owned();
    let lied = text.replacen("\"dtype\":\"F16\"", "\"dtype\":\"F32\"", 1);
    let mut damaged = (lied.len() as u64).to_le_bytes().to_vec();
    damaged.extend(lied.as_bytes());
    damaged.extend(&bytes[header..]);
    assert!(matches!(load(&damaged), Err(FileError::Malformed { .. })));
    score_with("half-cli", &damaged).refused(2, &["damaged.safetensors", "not a complete safetensors file"]);
}

#[test]
fn weights_beyond_a_half_stay_as_they_are() {
    let mut file = ModelFile::load(model()).unwrap();
    let at = file.tensors.iter().position(|t| t.name == "generator.project.weight").unwrap();
    file.tensors[at].values[3] = 70_000.0;
    let before = file.tensors[at].clone();
    file.halve_weights();
    assert_eq!(file.tensors[at], before);
    assert!(file.is_rounded());
    let path = folder("half-range").join("large.safetensors");
    file.save(&path).unwrap();
    assert_eq!(ModelFile::load(&path).unwrap(), file);
    // Infinite and undefined weights in halves end as those in f32 do.
    let at = file.tensors.iter().position(|t| t.name == "discriminator.input.weight").unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        file.tensors[at].values.fill(bad);
        assert_eq!(file.tensors[at].storage, Storage::F16);
        file.save(&path).unwrap();
        ganomede(["score", text(&path), RETINA, "--json"]).refused(2, &["NaN or infinite", "train it again"]);
    }
}

/// The model with something changed and sealed again, as a careless or hostile program would write it.
fn altered(name: &str, change: impl Fn(&mut ModelFile)) -> PathBuf {
    let mut file = ModelFile::load(model()).unwrap();
    change(&mut file);
    let path = folder(name).join("altered.safetensors");
    file.save(&path).unwrap();
    path
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_refused_by_name_and_shape() {
    let score = |path: &Path| ganomede(["score", text(path), RETINA, "--json"]);
    let path = altered("shape", |file| {
        let tensor = file.tensors.iter_mut().find(|t| t.name == "discriminator.input.weight").unwrap();
        tensor.shape = vec![4, 4, 4, 1];
    });
    score(&path).refused(2, &["discriminator.input.weight", "[4, 4, 4, 1]", "[4, 1, 4, 4]"]);
    let path = altered("missing", |file| file.tensors.retain(|t| t.name != "generator.output.bias"));
    score(&path).refused(2, &["generator.output.bias", "missing", "[1]"]);
    let path = altered("unknown", |file| file.tensors[0].name = "generator.extra".to_owned());
    score(&path).refused(2, &["unknown to this system", "generator.extra"]);
    let path = altered("other-size", |file| file.header.config.size = 20.into());
    score(&path).refused(2, &["discriminator.output.weight", "[1, 128]", "[1, 200]"]);
    let path = altered("other-kernel", |file| file.header.config.kernel = 3);
    score(&path).refused(2, &["kernel is 3", "4 or 5"]);
}

#[test]
fn another_system_is_refused() {
    let path = altered("system", |file| file.header.system = "crystal-ball".to_owned());
    ganomede(["score", text(&path), RETINA]).refused(2, &["crystal-ball", "does not have"]);
}

#[test]
fn a_configuration_larger_than_its_tensors_is_refused_before_memory_is_taken() {
    // As configured these networks take more than 100 GB.
    let path = altered("huge", |file| {
        (file.header.config.size, file.header.config.width, file.header.config.latent) =
            (1024.into(), 1024, 65_536);
    });
    let file = ModelFile::load(&path).unwrap();
    let refused = Scorer::new(&Device::Cpu, &file, &path, &ScoreConfig::default(), 1);
    let Err(ScoreError::File(FileError::Tensor { tensor, .. })) = refused else {
        panic!("not refused for a tensor")
    };
    assert!(tensor.starts_with("generator.") || tensor.starts_with("discriminator."), "{tensor}");
}

#[test]
fn weights_that_are_no_numbers_end_in_an_error_not_in_scores() {
    let path = altered("nan", |file| {
        file.tensors.iter_mut().find(|t| t.name == "generator.project.weight").unwrap().values.fill(f32::NAN);
    });
    ganomede(["score", text(&path), RETINA, "--json"]).refused(2, &["NaN or infinite", "train it again"]);
}
