//! The expressions of the page *tape*: from one multiplication to a gradient penalty, in the order in which
//! they are read.

use crate::tape::{ConvOptions, Tape, Tensor};

/// An expression as it is shown and recorded.
pub(super) struct Expression {
    /// Name of its programs.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    /// The Rust that records it, as `record` has it.
    pub(super) source: &'static str,
    pub(super) record: for<'t> fn(&'t Tape) -> Recorded<'t>,
}

/// What an expression records.
pub(super) struct Recorded<'t> {
    /// Its value; of several elements their sum is differentiated.
    pub(super) value: Tensor<'t>,
    /// The inputs that it is differentiated by.
    pub(super) by: Vec<(&'static str, Tensor<'t>)>,
    /// What is made of those gradients and differentiated again: sums of squares, or a penalty.
    pub(super) again: fn(&[Tensor<'t>]) -> Tensor<'t>,
    /// What that is differentiated by.
    pub(super) then: Vec<(&'static str, Tensor<'t>)>,
}

/// Σ of the squares of all gradients.
fn squares<'t>(gradients: &[Tensor<'t>]) -> Tensor<'t> {
    let sums: Vec<_> = gradients.iter().map(|gradient| gradient.square().sum_all()).collect();
    sums.iter().skip(1).fold(sums[0], |all, &sum| all + sum)
}

/// (‖gradient of a sample‖ − 1)², the mean over the samples.
fn penalty<'t>(gradients: &[Tensor<'t>]) -> Tensor<'t> {
    let norm = (gradients[0].square().sum_per_sample() + 1e-12).sqrt();
    (norm - 1.0).square().mean_all()
}

fn plain<'t>(value: Tensor<'t>, by: &[(&'static str, Tensor<'t>)]) -> Recorded<'t> {
    Recorded { value, by: by.to_vec(), again: squares, then: by.to_vec() }
}

/// All of them.
pub(super) const EXPRESSIONS: &[Expression] = &[
    Expression {
        name: "product",
        title: "One multiplication",
        about: "Two numbers and a product. The derivative by one factor is the other factor: a node that is \
                there already, so nothing is computed for it.",
        source: "let y = a * b;",
        record: |tape| {
            let (a, b) = (tape.input("a", &[4]), tape.input("b", &[4]));
            plain(a * b, &[("a", a), ("b", b)])
        },
    },
    Expression {
        name: "chain",
        title: "A chain",
        about: "Three functions after each other. The gradient walks them backwards, one factor for each; \
                after fusion all of it is one pass over x.",
        source: "let y = (x.square() + 1.0).sqrt();",
        record: |tape| {
            let x = tape.input("x", &[8]);
            plain((x.square() + 1.0).sqrt(), &[("x", x)])
        },
    },
    Expression {
        name: "branches",
        title: "A value that is used twice",
        about: "Where a value goes two ways, the gradients of both ways are added.",
        source: "let h = (x * 3.0).tanh();\nlet y = h * (-x.square()).exp() + h;",
        record: |tape| {
            let x = tape.input("x", &[8]);
            let h = (x * 3.0).tanh();
            plain(h * (-x.square()).exp() + h, &[("x", x)])
        },
    },
    Expression {
        name: "softmax",
        title: "Softmax and cross entropy",
        about: "Logits of four samples against targets. Maxima and sums along rows are reductions: what \
                comes before them is fused into them.",
        source: "let y = -(t * x.softmax(1).log()).sum_all() * 0.25;",
        record: |tape| {
            let (x, t) = (tape.input("x", &[4, 6]), tape.input("t", &[4, 6]));
            plain(-(t * x.softmax(1).log()).sum_all() * 0.25, &[("x", x)])
        },
    },
    Expression {
        name: "linear",
        title: "A linear layer",
        about: "A matrix product with bias and leaky ReLU: one launch, since both are the product's epilogue. \
                Its gradients are two more matrix products.",
        source: "let y = x.linear(w, Some(b)).leaky_relu(0.2);",
        record: |tape| {
            let (x, w, b) = (tape.input("x", &[4, 6]), tape.input("w", &[5, 6]), tape.input("b", &[5]));
            let y = x.linear(w, Some(b)).leaky_relu(0.2);
            plain(y, &[("x", x), ("w", w), ("b", b)])
        },
    },
    Expression {
        name: "batch-norm",
        title: "Batch norm",
        about: "Mean and variance of each feature over the batch. There is no batch norm kernel: what is \
                written here becomes passes over x, and so do both derivatives.",
        source: "let r = 1.0 / (x.variance(&[0]) + 1e-5).sqrt();\nlet y = (x - x.mean(&[0])) * r * g;",
        record: |tape| {
            let (x, g) = (tape.input("x", &[8, 4]), tape.input("g", &[8, 4]));
            let r = 1.0 / (x.variance(&[0]) + 1e-5).sqrt();
            plain((x - x.mean(&[0])) * r * g, &[("x", x)])
        },
    },
    Expression {
        name: "convolution",
        title: "A layer of a discriminator",
        about: "A 4×4 convolution of stride 2 and a leaky ReLU. Gradients of convolutions are convolutions: \
                the data's is the transposed one, the weight's a third, and no second derivative needs a \
                fourth.",
        source: "let y = x.conv2d(w, ConvOptions::new(2, 1)).leaky_relu(0.2);",
        record: |tape| {
            let (x, w) = (tape.input("x", &[2, 3, 8, 8]), tape.input("w", &[4, 3, 4, 4]));
            let y = x.conv2d(w, ConvOptions::new(2, 1)).leaky_relu(0.2);
            plain(y, &[("x", x), ("w", w)])
        },
    },
    Expression {
        name: "gradient-penalty",
        title: "A gradient penalty",
        about: "A critic of two layers, its gradient by the sample, and what WGAN-GP asks of it: a norm of 1. \
                The penalty's gradient by the weights is a gradient of a gradient, by the same rules.",
        source: "let y = x.linear(w, None).tanh().linear(v, None);\n\
                 let dx = tape.grad(y.sum_all(), &[x])[0];\n\
                 let norm = (dx.square().sum_per_sample() + 1e-12).sqrt();\n\
                 let p = (norm - 1.0).square().mean_all();\n\
                 let dw = tape.grad(p, &[w, v]);",
        record: |tape| {
            let (x, w, v) = (tape.input("x", &[4, 3]), tape.input("w", &[6, 3]), tape.input("v", &[1, 6]));
            let y = x.linear(w, None).tanh().linear(v, None);
            Recorded { value: y, by: vec![("x", x)], again: penalty, then: vec![("w", w), ("v", v)] }
        },
    },
];
