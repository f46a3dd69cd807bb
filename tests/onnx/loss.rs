//! Losses of labels that are known.

use ganomede::tape::Tensor;

use crate::graph::{Call, Outputs, Value};

/// Records the operator where it is one of these.
pub(crate) fn record<'t>(call: &Call<'_, 't>) -> Option<Outputs<'t>> {
    match call.node.op.as_str() {
        "NegativeLogLikelihoodLoss" => Some(call.tensor(0).and_then(|x| likelihood(call, x, None))),
        "SoftmaxCrossEntropyLoss" => Some(call.tensor(0).and_then(|x| {
            let low = x - x.max(&[1]).stop_gradient();
            let log = low - low.exp().sum(&[1]).log();
            likelihood(call, log, Some(log))
        })),
        _ => None,
    }
}

/// Of logarithms of probabilities `[n, classes, …]`; `second` is another output.
fn likelihood<'t>(call: &Call<'_, 't>, log: Tensor<'t>, second: Option<Tensor<'t>>) -> Outputs<'t> {
    let labels = call.ints(1)?.ok_or("no labels")?;
    let s = log.shape();
    let classes = s[1];
    let ignored = call.node.attributes.get("ignore_index").and_then(serde_json::Value::as_i64);
    // The classes last, as one list; a class beyond them has weight 0.
    let planes = log.reshape(&[s[0], classes, log.len() / (s[0] * classes)]);
    let list = planes.permute(&[0, 2, 1]).reshape(&[log.len()]);
    let class = |label: i64| if Some(label) == ignored { None } else { usize::try_from(label).ok() };
    let places = labels.iter().enumerate().map(|(i, &label)| i * classes + class(label).unwrap_or(0));
    let picked = list.gather(0, &places.collect::<Vec<_>>());
    let weights = call.optional(2)?.unwrap_or_else(|| call.tape.full(1.0, &[classes]));
    let all = Tensor::concat(&[weights, call.tape.full(0.0, &[1])], 0);
    let each: Vec<usize> = labels.iter().map(|&label| class(label).unwrap_or(classes)).collect();
    let weight = all.gather(0, &each);
    let losses = -(picked * weight);
    let loss = match call.word("reduction", "mean").as_str() {
        "none" => losses.reshape(&[&s[..1], &s[2..]].concat()),
        "sum" => losses.sum_all(),
        _ => losses.sum_all() / weight.sum_all(),
    };
    Ok([Some(loss), second].into_iter().flatten().map(Value::Tensor).collect())
}
