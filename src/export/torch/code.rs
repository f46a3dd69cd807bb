//! Python under construction: lines of a function, expressions that know how tightly they bind, and names.

use std::collections::BTreeMap;

use ganomede_kernels::expr::Num;

/// How tightly the last operator of an expression binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Binds {
    /// `a > b`
    Comparison,
    /// `a + b`
    Sum,
    /// `a * b`
    Product,
    /// `-a`
    Sign,
    /// A name, a number, a call.
    Whole,
}

/// An expression of Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) binds: Binds,
}

impl Text {
    pub(super) fn new(text: impl Into<String>, binds: Binds) -> Self {
        Self { text: text.into(), binds }
    }

    /// A name, a call, or the like.
    pub(super) fn whole(text: impl Into<String>) -> Self {
        Self::new(text, Binds::Whole)
    }

    /// A number; what is below zero is a sign before one.
    pub(super) fn number(value: f32) -> Self {
        let binds = if value.is_sign_negative() { Binds::Sign } else { Binds::Whole };
        Self::new(number(Num(value)), binds)
    }

    /// The expression where an operator binds so tightly.
    pub(super) fn within(&self, binds: Binds) -> String {
        if self.binds >= binds { self.text.clone() } else { format!("({})", self.text) }
    }

    /// A method called on it.
    pub(super) fn method(&self, call: &str) -> Self {
        Self::whole(format!("{}.{call}", self.within(Binds::Whole)))
    }
}

/// A number of single precision as Python reads it: the shortest that has its bits there again.
pub(super) fn number(Num(value): Num) -> String {
    match value {
        v if v.is_nan() => "float(\"nan\")".to_owned(),
        v if v == f32::INFINITY => "float(\"inf\")".to_owned(),
        v if v == f32::NEG_INFINITY => "-float(\"inf\")".to_owned(),
        v => format!("{v:?}"),
    }
}

/// Whole numbers, in brackets.
pub(super) fn tuple(values: impl IntoIterator<Item = impl ToString>) -> String {
    let all: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    match &all[..] {
        [one] => format!("({one},)"),
        all => format!("({})", all.join(", ")),
    }
}

/// A pair, as one number where both are the same.
pub(super) fn pair<T: ToString + PartialEq>([a, b]: [T; 2]) -> String {
    if a == b { a.to_string() } else { tuple([a, b]) }
}

/// Words that no variable of a function may have.
const TAKEN: [&str; 46] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield", "self",
    "torch", "n", "x", "F", "along", "weighted", "embed", "tuple", "slice", "float",
];

/// Whether a word is a name in Python.
pub(super) fn is_name(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && word.chars().next().is_some_and(|c| !c.is_ascii_digit())
        && !TAKEN[..35].contains(&word)
}

/// A part of a model by its name: `self.encoder[0].weight`.
pub(super) fn attribute(name: &str) -> String {
    name.split('.').fold("self".to_owned(), |path, part| match (is_name(part), part.parse::<u32>()) {
        (true, _) => format!("{path}.{part}"),
        (_, Ok(_)) => format!("{path}[{part}]"),
        _ => format!("{path}[{part:?}]"),
    })
}

/// The body of a function.
#[derive(Default)]
pub(super) struct Body {
    lines: Vec<String>,
    scope: String,
    counts: BTreeMap<String, usize>,
}

impl Body {
    /// Gives an expression a name of its own, after the layer that it belongs to.
    pub(super) fn assign(&mut self, scope: &str, value: &Text) -> Text {
        if scope != self.scope {
            self.scope = scope.to_owned();
            // What lies between layers has no name.
            if !scope.is_empty() {
                self.lines.push(format!("# {scope}"));
            }
        }
        let stem = scope.rsplit('.').next().unwrap_or_default().replace('∇', "d_");
        let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let stem = match stem.chars().next() {
            None => "value".to_owned(),
            Some(c) if c.is_ascii_digit() => format!("layer_{stem}"),
            _ if TAKEN.contains(&stem.as_str()) => format!("{stem}_"),
            _ => stem,
        };
        let name = loop {
            let count = self.counts.entry(stem.clone()).or_insert(0);
            *count += 1;
            let name = if *count == 1 { stem.clone() } else { format!("{stem}_{count}") };
            // `down_2` may also be the name of a layer.
            if *count == 1 || !self.counts.contains_key(&name) {
                break name;
            }
        };
        self.counts.entry(name.clone()).or_insert(1);
        self.lines.push(format!("{name} = {}", value.text));
        Text::whole(name)
    }

    /// The lines.
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_brackets_where_they_need_them() {
        let sum = Text::new("a + b", Binds::Sum);
        assert_eq!(sum.within(Binds::Product), "(a + b)");
        assert_eq!(sum.within(Binds::Sum), "a + b");
        assert_eq!(sum.method("relu()").text, "(a + b).relu()");
        assert_eq!(Text::number(-1.5).within(Binds::Whole), "(-1.5)");
        assert_eq!(Text::number(1e-5).text, "1e-5");
        assert_eq!(Text::number(f32::NEG_INFINITY).text, "-float(\"inf\")");
    }

    #[test]
    fn layers_give_names_and_no_name_is_given_twice() {
        let mut body = Body::default();
        let one = Text::number(1.0);
        let names: Vec<String> = ["a.down", "a.down_2", "a.down", "a.0", "a.for", "", "b.x"]
            .map(|scope| body.assign(scope, &one).text)
            .into();
        assert_eq!(names, ["down", "down_2", "down_3", "layer_0", "for_", "value", "x_"]);
        assert_eq!(attribute("encoder.0.weight"), "self.encoder[0].weight");
        assert_eq!(attribute("a.for.b-c"), "self.a[\"for\"][\"b-c\"]");
    }
}
