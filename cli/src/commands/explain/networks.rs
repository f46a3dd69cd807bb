//! The networks of a system as its tapes have them: layers with what follows them and the shape that they
//! give, and which reads from which. A layer is a convolution or a product with a weight of the model;
//! gradients and optimisers are none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ganomede_kernels::conv::{Face, Geometry};
use ganomede_kernels::expr::{Binary, Num, Unary};
use ganomede_kernels::random::Distribution;

use crate::shared::CliError;
use ganomede::models::{Config, Info, Options, Training};
use ganomede::program::{CompileError, simplify};
use ganomede::tape::{Graph, Node, NodeId, Op, States, Tape};
use ganomede::train::record_part;

/// Samples in the batch that is recorded: more than one, so that batch norm in train mode is what it is.
const BATCH: usize = 2;

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Convolution,
    Transposed,
    Product,
}

impl Kind {
    /// What the document calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Transposed => "transposed convolution",
            Self::Product => "product",
        }
    }
}

/// A layer: where its values come from, what it is, what follows it.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Name of the network: `generator.encoder1`.
    pub(super) network: String,
    pub(super) kind: Kind,
    /// Kernel and stride, empty for products.
    pub(super) geometry: String,
    /// Norm, activation, pooling, dropout, in that order.
    pub(super) then: BTreeSet<Then>,
    /// Channels, height, width; features of products count as channels.
    pub(super) shape: [usize; 3],
    pub(super) sources: BTreeSet<Source>,
}

/// What follows a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Then {
    Norm(&'static str),
    Activation(&'static str),
    Pool,
    Dropout,
}

impl std::fmt::Display for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Norm(name) | Self::Activation(name) => f.write_str(name),
            Self::Pool => f.write_str("max-pool"),
            Self::Dropout => f.write_str("dropout"),
        }
    }
}

/// Where values come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Another layer, by its place.
    Layer(usize),
    /// Samples, or a latent that is drawn.
    Input(String),
}

/// All layers in the order of their first use, parameters by network, and what the inputs are.
#[derive(Debug, Default)]
pub(super) struct Networks {
    pub(super) layers: Vec<Layer>,
    pub(super) parameters: BTreeMap<String, usize>,
    pub(super) inputs: BTreeMap<String, [usize; 3]>,
    /// Slopes of the leaky ReLUs.
    pub(super) slopes: BTreeSet<String>,
    places: BTreeMap<(String, Vec<usize>), usize>,
}

impl Networks {
    /// Records scoring and every part of the training of a system, and reads its networks off the tapes.
    ///
    /// # Errors
    /// For sizes that the system does not take.
    pub(super) fn of(info: &Info, config: &Config, options: &Options) -> Result<Self, CliError> {
        let mut states = States::new();
        let mut system = info.build(&mut states, config, options)?;
        let of_model = states.entries().len();
        let defaults = info.defaults;
        system.register_training(&mut states, Training { lr: defaults.lr, betas: defaults.betas }, 0);

        let mut networks = Self::default();
        let scoring = Tape::new();
        let scored = system.score(&scoring, scoring.input("x", &config.images(BATCH)), "");
        scoring.output("score", scored.score);
        networks.read(&simplify(&scoring.finish().map_err(CompileError::from)?), &states, of_model);
        for (number, stage) in system.stages().iter().enumerate() {
            for part in 0..stage.parts.len() {
                let tape = Tape::new();
                record_part(&tape, system.as_ref(), number, part, BATCH);
                networks.read(&simplify(&tape.finish().map_err(CompileError::from)?), &states, of_model);
            }
        }
        for entry in &states.entries()[..of_model] {
            let learned = !entry.name.contains("running_") && !entry.name.starts_with("ema.");
            let network = network_of(entry.name.rsplit_once('.').map_or(&*entry.name, |(layer, _)| layer));
            if learned {
                *networks.parameters.entry(network).or_default() += entry.shape.iter().product::<usize>();
            }
        }
        Ok(networks)
    }

