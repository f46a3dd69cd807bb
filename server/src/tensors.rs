//! Tensors of the Open Inference Protocol: numbers in JSON, or bytes behind it (the binary extension).

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
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
    pub(crate) data: Option<Flat>,
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
            (None, Some(Flat(data))) => self.of_json(data, count),
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

    fn of_json(&self, data: &[f64], count: usize) -> Result<Elements, Refusal> {
        if data.len() != count {
            return Err(self.wrong(format!("{} elements where the shape has {count}", data.len())));
        }
        let whole = |most: f64| match data.iter().find(|v| !(0.0..=most).contains(*v) || v.fract() != 0.0) {
            Some(value) => Err(self.wrong(format!("{value} is not a whole number to {most}"))),
            None => Ok(()),
        };
        Ok(match self.datatype {
            Kind::U8 => {
                whole(255.0)?;
                Elements::U8(data.iter().map(|&v| v as u8).collect())
            }
            Kind::U16 => {
                whole(65_535.0)?;
                Elements::U16(data.iter().map(|&v| v as u16).collect())
            }
            Kind::F32 => Elements::F32(data.iter().map(|&v| v as f32).collect()),
            Kind::F64 => Elements::F64(data.to_vec()),
            Kind::Bytes => {
                return Err(self.wrong("files of BYTES have no form in JSON; send them as binary data"));
            }
        })
    }
}

/// Pieces of `N` bytes.
fn parts<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Numbers of lists within lists, in order, and no more than they take.
#[derive(Debug, Default)]
pub(crate) struct Flat(Vec<f64>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Self::default();
        Nested(&mut flat.0, 8).deserialize(deserializer)?;
        Ok(flat)
    }
}

/// Numbers go to the list; lists may be this deep.
struct Nested<'f>(&'f mut Vec<f64>, usize);

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, or a list of numbers or of such lists")
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.push(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.push(value as f64);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.push(value as f64);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Self(flat, depth) = self;
        let deeper =
            depth.checked_sub(1).ok_or_else(|| A::Error::custom("lists within lists go too deep"))?;
        while values.next_element_seed(Nested(flat, deeper))?.is_some() {}
        Ok(())
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
