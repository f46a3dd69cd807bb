//! ONNX graphs under construction: operators, constants and names.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::{Dimension, dimension::Value as Size};
use super::proto::type_proto::{Tensor as TensorType, Value as TypeValue};
use super::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

/// A value's name. Names are unique in a graph.
pub(super) type Name = String;

/// A dimension as interfaces declare it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// So many.
    Known(usize),
    /// Whatever the caller has.
    Free(&'static str),
}

/// An attribute of an operator.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// An attribute of several numbers.
pub(super) fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: values.into_iter().map(|value| value as i64).collect(),
        ..AttributeProto::default()
    }
}

/// An attribute that is a real number.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float as i32),
        f: Some(value),
        ..AttributeProto::default()
    }
}

/// An attribute that is a word.
pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::String as i32),
        s: Some(value.as_bytes().to_vec()),
        ..AttributeProto::default()
    }
}

/// A graph under construction.
#[derive(Default)]
pub(super) struct Builder {
    graph: GraphProto,
    /// Constants that stand in the graph already, by kind, shape and bytes.
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), Name>,
    counts: BTreeMap<String, usize>,
    /// Part of the model that operators belong to, the head of their names.
    pub(super) scope: String,
}

impl Builder {
    /// A name of its own.
    fn fresh(&mut self, stem: &str) -> Name {
        let count = self.counts.entry(stem.to_owned()).or_insert(0);
        *count += 1;
        format!("{stem}_{count}")
    }

    /// Appends an operator of several outputs.
    pub(super) fn ops(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        outputs: usize,
    ) -> Vec<Name> {
        let stem = if self.scope.is_empty() { op.to_owned() } else { format!("{}/{op}", self.scope) };
        let name = self.fresh(&stem);
        let output: Vec<Name> = match outputs {
            1 => vec![format!("{name}:0")],
            _ => (0..outputs).map(|i| format!("{name}:{i}")).collect(),
        };
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: output.clone(),
            name: Some(name),
            op_type: Some(op.to_owned()),
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    /// Appends an operator of one output.
    pub(super) fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> Name {
        self.ops(op, inputs, attributes, 1).swap_remove(0)
    }

    /// Appends an operator without attributes.
    pub(super) fn simple(&mut self, op: &str, inputs: &[&str]) -> Name {
        self.op(op, inputs, vec![])
    }

    /// Stores a tensor under a name of the caller's.
    pub(super) fn store(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(tensor(name, DataType::Float, shape, bytes_of(values)));
    }

    /// A tensor that is written once, however often it is asked for.
    fn constant(&mut self, kind: DataType, shape: &[usize], bytes: Vec<u8>) -> Name {
        let key = (kind as i32, shape.iter().map(|&d| d as i64).collect::<Vec<_>>(), bytes);
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.fresh("constant");
        self.graph.initializer.push(tensor(&name, kind, shape, key.2.clone()));
        self.constants.insert(key, name.clone());
        name
    }

    /// Real numbers of a shape.
    pub(super) fn floats(&mut self, shape: &[usize], values: &[f32]) -> Name {
        self.constant(DataType::Float, shape, bytes_of(values))
    }

    /// A real number.
    pub(super) fn scalar(&mut self, value: f32) -> Name {
        self.floats(&[], &[value])
    }

    /// Real numbers in double precision.
    pub(super) fn doubles(&mut self, shape: &[usize], values: &[f64]) -> Name {
        self.constant(DataType::Double, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Whole numbers, a vector.
    pub(super) fn whole(&mut self, values: &[i64]) -> Name {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(DataType::Int64, &[values.len()], bytes)
    }

    /// A whole number without dimensions.
    pub(super) fn whole_scalar(&mut self, value: i64) -> Name {
        self.constant(DataType::Int64, &[], value.to_le_bytes().to_vec())
    }

    /// The same values as numbers of another kind.
    pub(super) fn cast(&mut self, value: &str, kind: DataType) -> Name {
        self.op("Cast", &[value], vec![int("to", kind as i64)])
    }

    /// A dimension of a value, a vector of one number.
    pub(super) fn extent(&mut self, value: &str, axis: usize) -> Name {
        self.op("Shape", &[value], vec![int("start", axis as i64), int("end", axis as i64 + 1)])
    }

    /// Declares an input.
    pub(super) fn input(&mut self, name: &str, kind: DataType, shape: &[Extent], about: &str) {
        self.graph.input.push(declared(name, kind, shape, about));
    }

    /// Declares an output under a name of its own.
    pub(super) fn output(&mut self, name: &str, value: &str, kind: DataType, shape: &[Extent], about: &str) {
        self.graph.node.push(NodeProto {
            input: vec![value.to_owned()],
            output: vec![name.to_owned()],
            name: Some(format!("output/{name}")),
            op_type: Some("Identity".to_owned()),
            ..NodeProto::default()
        });
        self.graph.output.push(declared(name, kind, shape, about));
    }

    /// The graph, without constants that nothing reads.
    pub(super) fn finish(self, name: &str) -> GraphProto {
        let mut graph = GraphProto { name: Some(name.to_owned()), ..self.graph };
        let read: HashSet<&str> =
            graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        let constants = std::mem::take(&mut graph.initializer).into_iter();
        let is_read = |tensor: &TensorProto| tensor.name.as_deref().is_some_and(|name| read.contains(name));
        let kept = constants.filter(is_read).collect();
        GraphProto { initializer: kept, ..graph }
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn tensor(name: &str, kind: DataType, shape: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(kind as i32),
        dims: shape.iter().map(|&d| d as i64).collect(),
        raw_data: Some(bytes),
        ..TensorProto::default()
    }
}

fn declared(name: &str, kind: DataType, shape: &[Extent], about: &str) -> ValueInfoProto {
    let dimension = |extent: &Extent| Dimension {
        denotation: None,
        value: Some(match *extent {
            Extent::Known(size) => Size::DimValue(size as i64),
            Extent::Free(name) => Size::DimParam(name.to_owned()),
        }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            denotation: None,
            value: Some(TypeValue::TensorType(TensorType {
                elem_type: Some(kind as i32),
                shape: Some(TensorShapeProto { dim: shape.iter().map(dimension).collect() }),
            })),
        }),
        doc_string: Some(about.to_owned()),
        metadata_props: vec![],
    }
}
