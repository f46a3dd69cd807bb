//! Operators on integers that are known while recording, and those that make them.

use crate::case::Kind;
use crate::graph::{Call, Outputs, Value};

/// Records the operator where it works on known integers alone.
pub(crate) fn record<'t>(call: &Call<'_, 't>) -> Option<Outputs<'t>> {
    let op = call.node.op.as_str();
    match op {
        "Shape" => {
            let shape = shape(&call.inputs[0])?;
            let bound = |v: i64| {
                (if v < 0 { v + shape.len() as i64 } else { v }).clamp(0, shape.len() as i64) as usize
            };
            let (start, end) = (bound(call.int("start", 0)), bound(call.int("end", shape.len() as i64)));
            let sizes: Vec<i64> = shape[start..end.max(start)].iter().map(|&n| n as i64).collect();
            return Some(Ok(vec![Value::Ints(vec![sizes.len()], sizes)]));
        }
        "Size" => {
            let len = shape(&call.inputs[0])?.iter().product::<usize>();
            return Some(Ok(vec![Value::Ints(vec![], vec![len as i64])]));
        }
        "Constant" => return Some(constant(call)),
        "ConstantOfShape" => return Some(constant_of_shape(call)),
        _ => {}
    }
    let all: Option<Vec<(&Vec<usize>, &Vec<i64>)>> = call
        .inputs
        .iter()
        .map(|value| match value {
            Value::Ints(shape, ints) => Some((shape, ints)),
            _ => None,
        })
        .collect();
    let all = all.filter(|all| !all.is_empty())?;
    let (shape, ints) = all[0];
    let rank = shape.len();
    Some(Ok(vec![match op {
        "Identity" => Value::Ints(shape.clone(), ints.clone()),
        "Cast" if matches!(call.int("to", 0), 6 | 7) => Value::Ints(shape.clone(), ints.clone()),
        "Reshape" if rank <= 1 && all[1].1.len() <= 1 => {
            Value::Ints(vec![1; all[1].1.len()], ints.clone()).flat()
        }
        "Squeeze" if ints.len() == 1 => Value::Ints(vec![], ints.clone()),
        "Unsqueeze" if rank == 0 => Value::Ints(vec![1], ints.clone()),
        "Concat" if rank == 1 => {
            let joined: Vec<i64> = all.iter().flat_map(|(_, ints)| ints.iter().copied()).collect();
            Value::Ints(vec![joined.len()], joined)
        }
        "Gather" if rank == 1 => {
            let pick = |&i: &i64| ints[(if i < 0 { i + ints.len() as i64 } else { i }) as usize];
            Value::Ints(all[1].0.clone(), all[1].1.iter().map(pick).collect())
        }
        "Slice" if rank == 1 && all.len() >= 3 && all.get(4).is_none_or(|(_, step)| step[0] == 1) => {
            let bound =
                |v: i64| (if v < 0 { v + ints.len() as i64 } else { v }).clamp(0, ints.len() as i64) as usize;
            let (start, end) = (bound(all[1].1[0]), bound(all[2].1[0]));
            let part = ints[start..end.max(start)].to_vec();
            Value::Ints(vec![part.len()], part)
        }
        "Range" if all.len() == 3 && all[2].1[0] > 0 => {
            let range: Vec<i64> = (ints[0]..all[1].1[0]).step_by(all[2].1[0] as usize).collect();
            Value::Ints(vec![range.len()], range)
        }
        "ReduceProd" => Value::Ints(vec![], vec![ints.iter().product()]),
        "Neg" => Value::Ints(shape.clone(), ints.iter().map(|v| -v).collect()),
        "Add" | "Sub" | "Mul" | "Div" if all.len() == 2 => {
            let (other_shape, other) = all[1];
            if shape != other_shape && ints.len() != 1 && other.len() != 1 {
                return None;
            }
            let n = ints.len().max(other.len());
            let at = |list: &[i64], i: usize| list[if list.len() == 1 { 0 } else { i }];
            let value = |i| match (op, at(ints, i), at(other, i)) {
                ("Add", a, b) => Some(a + b),
                ("Sub", a, b) => Some(a - b),
                ("Mul", a, b) => Some(a * b),
                (_, a, b) => a.checked_div(b),
            };
            let shape =
                if ints.len() >= other.len() && rank >= other_shape.len() { shape } else { other_shape };
            match (0..n).map(value).collect() {
                Some(values) => Value::Ints(shape.clone(), values),
                None => return None,
            }
        }
        _ => return None,
    }]))
}

impl Value<'_> {
    /// As a list where it is one.
    fn flat(self) -> Self {
        match self {
            Value::Ints(shape, ints) if !shape.is_empty() => Value::Ints(vec![ints.len()], ints),
            other => other,
        }
    }
}

/// Sizes of any value.
pub(crate) fn shape(value: &Value<'_>) -> Option<Vec<usize>> {
    match value {
        Value::Tensor(tensor) => Some(tensor.shape()),
        Value::Ints(shape, _) => Some(shape.clone()),
        Value::Absent => None,
    }
}

fn constant<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    if let Some(list) = call.list("value_ints") {
        return Ok(vec![Value::Ints(vec![list.len()], list)]);
    }
    if call.node.attributes.contains_key("value_int") {
        return Ok(vec![Value::Ints(vec![], vec![call.int("value_int", 0)])]);
    }
    if call.node.attributes.contains_key("value_float") {
        return Ok(vec![Value::Tensor(call.tape.constant(call.float("value_float", 0.0)))]);
    }
    let data = call.data("value").ok_or("a constant of another kind")?;
    if data.kind == Kind::Int {
        return Ok(vec![Value::Ints(data.shape, data.values)]);
    }
    let values = data.floats(call.tensors);
    match values.first() {
        Some(&first) if values.iter().all(|v| v.to_bits() == first.to_bits()) => {
            Ok(vec![Value::Tensor(call.tape.full(first, &data.shape))])
        }
        _ => Err("constants of several numbers".to_owned()),
    }
}

fn constant_of_shape<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let sizes = call.ints(0)?.ok_or("no shape")?;
    let shape: Vec<usize> = sizes.iter().map(|&n| n as usize).collect();
    if shape.contains(&0) {
        return Err("an empty tensor".to_owned());
    }
    match call.data("value") {
        Some(data) if data.kind == Kind::Int => {
            Ok(vec![Value::Ints(shape.clone(), vec![data.values[0]; shape.iter().product()])])
        }
        Some(data) => Ok(vec![Value::Tensor(call.tape.full(data.floats(call.tensors)[0], &shape))]),
        None => Ok(vec![Value::Tensor(call.tape.full(0.0, &shape))]),
    }
}
