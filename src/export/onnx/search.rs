//! A searched score as graphs in a folder: what is done once, a step, the end, the networks, and a loop that
//! runs them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::graph::{Builder, Extent, Name};
use super::pixels::{drawn, framed};
use super::proto::tensor_proto::DataType;
use super::translate::Sources;
use super::{Input, Onnx, OnnxError, Pixels, Sample, calibration, joined, metadata, refused_maps, verdicts};
use crate::export::batches::Dim;
use crate::models::file::ModelFile;
use crate::models::scorer::{ScoreConfig, Traced};
use crate::models::{Form, Prior};
use crate::program::StateId;
use crate::tape::{Graph, Op};

/// The loop, which reads the settings that stand beside it.
const LOOP: &str = include_str!("search.py");

/// A state of a search as graphs pass it on.
struct Passed {
    /// Its name without what it begins with for all.
    name: String,
    shape: Vec<Extent>,
}

/// The states that a graph reads and none of which the model has, by number.
fn passed(traced: [&Traced<'_>; 2], graphs: &[&Graph]) -> Result<BTreeMap<StateId, Passed>, String> {
    let mut all = BTreeMap::new();
    let nodes = graphs.iter().flat_map(|graph| &graph.nodes);
    let read = nodes.filter_map(|node| match node.op {
        Op::State(id) => Some(id),
        _ => None,
    });
    for id in read {
        let state = |of: &Traced<'_>| {
            let state = of.state(id).map_err(|error| error.to_string())?;
            Ok::<_, String>((state.name.to_owned(), state.shape.to_vec(), state.values.is_some()))
        };
        let ((name, one, is_weight), (_, two, _)) = (state(traced[0])?, state(traced[1])?);
        if is_weight {
            continue;
        }
        let extent = |(&a, &b): (&usize, &usize)| if a == b { Extent::Known(a) } else { Extent::Free("n") };
        let shape = one.iter().zip(&two).map(extent).collect();
        let name = name.strip_prefix("search.").unwrap_or(&name).to_owned();
        all.insert(id, Passed { name, shape });
    }
    Ok(all)
}

/// The names of these states in the graph whose inputs they are.
fn inputs(b: &mut Builder, states: &BTreeMap<StateId, Passed>) -> HashMap<StateId, Name> {
    let declare = |(&id, state): (&StateId, &Passed)| {
        b.input(&state.name, DataType::Float, &state.shape, "of the search");
        (id, state.name.clone())
    };
    states.iter().map(declare).collect()
}

