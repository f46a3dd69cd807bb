//! What `torch.save` writes as `data.pkl`, read without executing anything: a stack machine of the pickle
//! operations that such files need, which knows ordered dictionaries, storages and how tensors are rebuilt of
//! them. Every other global is refused by its name, wherever it stands.
//!
//! An operation makes at most one value, so that values are as few as the file has bytes; values refer to
//! each other by number, so that a dictionary that holds itself is no more than that.

use std::collections::HashMap;

/// Number of a value.
pub(super) type Id = usize;

/// Element types of storages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    /// One that weights do not have, of so many bytes.
    Other(&'static str, u64),
}

/// Names of the types of storages.
const STORAGES: [(&str, Kind); 10] = [
    ("DoubleStorage", Kind::F64),
    ("FloatStorage", Kind::F32),
    ("HalfStorage", Kind::F16),
    ("BFloat16Storage", Kind::Bf16),
    ("LongStorage", Kind::Other("int64", 8)),
    ("IntStorage", Kind::Other("int32", 4)),
    ("ShortStorage", Kind::Other("int16", 2)),
    ("CharStorage", Kind::Other("int8", 1)),
    ("ByteStorage", Kind::Other("uint8", 1)),
    ("BoolStorage", Kind::Other("bool", 1)),
];

impl Kind {
    /// As PyTorch calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::Other(name, _) => name,
        }
    }

    /// Bytes of an element.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(_, bytes) => bytes,
        }
    }
}

/// A view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) kind: Kind,
    /// The storage's name in the archive.
    pub(super) key: String,
    /// Elements of the storage.
    pub(super) length: u64,
    /// The first element.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    /// Elements between neighbours, of each dimension.
    pub(super) stride: Vec<u64>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Tensor(Box<View>),
    Global(Global),
    /// A view of nothing yet.
    Storage(Box<View>),
}

/// What a file may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Tensor,
    Parameter,
    Storage(Kind),
}

impl Global {
    fn of(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::Tensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::Parameter),
            ("torch", name) => {
                STORAGES.iter().find(|(known, _)| *known == name).map(|(_, kind)| Self::Storage(*kind))
            }
            _ => None,
        }
    }
}

/// All values of a file.
#[derive(Debug, Default)]
pub(super) struct Values {
    all: Vec<Value>,
    pub(super) root: Id,
}

impl Values {
    pub(super) fn get(&self, id: Id) -> &Value {
        &self.all[id]
    }

    /// A dictionary's value by name.
    pub(super) fn find(&self, dict: Id, name: &str) -> Option<Id> {
        let Value::Dict(entries) = self.get(dict) else { return None };
        entries
            .iter()
            .rev()
            .find(|(key, _)| matches!(self.get(*key), Value::Text(text) if text == name))
            .map(|e| e.1)
    }

    fn integers(&self, id: Id) -> Option<Vec<u64>> {
        let (Value::Tuple(ids) | Value::List(ids)) = self.get(id) else { return None };
        let integer = |id: &Id| match self.get(*id) {
            Value::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        };
        ids.iter().map(integer).collect()
    }
}

/// Most dimensions of a tensor.
const MAX_RANK: usize = 16;

/// Reads a pickle.
///
/// # Errors
/// What is wrong and at which byte.
pub(super) fn read(bytes: &[u8]) -> Result<Values, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Values::default(),
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
    };
    loop {
        let at = machine.at;
        let step = machine.step().map_err(|what| format!("byte {at} of data.pkl: {what}"))?;
        if let Some(root) = step {
            machine.values.root = root;
            return Ok(machine.values);
        }
    }
}

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    values: Values,
    stack: Vec<Id>,
    /// Heights of the stack at marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

const CUT: &str = "it ends too early";
const EMPTY: &str = "an operation finds nothing to work on";

