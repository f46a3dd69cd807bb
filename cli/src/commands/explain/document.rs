//! `explain --svg FILE --json`: the networks of a system as data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::networks::{Networks, Source};

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct NetworksDocument<'a> {
    pub(super) system: &'static str,
    /// The picture that was written.
    pub(super) svg: PathBuf,
    /// Learned numbers of each network.
    parameters: &'a BTreeMap<String, usize>,
    /// Channels, height and width of what goes in.
    inputs: &'a BTreeMap<String, [usize; 3]>,
    layers: Vec<Layer<'a>>,
}

#[derive(Debug, Serialize)]
struct Layer<'a> {
    network: &'a str,
    kind: &'static str,
    /// Kernel and stride, empty for products.
    geometry: &'a str,
    /// Norm, activation, pooling, dropout.
    then: Vec<String>,
    /// Channels, height and width of what comes out.
    shape: [usize; 3],
    /// Places of the layers, and names of the inputs, whose values it reads.
    from: Vec<From<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum From<'a> {
    Layer(usize),
    Input(&'a str),
}

impl<'a> NetworksDocument<'a> {
    pub(super) fn new(system: &'static str, svg: PathBuf, networks: &'a Networks) -> Self {
        let from = |source: &'a Source| match source {
            Source::Layer(place) => From::Layer(*place),
            Source::Input(name) => From::Input(name),
        };
        let layers = networks.layers.iter().map(|layer| Layer {
            network: &layer.network,
            kind: layer.kind.name(),
            geometry: &layer.geometry,
            then: layer.then.iter().map(ToString::to_string).collect(),
            shape: layer.shape,
            from: layer.sources.iter().map(from).collect(),
        });
        let (parameters, inputs) = (&networks.parameters, &networks.inputs);
        Self { system, svg, parameters, inputs, layers: layers.collect() }
    }
}