/// The files of a searched score: graphs, the settings, the loop.
pub(super) fn files(
    model: &ModelFile,
    path: &Path,
    [traced, other]: [&Traced<'_>; 2],
    pixels: Pixels,
) -> Result<Vec<(String, Vec<u8>)>, OnnxError> {
    let refused = |what: String| OnnxError::Refused { path: path.to_owned(), what };
    let (header, score) = (&model.header, &traced.score);
    if header.config.form != Form::Image {
        let what = "it searches windows of series, and graphs of searches take images; ask for a score of one \
                    pass with `score`";
        return Err(refused(what.to_owned()));
    }
    let calibration = calibration(header, score, false);
    let meta = metadata(model, path, score, calibration, pixels)?;
    let graphs = |name: &str| match (traced.graph(name), other.graph(name)) {
        (Some(a), Some(b)) => Ok([a, b]),
        _ => Err(refused(format!("it records no '{name}'"))),
    };
    let [_, channels, height, width] = header.config.images(1);
    let n = Extent::Free("n");
    let sample = [n, Extent::Known(channels), Extent::Known(height), Extent::Known(width)];
    let latent = [n, Extent::Known(header.config.latent)];
    let mut files = vec![];
    let mut add = |name: &str, builder: Builder| -> Result<(), OnnxError> {
        let about = format!("{name} of the search of {}", header.system);
        let graph = Onnx::of(builder, &about, meta.clone()).map_err(refused)?;
        files.push((format!("{name}.onnx"), graph.bytes));
        Ok(())
    };

    let mut b = Builder::default();
    let seen = Sample::new(&mut b, header, pixels);
    b.output("x", &seen.x, DataType::Float, &sample, "images as the networks see them");
    add("input", b)?;

    // The networks alone.
    for (name, input, shape, output) in
        [("generator", "z", &latent[..], "image"), ("discriminator", "x", &sample[..], "features")]
    {
        let mut b = Builder::default();
        b.input(input, DataType::Float, shape, "what the network takes");
        let batch = b.extent(input, 0);
        let given = HashMap::from([(input.to_owned(), input.to_owned())]);
        let sources = Sources { inputs: &given, states: &HashMap::new(), batch: &batch };
        let found = joined(&mut b, traced, graphs(name)?, &[output], &sources).map_err(refused)?;
        let Some((value, dims)) = found.outputs.get(output) else { continue };
        b.output(output, value, DataType::Float, &extents(dims), "what the network gives");
        add(name, b)?;
    }

    let (prepare, step, finish) = (graphs("prepare")?, graphs("step")?, graphs("finish")?);
    let of_step = passed([traced, other], &[step[0]]).map_err(refused)?;
    let of_finish = passed([traced, other], &[finish[0]]).map_err(refused)?;
    let all = passed([traced, other], &[step[0], finish[0]]).map_err(refused)?;

    let mut b = Builder::default();
    let mut given = HashMap::from([("x".to_owned(), "image.x".to_owned())]);
    b.input("image.x", DataType::Float, &sample, "images as the networks see them");
    if !traced.encodes {
        b.input("start", DataType::Float, &latent, "where the searches start");
        given.insert("z".to_owned(), "start".to_owned());
    }
    let batch = b.extent("image.x", 0);
    let sources = Sources { inputs: &given, states: &HashMap::new(), batch: &batch };
    let found = joined(&mut b, traced, prepare, &[], &sources).map_err(refused)?;
    next(&mut b, &all, &found.assigns);
    add("prepare", b)?;

    let mut b = Builder::default();
    let states = inputs(&mut b, &of_step);
    let batch = batch_of(&mut b, &of_step);
    let sources = Sources { inputs: &HashMap::new(), states: &states, batch: &batch };
    let found = joined(&mut b, traced, step, &[], &sources).map_err(refused)?;
    next(&mut b, &all, &found.assigns);
    add("step", b)?;

    let mut b = Builder::default();
    let states = inputs(&mut b, &of_finish);
    let batch = batch_of(&mut b, &of_finish);
    Sample::declare_image(&mut b, pixels);
    let (fit, standardise) = (header.data.fit, header.recipe.standardise);
    let input = Input { height, width, channels, fit, standardise };
    let frame = framed(&mut b, "image", &input);
    let sources = Sources { inputs: &HashMap::new(), states: &states, batch: &batch };
    let wanted = ["score", "loss", "residual", "discrimination", "reconstruction", "map"];
    let found = joined(&mut b, traced, finish, &wanted, &sources).map_err(refused)?.outputs;
    let value = |name: &str| found.get(name).map(|(value, _)| value.clone()).unwrap_or_default();
    b.output("score", &value("score"), DataType::Float, &[n], "score of each search");
    verdicts(&mut b, &value("score"), &[n], calibration);
    let parts = [
        ("loss", &[n][..], "what was minimised; of several searches of an image the least counts"),
        ("residual", &[n], "how far image and generated image lie apart"),
        ("discrimination", &[n], "how far their features lie apart"),
        ("reconstruction", &sample, "the generated images, −1 to 1"),
    ];
    for (name, shape, about) in parts {
        b.output(name, &value(name), DataType::Float, shape, about);
    }
    let place = refused_maps(score, calibration).map_err(refused)?;
    let map = drawn(&mut b, &value("map"), &input, &frame, score.maps.sigma(&header.config), place);
    let shape = [n, Extent::Free("h"), Extent::Free("w")];
    b.output("map", &map, DataType::Float, &shape, "where the images are anomalous, at their own size");
    add("finish", b)?;

    files.push(("search.json".to_owned(), settings(model, score, traced.encodes, pixels)));
    files.push(("search.py".to_owned(), LOOP.as_bytes().to_vec()));
    Ok(files)
}

fn extents(dims: &[Dim]) -> Vec<Extent> {
    let extent = |dim: &Dim| match *dim {
        Dim::Fixed(size) => Extent::Known(size),
        Dim::Batch(_) => Extent::Free("n"),
    };
    dims.iter().map(extent).collect()
}

/// The size of the batch, of a state that has one.
fn batch_of(b: &mut Builder, states: &BTreeMap<StateId, Passed>) -> Name {
    let of = states.values().find(|state| matches!(state.shape.first(), Some(Extent::Free(_))));
    match of {
        Some(state) => b.extent(&state.name, 0),
        None => b.whole(&[1]),
    }
}

/// Declares the new values of states that a step or the end reads.
fn next(b: &mut Builder, states: &BTreeMap<StateId, Passed>, assigns: &HashMap<StateId, Name>) {
    for (id, state) in states {
        if let Some(value) = assigns.get(id) {
            let name = format!("next.{}", state.name);
            b.output(&name, value, DataType::Float, &state.shape, "for the next step");
        }
    }
}

/// What the loop has to know.
fn settings(model: &ModelFile, score: &ScoreConfig, encodes: bool, pixels: Pixels) -> Vec<u8> {
    let header = &model.header;
    let settings = serde_json::json!({
        "system": header.system, "score": score.score,
        "steps": score.search.steps, "restarts": score.search.restarts,
        "start": match (encodes, header.config.prior) {
            (true, _) => "encoder",
            (false, Prior::Uniform) => "uniform",
            (false, Prior::Normal) => "normal",
        },
        "latent": header.config.latent,
        "key": [header.seed as u32, (header.seed >> 32) as u32],
        "pixels": pixels.name(),
    });
    format!("{settings:#}\n").into_bytes()
}