impl<'b> Machine<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).ok_or(CUT)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn word(&mut self) -> Result<u32, String> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn text(&mut self, length: usize) -> Result<String, String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a text is no UTF-8")?;
        Ok(text.to_owned())
    }

    fn line(&mut self) -> Result<&'b str, String> {
        let length = self.bytes[self.at..].iter().position(|&b| b == b'\n').ok_or(CUT)?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| "a text is no UTF-8".to_owned())
    }

    fn push(&mut self, value: Value) {
        self.values.all.push(value);
        self.stack.push(self.values.all.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(EMPTY.to_owned());
        }
        self.stack.pop().ok_or_else(|| EMPTY.to_owned())
    }

    /// What lies above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or(EMPTY)?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| EMPTY.to_owned())
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let id = self.memo.get(&place).ok_or("it recalls what it never remembered")?;
        self.stack.push(*id);
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let mut ids = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        ids.reverse();
        self.push(Value::Tuple(ids));
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(60).collect::<String>();
        let known = Global::of(module, name).ok_or_else(|| {
            format!(
                "it names '{}.{}', and nothing is executed: only tensors, dictionaries, lists, texts and numbers are \
                 read; save a state dict in Python: torch.save(model.state_dict(), file)",
                shown(module),
                shown(name)
            )
        })?;
        self.push(Value::Global(known));
        Ok(())
    }

    /// Puts pairs into the dictionary below them.
    fn set(&mut self, pairs: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        let Value::Dict(entries) = &mut self.values.all[dict] else {
            return Err("it sets items of what is no dictionary".to_owned());
        };
        if pairs.len() % 2 == 1 {
            return Err("a key has no value".to_owned());
        }
        entries.extend(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn append(&mut self, items: &[Id]) -> Result<(), String> {
        let list = self.top()?;
        let Value::List(all) = &mut self.values.all[list] else {
            return Err("it appends to what is no list".to_owned());
        };
        all.extend(items);
        Ok(())
    }

    /// One operation; the root where it is the last.
    fn step(&mut self) -> Result<Option<Id>, String> {
        match self.byte()? {
            // PROTO, FRAME
            0x80 => match self.byte()? {
                2..=5 => {}
                other => return Err(format!("pickles of protocol {other} are not read")),
            },
            0x95 => _ = self.take(8)?,
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?,
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let b = self.take(2)?;
                self.push(Value::Int(u16::from_le_bytes([b[0], b[1]]).into()));
            }
            b'J' => {
                let value = self.word()?.cast_signed();
                self.push(Value::Int(value.into()));
            }
            // LONG1
            0x8a => {
                let length = self.byte()? as usize;
                let b = self.take(length)?;
                if length > 8 {
                    return Err("a whole number has more than 64 bits".to_owned());
                }
                let fill = if b.last().is_some_and(|&b| b > 0x7f) { 0xff } else { 0 };
                let mut wide = [fill; 8];
                wide[..length].copy_from_slice(b);
                self.push(Value::Int(i64::from_le_bytes(wide)));
            }
            b'G' => {
                let b = self.take(8)?;
                let mut wide = [0; 8];
                wide.copy_from_slice(b);
                self.push(Value::Float(f64::from_be_bytes(wide)));
            }
            // SHORT_BINUNICODE, BINUNICODE
            0x8c => {
                let length = self.byte()? as usize;
                let text = self.text(length)?;
                self.push(Value::Text(text));
            }
            b'X' => {
                let length = self.word()? as usize;
                let text = self.text(length)?;
                self.push(Value::Text(text));
            }
            b')' => self.push(Value::Tuple(vec![])),
            b't' => {
                let ids = self.pop_mark()?;
                self.push(Value::Tuple(ids));
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b']' => self.push(Value::List(vec![])),
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push(Value::Dict(vec![])),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let pairs = self.pop_mark()?;
                self.set(&pairs)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let place = self.byte()?;
                self.remember(place.into())?;
            }
            b'r' => {
                let place = self.word()?;
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let place = self.byte()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = self.word()?;
                self.recall(place)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) =
                    (self.values.get(module), self.values.get(name))
                else {
                    return Err("it names what is no text".to_owned());
                };
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id).ok_or("it refers to what is no storage of a tensor")?;
                self.push(storage);
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.call(function, arguments)?;
                self.push(made);
            }
            // Attributes of an ordered dictionary: versions of modules.
            b'b' => {
                self.pop()?;
                if !matches!(self.values.get(self.top()?), Value::Dict(_)) {
                    return Err("it gives attributes to what is no dictionary".to_owned());
                }
            }
            other => {
                return Err(format!(
                    "its operation 0x{other:02x} is none that a state dict needs; save one in Python: \
                     torch.save(model.state_dict(), file)"
                ));
            }
        }
        Ok(None)
    }

    /// `("storage", type, name, device, elements)`.
    fn storage(&self, id: Id) -> Option<Value> {
        let Value::Tuple(ids) = self.values.get(id) else { return None };
        let [word, kind, key, _, length] = ids[..] else { return None };
        match [word, kind, key, length].map(|id| self.values.get(id)) {
            [
                Value::Text(word),
                Value::Global(Global::Storage(kind)),
                Value::Text(key),
                Value::Int(length),
            ] if word == "storage" => {
                let length = u64::try_from(*length).ok()?;
                let (offset, shape, stride) = (0, vec![], vec![]);
                let view = View { kind: *kind, key: key.clone(), length, offset, shape, stride };
                Some(Value::Storage(Box::new(view)))
            }
            _ => None,
        }
    }

    fn call(&self, function: Id, arguments: Id) -> Result<Value, String> {
        let Value::Tuple(ids) = self.values.get(arguments) else {
            return Err("it calls with what is no tuple".to_owned());
        };
        match (self.values.get(function), &ids[..]) {
            (Value::Global(Global::OrderedDict), []) => Ok(Value::Dict(vec![])),
            (Value::Global(Global::Parameter), [tensor, ..]) => match self.values.get(*tensor) {
                Value::Tensor(view) => Ok(Value::Tensor(view.clone())),
                _ => Err("a parameter is no tensor".to_owned()),
            },
            (Value::Global(Global::Tensor), [storage, offset, shape, stride, ..]) => {
                self.tensor([*storage, *offset, *shape, *stride]).map(|view| Value::Tensor(Box::new(view)))
            }
            (Value::Global(_), _) => Err("it makes a tensor or dictionary of other arguments".to_owned()),
            _ => Err("it calls what is no function".to_owned()),
        }
    }

    /// A view that lies within its storage.
    fn tensor(&self, [storage, offset, shape, stride]: [Id; 4]) -> Result<View, String> {
        let Value::Storage(of) = self.values.get(storage) else {
            return Err("a tensor has no storage".to_owned());
        };
        let Value::Int(offset) = self.values.get(offset) else {
            return Err("a tensor's offset is no whole number".to_owned());
        };
        let negative = "a tensor's offset, shape or stride is negative or no whole number";
        let offset = u64::try_from(*offset).map_err(|_| negative)?;
        let shape = self.values.integers(shape).ok_or(negative)?;
        let stride = self.values.integers(stride).ok_or(negative)?;
        if shape.len() != stride.len() || shape.len() > MAX_RANK {
            return Err(format!("a tensor has {} sizes and {} strides", shape.len(), stride.len()));
        }
        let view = View { offset, shape, stride, ..View::clone(of) };
        view.check()?;
        Ok(view)
    }
}

impl View {
    /// Elements; `None` where no memory holds so many.
    pub(super) fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |all, &size| all.checked_mul(size)).filter(|&all| all < 1 << 40)
    }

    fn check(&self) -> Result<(), String> {
        let beyond = || {
            format!(
                "a tensor of shape {:?}, strides {:?} and offset {} lies beyond its storage of {} elements",
                self.shape, self.stride, self.offset, self.length
            )
        };
        if self.elements().ok_or_else(beyond)? == 0 {
            return Ok(());
        }
        let steps = self.shape.iter().zip(&self.stride);
        let reach = |at: u64, (&size, &stride): (&u64, &u64)| at.checked_add((size - 1).checked_mul(stride)?);
        match steps.into_iter().try_fold(self.offset, reach) {
            Some(last) if last < self.length => Ok(()),
            _ => Err(beyond()),
        }
    }
}

#[cfg(test)]
mod tests;
