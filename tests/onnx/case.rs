//! Cases as `vectors.py` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value as Json;

/// All cases of one version of the wheel.
#[derive(Deserialize)]
pub(crate) struct Document {
    /// Version of ONNX that the vectors are from.
    pub(crate) onnx: String,
    /// Cases in the wheel's order.
    pub(crate) cases: Vec<Case>,
}

/// A model with one set of inputs and the outputs that belong to it.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Why the script could not write it down; the rest is empty then.
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) ops: Vec<String>,
    #[serde(default)]
    pub(crate) opset: i64,
    #[serde(default)]
    pub(crate) nodes: Vec<Node>,
    #[serde(default)]
    pub(crate) given: BTreeMap<String, Data>,
    #[serde(default)]
    pub(crate) wanted: Vec<(String, Data)>,
}

/// An operator with its attributes.
#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) op: String,
    #[serde(rename = "in")]
    pub(crate) inputs: Vec<String>,
    #[serde(rename = "out")]
    pub(crate) outputs: Vec<String>,
    pub(crate) attributes: BTreeMap<String, Json>,
}

/// What a tensor holds.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    F32,
    Bool,
    Int,
}

/// A tensor: integers and booleans in place, f32 by name.
#[derive(Deserialize, Clone)]
pub(crate) struct Data {
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
    #[serde(default)]
    pub(crate) values: Vec<i64>,
    #[serde(default)]
    pub(crate) tensor: String,
}

/// The cases with their f32 tensors.
pub(crate) struct Vectors {
    pub(crate) document: Document,
    bytes: Vec<u8>,
}

impl Vectors {
    /// Reads what `vectors.py` wrote to a folder.
    pub(crate) fn read(folder: &Path) -> Self {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; `make onnx` writes it", path.display()))
        };
        let document =
            serde_json::from_slice(&read("vectors.json")).expect("vectors.json is as vectors.py writes it");
        Self { document, bytes: read("vectors.safetensors") }
    }

    /// The f32 tensors by name.
    pub(crate) fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("vectors.safetensors is whole")
    }
}

impl Data {
    /// All elements as f32; booleans are 0 or 1.
    pub(crate) fn floats(&self, tensors: &SafeTensors<'_>) -> Vec<f32> {
        if self.kind != Kind::F32 {
            return self.values.iter().map(|&v| v as f32).collect();
        }
        let view = tensors.tensor(&self.tensor).unwrap_or_else(|e| panic!("{}: {e}", self.tensor));
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}
