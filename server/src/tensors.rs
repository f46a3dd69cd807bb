//! Tensors of the Open Inference Protocol: numbers in JSON, or bytes behind it (the binary extension).

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::refusal::Refusal;

/// Says how many bytes of a body are JSON; the rest are tensors.
pub(crate) const HEADER_LENGTH: &str = "inference-header-content-length";
/// Elements of a tensor.
const MOST: usize = 1 << 30;

/// Types of elements that are read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Kind {
    #[serde(rename = "UINT8")]
    U8,
    #[serde(rename = "UINT16")]
    U16,
    #[serde(rename = "FP32")]
    F32,
    #[serde(rename = "FP64")]
    F64,
    #[serde(rename = "BYTES")]
    Bytes,
}

impl Kind {
    /// Bytes of an element; each element of `BYTES` says its own.
    fn width(self) -> Option<usize> {
        match self {
            Self::U8 => Some(1),
            Self::U16 => Some(2),
            Self::F32 => Some(4),
            Self::F64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// An inference request.
#[derive(Debug, Deserialize)]
pub(crate) struct Infer {
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) parameters: Parameters,
    pub(crate) inputs: Vec<Input>,
    #[serde(default)]
    pub(crate) outputs: Vec<Wanted>,
}

/// What the binary extension adds; other parameters are nobody's here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Parameters {
    pub(crate) binary_data_size: Option<usize>,
    pub(crate) binary_data: Option<bool>,
    pub(crate) binary_data_output: Option<bool>,
    /// Shared memory, which this server has none of.
    pub(crate) shared_memory_region: Option<Value>,
}

/// A tensor that is sent.
#[derive(Debug, Deserialize)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) datatype: Kind,
    #[serde(default)]
    pub(crate) parameters: Parameters,
    pub(crate) data: Option<Value>,
}

/// A tensor that is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) parameters: Parameters,
}

/// Elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Elements {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<Bytes>),
}

/// A request and the elements of its inputs.
pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<(Infer, Vec<Elements>), Refusal> {
    let length = match headers.get(HEADER_LENGTH) {
        None => body.len(),
        Some(length) => {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            length.filter(|&length| length <= body.len()).ok_or_else(|| {
                Refusal::bad(format!("{HEADER_LENGTH} does not fit this body of {} bytes", body.len()))
            })?
        }
    };
    let infer: Infer = serde_json::from_slice(&body[..length])
        .map_err(|e| Refusal::bad(format!("the request is no inference request: {e}")))?;
    let mut rest = body.slice(length..);
    let mut elements = vec![];
    for input in &infer.inputs {
        elements.push(input.elements(&mut rest)?);
    }
    match rest.is_empty() {
        true => Ok((infer, elements)),
        false => Err(Refusal::bad(format!("{} bytes belong to no input", rest.len()))),
    }
}

impl Input {
    fn wrong(&self, what: impl std::fmt::Display) -> Refusal {
        Refusal::bad(format!("input '{}': {what}", self.name.escape_debug()))
    }

    /// Elements by the shape.
    fn count(&self) -> Result<usize, Refusal> {
        let count = self.shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        count.filter(|&count| count <= MOST).ok_or_else(|| self.wrong("the shape is too large"))
    }

    fn elements(&self, rest: &mut Bytes) -> Result<Elements, Refusal> {
        if self.parameters.shared_memory_region.is_some() {
            return Err(self.wrong("this server has no shared memory; send the data"));
        }
        let count = self.count()?;
        match (self.parameters.binary_data_size, &self.data) {
            (Some(size), None) if size <= rest.len() => self.of_bytes(rest.split_to(size), count),
            (Some(size), None) => {
                Err(self.wrong(format!("{size} bytes are announced and {} are left", rest.len())))
            }
            (None, Some(data)) => self.of_json(data, count),
            _ => Err(self.wrong("give `data`, or bytes and `binary_data_size`, and not both")),
        }
    }

    fn of_bytes(&self, bytes: Bytes, count: usize) -> Result<Elements, Refusal> {
        if let Some(width) = self.datatype.width()
            && bytes.len() != count * width
        {
            return Err(self.wrong(format!("{} bytes are no {count} elements", bytes.len())));
        }
        Ok(match self.datatype {
            Kind::U8 => Elements::U8(bytes.to_vec()),
            Kind::U16 => Elements::U16(parts(&bytes).map(u16::from_le_bytes).collect()),
            Kind::F32 => Elements::F32(parts(&bytes).map(f32::from_le_bytes).collect()),
            Kind::F64 => Elements::F64(parts(&bytes).map(f64::from_le_bytes).collect()),
            Kind::Bytes => {
                let (mut rest, mut elements) = (bytes, vec![]);
                while let Some(length) = rest.first_chunk::<4>().copied() {
                    let length = u32::from_le_bytes(length) as usize;
                    if rest.len() - 4 < length || elements.len() == count {
                        return Err(self.wrong(format!("the bytes are no {count} elements")));
                    }
                    let _ = rest.split_to(4);
                    elements.push(rest.split_to(length));
                }
                if elements.len() != count || !rest.is_empty() {
                    return Err(self.wrong(format!("the bytes are no {count} elements")));
                }
                Elements::Bytes(elements)
            }
        })
    }

    fn of_json(&self, data: &Value, count: usize) -> Result<Elements, Refusal> {
        let mut flat = vec![];
        flatten(data, &mut flat, 0).map_err(|what| self.wrong(what))?;
        if flat.len() != count {
            return Err(self.wrong(format!("{} elements where the shape has {count}", flat.len())));
        }
        let whole = |most: u64| {
            let whole = move |value: &&Value| {
                value
                    .as_u64()
                    .filter(|&v| v <= most)
                    .ok_or_else(|| format!("{value} is no whole number to {most}"))
            };
            flat.iter().map(move |value| whole(value)).collect::<Result<Vec<u64>, String>>()
        };
        let real = || {
            let real = |value: &&Value| value.as_f64().ok_or_else(|| format!("{value} is not a number"));
            flat.iter().map(real).collect::<Result<Vec<f64>, String>>()
        };
        Ok(match self.datatype {
            Kind::U8 => {
                Elements::U8(whole(255).map_err(|e| self.wrong(e))?.into_iter().map(|v| v as u8).collect())
            }
            Kind::U16 => {
                let values = whole(65_535).map_err(|e| self.wrong(e))?;
                Elements::U16(values.into_iter().map(|v| v as u16).collect())
            }
            Kind::F32 => {
                Elements::F32(real().map_err(|e| self.wrong(e))?.into_iter().map(|v| v as f32).collect())
            }
            Kind::F64 => Elements::F64(real().map_err(|e| self.wrong(e))?),
            Kind::Bytes => {
                return Err(self.wrong("image files have no form in JSON; send them as binary data"));
            }
        })
    }
}

/// Pieces of `N` bytes.
fn parts<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Numbers of lists within lists, in order.
fn flatten<'v>(data: &'v Value, flat: &mut Vec<&'v Value>, depth: usize) -> Result<(), String> {
    match data {
        Value::Array(values) if depth < 8 => {
            values.iter().try_for_each(|value| flatten(value, flat, depth + 1))
        }
        Value::Number(_) => {
            flat.push(data);
            Ok(())
        }
        _ => Err("`data` is a list of numbers, or lists of them".to_owned()),
    }
}

/// A tensor that is answered.
pub(crate) struct Output {
    pub(crate) name: &'static str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<usize>,
    /// For JSON.
    pub(crate) values: Vec<Value>,
    /// For bytes, little-endian.
    pub(crate) bytes: Vec<u8>,
}