    /// Adds what a tape shows.
    fn read(&mut self, graph: &Graph, states: &States, of_model: usize) {
        let (reader, known) = (Reader::new(graph, states, of_model), self.layers.len());
        self.slopes.extend(graph.nodes.iter().filter_map(|node| match node.op {
            Op::Unary(Unary::LeakyRelu(Num(slope))) => Some(slope.to_string()),
            _ => None,
        }));
        for (id, node) in graph.nodes.iter().enumerate() {
            let Some(name) = &reader.names[id] else { continue };
            let sources = node.inputs.first().map_or(BTreeSet::new(), |&data| self.sources(&reader, data));
            let layer = Layer {
                network: network_of(name),
                kind: kind(&node.op),
                geometry: geometry(&node.op),
                then: BTreeSet::new(),
                shape: reader.shape_after(id),
                sources: BTreeSet::new(),
            };
            let place = *self.places.entry((name.clone(), node.shape.clone())).or_insert_with(|| {
                self.layers.push(layer);
                self.layers.len() - 1
            });
            self.layers[place].sources.extend(sources);
            // Scoring, which is read first, says what follows a layer; training adds its dropout, and
            // decoders that read codes.
            let then = reader.then(id).into_iter().filter(|then| place >= known || *then == Then::Dropout);
            self.layers[place].then.extend(then);
        }
    }

    /// What a value is made of: the layers and inputs that are met first on all ways back.
    fn sources(&mut self, reader: &Reader<'_>, of: NodeId) -> BTreeSet<Source> {
        let (mut found, mut drawn) = (BTreeSet::new(), BTreeMap::new());
        reader.walk_back(of, |id, node| match (&reader.names[id], &node.op) {
            (Some(name), _) => {
                let place = self.places.get(&(name.clone(), node.shape.clone()));
                found.extend(place.map(|&place| Source::Layer(place)));
                false
            }
            (None, Op::Input(name)) => {
                self.inputs.insert(name.clone(), sample_shape(&node.shape));
                found.insert(Source::Input(name.clone()));
                false
            }
            (None, Op::Random(distribution, _)) => {
                let name = match distribution {
                    Distribution::Normal => "z ~ N(0, 1)",
                    Distribution::Uniform => "z ~ U(−1, 1)",
                };
                drawn.insert(name.to_owned(), sample_shape(&node.shape));
                false
            }
            _ => true,
        });
        // Random numbers beside a value (dropout, the noise of a VAE) are no input of their own.
        if found.is_empty() {
            found.extend(drawn.keys().cloned().map(Source::Input));
            self.inputs.extend(drawn);
        }
        found
    }
}

