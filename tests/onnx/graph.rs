//! From a case to the tape: values by name, nodes in order.

use std::collections::BTreeMap;

use ganomede::tape::{Tape, Tensor};
use safetensors::SafeTensors;
use serde_json::Value as Json;

use crate::case::{Case, Data, Kind, Node};
use crate::{attention, ints, loss, nn, ops};

/// A value of a graph.
#[derive(Clone, Debug)]
pub(crate) enum Value<'t> {
    /// Numbers of the tape; booleans are 0 and 1.
    Tensor(Tensor<'t>),
    /// Integers that are known while recording: shapes, axes, indices.
    Ints(Vec<usize>, Vec<i64>),
    /// An optional input that is not there.
    Absent,
}

/// What a node gives, or why the tape does not express it.
pub(crate) type Outputs<'t> = Result<Vec<Value<'t>>, String>;

/// A node with its values.
pub(crate) struct Call<'a, 't> {
    pub(crate) tape: &'t Tape,
    pub(crate) node: &'a Node,
    pub(crate) opset: i64,
    pub(crate) inputs: Vec<Value<'t>>,
    pub(crate) given: &'a BTreeMap<String, Data>,
    pub(crate) tensors: &'a SafeTensors<'a>,
}

/// Records a case and returns its outputs.
pub(crate) fn record<'t>(tape: &'t Tape, case: &Case, tensors: &SafeTensors<'_>) -> Outputs<'t> {
    let mut values: BTreeMap<&str, Value<'t>> = BTreeMap::new();
    for (name, data) in &case.given {
        let value = match data.kind {
            Kind::Int => Value::Ints(data.shape.clone(), data.values.clone()),
            Kind::Bool | Kind::F32 if data.shape.contains(&0) => return Err("an empty tensor".to_owned()),
            Kind::Bool | Kind::F32 => Value::Tensor(tape.input(name, &data.shape)),
        };
        values.insert(name, value);
    }
    for node in &case.nodes {
        let inputs = node
            .inputs
            .iter()
            .map(|name| match (name.as_str(), values.get(name.as_str())) {
                ("", _) => Ok(Value::Absent),
                (_, Some(value)) => Ok(value.clone()),
                _ => Err(format!("'{name}' is not defined")),
            })
            .collect::<Result<_, String>>()?;
        let call = Call { tape, node, opset: case.opset, inputs, given: &case.given, tensors };
        let outputs = call.outputs()?;
        if outputs.len() < node.outputs.iter().filter(|name| !name.is_empty()).count() {
            return Err(format!("{}: an output that only training needs", node.op));
        }
        values.extend(node.outputs.iter().map(String::as_str).zip(outputs));
    }
    let wanted = case.wanted.iter();
    let outputs: Vec<_> =
        wanted.map(|(name, _)| values.remove(name.as_str()).unwrap_or(Value::Absent)).collect();
    for (value, (_, want)) in outputs.iter().zip(&case.wanted) {
        if want.shape.contains(&0) {
            return Err("an empty tensor".to_owned());
        }
        if matches!(value, Value::Ints(..)) && want.kind != Kind::Int {
            return Err("integers where floats are wanted".to_owned());
        }
        if matches!(value, Value::Tensor(_)) && want.kind == Kind::Int {
            return Err("integers as data".to_owned());
        }
    }
    Ok(outputs)
}

impl<'t> Call<'_, 't> {
    fn outputs(&self) -> Outputs<'t> {
        let found = ints::record(self)
            .or_else(|| ops::record(self))
            .or_else(|| nn::record(self))
            .or_else(|| loss::record(self))
            .or_else(|| attention::record(self));
        found.unwrap_or_else(|| Err(format!("no operation like {}", self.node.op)))
    }

    /// Input `i` as numbers of the tape.
    pub(crate) fn tensor(&self, i: usize) -> Result<Tensor<'t>, String> {
        match self.inputs.get(i) {
            Some(Value::Tensor(tensor)) => Ok(*tensor),
            Some(Value::Ints(..)) => Err("integers as data".to_owned()),
            _ => Err(format!("{}: input {i} is missing", self.node.op)),
        }
    }

    /// Input `i` as numbers of the tape where it is there.
    pub(crate) fn optional(&self, i: usize) -> Result<Option<Tensor<'t>>, String> {
        match self.inputs.get(i) {
            None | Some(Value::Absent) => Ok(None),
            _ => self.tensor(i).map(Some),
        }
    }

    /// Input `i` as one number that is known, where it is there: numbers that are given count as known.
    pub(crate) fn scalar(&self, i: usize) -> Result<Option<f32>, String> {
        match (self.inputs.get(i), self.node.inputs.get(i).and_then(|name| self.given.get(name))) {
            (None | Some(Value::Absent), _) => Ok(None),
            (_, Some(data)) => Ok(data.floats(self.tensors).first().copied()),
            _ => Err(format!("{}: input {i} is known only when it runs", self.node.op)),
        }
    }

    /// Input `i` as numbers that are known, where it is there.
    pub(crate) fn floats(&self, i: usize) -> Option<Vec<f32>> {
        self.given.get(self.node.inputs.get(i)?).map(|data| data.floats(self.tensors))
    }

    /// All inputs as numbers of the tape.
    pub(crate) fn all(&self) -> Result<Vec<Tensor<'t>>, String> {
        (0..self.inputs.len()).map(|i| self.tensor(i)).collect()
    }

    /// Input `i` as integers that are known, where it is there.
    pub(crate) fn ints(&self, i: usize) -> Result<Option<Vec<i64>>, String> {
        match self.inputs.get(i) {
            None | Some(Value::Absent) => Ok(None),
            Some(Value::Ints(_, ints)) => Ok(Some(ints.clone())),
            Some(Value::Tensor(_)) => Err(format!("{}: input {i} is known only when it runs", self.node.op)),
        }
    }

    /// An integer attribute.
    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.node.attributes.get(name).and_then(Json::as_i64).unwrap_or(default)
    }

    /// A number.
    pub(crate) fn float(&self, name: &str, default: f32) -> f32 {
        match self.node.attributes.get(name) {
            Some(Json::Number(n)) => n.as_f64().map_or(default, |v| v as f32),
            Some(Json::String(s)) => s.parse().unwrap_or(default),
            _ => default,
        }
    }

    /// A word.
    pub(crate) fn word(&self, name: &str, default: &'static str) -> String {
        self.node.attributes.get(name).and_then(Json::as_str).unwrap_or(default).to_owned()
    }

    /// Integers of an attribute, where it is there.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<i64>> {
        self.node.attributes.get(name)?.as_array().map(|list| list.iter().filter_map(Json::as_i64).collect())
    }

    /// Integers that newer versions of an operator take as input `i` and older ones as an attribute.
    pub(crate) fn list_or_input(&self, name: &str, i: usize) -> Result<Option<Vec<i64>>, String> {
        match self.list(name) {
            Some(list) => Ok(Some(list)),
            None => self.ints(i),
        }
    }

    /// A tensor of an attribute.
    pub(crate) fn data(&self, name: &str) -> Option<Data> {
        self.node.attributes.get(name).and_then(|json| serde_json::from_value(json.clone()).ok())
    }

    /// An axis from either end.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, String> {
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(at).ok().filter(|&at| at <= rank).ok_or_else(|| format!("axis {axis} of rank {rank}"))
    }
}

/// One tensor as the only output.
pub(crate) fn one(tensor: Tensor<'_>) -> Outputs<'_> {
    Ok(vec![Value::Tensor(tensor)])
}