/// A tape with what is needed to find layers on it.
struct Reader<'a> {
    graph: &'a Graph,
    /// Name of the layer that a node is.
    names: Vec<Option<String>>,
    /// New values of states: what leads to them is an update, not a forward pass.
    assigned: BTreeSet<NodeId>,
    /// Who reads a node in the forward pass.
    consumers: Vec<Vec<NodeId>>,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a Graph, states: &States, of_model: usize) -> Self {
        let mut consumers = vec![vec![]; graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate().filter(|(_, node)| !node.scope.starts_with('∇')) {
            node.inputs.iter().for_each(|&input| consumers[input].push(id));
        }
        let assigned = graph.assigns.values().copied().collect();
        let mut reader = Self { graph, names: vec![None; graph.nodes.len()], assigned, consumers };
        for id in 0..graph.nodes.len() {
            reader.names[id] = reader.name(id, states, of_model);
        }
        reader
    }

    /// Calls `go_on` for the nodes that a value depends on, until it says that a way ends.
    fn walk_back(&self, from: NodeId, mut go_on: impl FnMut(NodeId, &Node) -> bool) {
        let (mut open, mut seen) = (vec![from], BTreeSet::new());
        while let Some(id) = open.pop() {
            let node = &self.graph.nodes[id];
            if seen.insert(id) && !self.assigned.contains(&id) && go_on(id, node) {
                open.extend(&node.inputs);
            }
        }
    }

    /// The layer's name: its scope, or the state of the model that it multiplies with.
    fn name(&self, id: NodeId, states: &States, of_model: usize) -> Option<String> {
        let node = &self.graph.nodes[id];
        if !matches!(node.op, Op::Conv(Face::Conv | Face::Transpose, _) | Op::MatMul { .. })
            || node.scope.starts_with('∇')
        {
            return None;
        }
        if !node.scope.is_empty() {
            return Some(node.scope.strip_prefix("ema.").unwrap_or(&node.scope).to_owned());
        }
        let (mut state, mut others) = (None, false);
        self.walk_back(*node.inputs.get(1)?, |other, node| match &node.op {
            Op::State(id) if id.0 < of_model => {
                state = states.name(*id).map(str::to_owned);
                false
            }
            Op::Input(_) | Op::Random(..) | Op::State(_) => {
                others = true;
                false
            }
            _ => {
                others |= self.names[other].is_some();
                !others
            }
        });
        state.filter(|_| !others)
    }

    /// The sample's shape once the layer's own reshape is done.
    fn shape_after(&self, id: NodeId) -> [usize; 3] {
        let mut at = id;
        while let [next] = self.consumers[at][..] {
            let node = &self.graph.nodes[next];
            match node.op {
                Op::Reshape if node.shape.len() == 4 && self.graph.nodes[id].shape[0] == BATCH => {
                    return sample_shape(&node.shape);
                }
                Op::Binary(Binary::Add) => at = next,
                _ => break,
            }
        }
        sample_shape(&self.graph.nodes[id].shape)
    }

    /// Norm, activation, pooling and dropout between a layer and what reads it; of several activations the
    /// nearest, which in a U-Net is that of the way down.
    fn then(&self, id: NodeId) -> BTreeSet<Then> {
        let (mut found, mut open, mut seen) =
            (BTreeSet::new(), VecDeque::from([(id, false)]), BTreeSet::new());
        let mut has_activation = false;
        while let Some((at, active)) = open.pop_front() {
            for &next in &self.consumers[at] {
                let node = &self.graph.nodes[next];
                if self.names[next].is_some() || !seen.insert(next) {
                    continue;
                }
                let mut activate = |name: &'static str, found: &mut BTreeSet<Then>| {
                    let first = !std::mem::replace(&mut has_activation, true);
                    if first {
                        found.insert(Then::Activation(name));
                    }
                    first
                };
                match (&node.op, norm(&node.scope)) {
                    (_, Some(name)) => {
                        if !active {
                            found.insert(Then::Norm(name));
                        }
                        open.push_back((next, active));
                    }
                    (Op::Unary(unary), None) if !active => {
                        if let Some(name) = activation(*unary)
                            && activate(name, &mut found)
                        {
                            open.push_back((next, true));
                        }
                    }
                    (Op::Max { .. }, None) if !active => {
                        activate("softmax", &mut found);
                    }
                    (Op::MaxPool(_), None) => {
                        found.insert(Then::Pool);
                    }
                    (Op::Select, None) if self.is_mask(node.inputs[0]) => {
                        found.insert(Then::Dropout);
                    }
                    (Op::Binary(Binary::Add), None) if !active => open.push_back((next, active)),
                    (Op::Reshape | Op::Broadcast | Op::StopGradient | Op::Concat(_), None) => {
                        open.push_back((next, active));
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// Whether a value is zeros and ones drawn at random.
    fn is_mask(&self, id: NodeId) -> bool {
        let (mut drawn, mut step, mut other) = (false, false, false);
        self.walk_back(id, |id, node| {
            drawn |= matches!(node.op, Op::Random(..));
            step |= matches!(node.op, Op::Unary(Unary::Step));
            other |= matches!(node.op, Op::Input(_)) || self.names[id].is_some();
            !matches!(node.op, Op::Random(..) | Op::Input(_)) && self.names[id].is_none()
        });
        drawn && step && !other
    }
}

fn norm(scope: &str) -> Option<&'static str> {
    let last = scope.rsplit('.').next()?;
    let is =
        |name: &str| last.ends_with(&format!("_{name}")) || last.trim_end_matches(char::is_numeric) == name;
    match () {
        () if is("bn") => Some("BN"),
        () if is("ln") => Some("LN"),
        () => None,
    }
}

fn activation(unary: Unary) -> Option<&'static str> {
    match unary {
        Unary::Relu => Some("ReLU"),
        Unary::LeakyRelu(_) => Some("LReLU"),
        Unary::Tanh => Some("tanh"),
        _ => None,
    }
}

fn kind(op: &Op) -> Kind {
    match op {
        Op::Conv(Face::Conv, _) => Kind::Convolution,
        Op::Conv(..) => Kind::Transposed,
        _ => Kind::Product,
    }
}

fn geometry(op: &Op) -> String {
    // Kernels of signals have height 1.
    let side = |[h, w]: [usize; 2]| if h == w || h == 1 { w.to_string() } else { format!("{h}×{w}") };
    match op {
        Op::Conv(_, Geometry { kernel, stride, .. }) if *stride == [1, 1] => side(*kernel),
        Op::Conv(_, Geometry { kernel, stride, .. }) => {
            format!("{} s{}", side(*kernel), stride[0].max(stride[1]))
        }
        _ => String::new(),
    }
}

/// Channels, height and width of a sample of a batch.
fn sample_shape(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [_, c, h, w] => [c, h, w],
        // Queries of a memory: one for each place of a sample.
        [n, c] => [c, 1, n.div_ceil(BATCH)],
        _ => [shape.iter().skip(1).product(), 1, 1],
    }
}

/// The network that a layer belongs to: its name up to the first part that numbers or places a layer.
fn network_of(layer: &str) -> String {
    const LAYERS: [&str; 9] = ["", "down", "up", "conv", "deconv", "input", "output", "project", "fc"];
    let parts: Vec<_> = layer.split('.').collect();
    let is_layer = |part: &&str| {
        let part = part.trim_end_matches("_bn").trim_end_matches("_ln");
        let stem = part.trim_end_matches(char::is_numeric);
        LAYERS.contains(&stem) || norm(part).is_some()
    };
    let end = parts.iter().position(is_layer).unwrap_or(parts.len()).max(1);
    parts[..end].join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ganomede::models::{Size, find};

    fn networks(name: &str) -> Networks {
        let config = Config { size: Size::square(16), width: 4, latent: 16, ..Config::default() };
        let info = find(name).unwrap();
        Networks::of(info, &config, &Options::new(info.options, []).unwrap()).unwrap()
    }

    /// Networks and inputs that a network reads.
    fn reads(networks: &Networks, network: &str) -> BTreeSet<String> {
        let sources = networks.layers.iter().filter(|l| l.network == network).flat_map(|l| &l.sources);
        let name = |source: &Source| match source {
            Source::Layer(place) => networks.layers[*place].network.clone(),
            Source::Input(name) => name.clone(),
        };
        sources.map(name).filter(|name| name != network).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn networks_read_what_the_papers_say() {
        let ganomaly = networks("ganomaly");
        assert_eq!(reads(&ganomaly, "generator.encoder1"), set(&["x"]));
        assert_eq!(reads(&ganomaly, "generator.decoder"), set(&["generator.encoder1"]));
        assert_eq!(reads(&ganomaly, "generator.encoder2"), set(&["generator.decoder"]));
        assert_eq!(reads(&ganomaly, "discriminator"), set(&["x", "generator.decoder"]));
        let egbad = networks("egbad");
        assert_eq!(reads(&egbad, "generator"), set(&["encoder", "z ~ U(−1, 1)"]));
        assert_eq!(reads(&egbad, "discriminator.x"), set(&["x", "generator"]));
        assert_eq!(reads(&egbad, "discriminator.f"), set(&["discriminator.x", "discriminator.z"]));
        assert_eq!(reads(&networks("vae"), "decoder"), set(&["encoder"]), "noise beside a code is no input");
        let memae = networks("memae");
        assert_eq!(reads(&memae, "decoder"), set(&["memory"]));
        assert_eq!(reads(&memae, "memory"), set(&["encoder"]));
    }

    #[test]
    fn layers_know_what_follows_them() {
        let then = |networks: &Networks, network: &str, at: usize| -> Vec<String> {
            let layer = networks.layers.iter().filter(|l| l.network == network).nth(at).unwrap();
            layer.then.iter().map(ToString::to_string).collect()
        };
        let egbad = networks("egbad");
        assert_eq!(then(&egbad, "discriminator.x", 0), ["LReLU", "dropout"]);
        assert_eq!(then(&egbad, "encoder", 1), ["BN", "LReLU"]);
        assert_eq!(then(&egbad, "discriminator.verdict", 0), [""; 0]);
        assert_eq!(then(&networks("deep-svdd"), "encoder", 0), ["BN", "LReLU", "max-pool"]);
        assert_eq!(then(&networks("deep-svdd"), "encoder", 2), [""; 0]);
        assert_eq!(then(&networks("memae"), "memory", 0), ["softmax"]);
        let ganomaly = networks("ganomaly");
        assert_eq!(then(&ganomaly, "generator.decoder", 2), ["tanh"]);
        let project = ganomaly.layers.iter().find(|l| l.network == "generator.decoder").unwrap();
        assert_eq!(project.shape, [8, 4, 4], "what the linear layer's values are reshaped to");
    }

    #[test]
    fn skips_of_a_u_net_are_second_sources() {
        let dagan = networks("dagan");
        let joins = |network: &str| {
            let layers = dagan.layers.iter().filter(|l| l.network == network);
            layers.filter(|l| l.sources.iter().filter(|s| matches!(s, Source::Layer(_))).count() == 2).count()
        };
        // Four levels: all ups but the innermost.
        assert_eq!(joins("generator"), 3);
    }

    #[test]
    fn layers_belong_to_networks() {
        for (layer, network) in [
            ("generator.encoder1.down2", "generator.encoder1"),
            ("generator.encoder1.down2_bn", "generator.encoder1"),
            ("generator.up1.conv1", "generator"),
            ("encoder.0", "encoder"),
            ("encoder.bn1", "encoder"),
            ("discriminator.verdict.0", "discriminator.verdict"),
            ("discriminator.verdict", "discriminator.verdict"),
            ("memory", "memory"),
        ] {
            assert_eq!(network_of(layer), network, "{layer}");
        }
    }
}
