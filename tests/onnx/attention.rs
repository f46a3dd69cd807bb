//! Attention: what a query may look at is chosen, so that a masked score leaves no trace.

use ganomede::tape::Tensor;

use crate::graph::{Call, Outputs, Value};

/// Records the operator where it is this one.
pub(crate) fn record<'t>(call: &Call<'_, 't>) -> Option<Outputs<'t>> {
    (call.node.op == "Attention").then(|| attention(call))
}

/// Rank 4, heads before positions.
fn heads<'t>(x: Tensor<'t>, count: i64) -> Tensor<'t> {
    let s = x.shape();
    match s[..] {
        [batch, positions, width] => {
            let count = count as usize;
            x.reshape(&[batch, positions, count, width / count]).permute(&[0, 2, 1, 3])
        }
        _ => x,
    }
}

fn product<'t>(a: Tensor<'t>, b: Tensor<'t>, transposed: bool) -> Tensor<'t> {
    let (sa, sb) = (a.shape(), b.shape());
    let joined = |x: Tensor<'t>, s: &[usize]| x.reshape(&[s[0] * s[1], s[2], s[3]]);
    let y = joined(a, &sa).matmul_with(joined(b, &sb), false, transposed);
    let s = y.shape();
    y.reshape(&[sa[0], sa[1], s[1], s[2]])
}

fn attention<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let (rank, tape) = (call.tensor(0)?.rank(), call.tape);
    let q = heads(call.tensor(0)?, call.int("q_num_heads", 1));
    let of_keys = |i, past| -> Result<Tensor<'t>, String> {
        let new = heads(call.tensor(i)?, call.int("kv_num_heads", 1));
        Ok(call.optional(past)?.map_or(new, |past| Tensor::concat(&[past, new], 2)))
    };
    let (present_k, present_v) = (of_keys(1, 4)?, of_keys(2, 5)?);
    let past = call.optional(4)?.map_or(0, |past| past.shape()[2] as i64);
    let (sq, sk) = (q.shape(), present_k.shape());
    // Several heads of queries share one of keys.
    let shared: Vec<usize> = (0..sq[1]).map(|head| head / (sq[1] / sk[1])).collect();
    let (k, v) = (present_k.gather(1, &shared), present_v.gather(1, &shared));
    let scale = call.float("scale", 1.0 / (sq[3] as f32).sqrt()).sqrt();
    let mut scores = product(q * scale, k * scale, true);
    let cap = call.float("softcap", 0.0);
    if cap > 0.0 {
        scores = (scores * (1.0 / cap)).tanh() * cap;
    }
    let mut shown = scores;
    let never = tape.constant(f32::NEG_INFINITY);
    let (mut biased, mut bias) = (scores, tape.full(0.0, &[1, 1, sq[2], sk[2]]));
    if let Some(mask) = call.optional(3)? {
        let s = mask.shape();
        let short = sk[2] - s[s.len() - 1];
        let chosen =
            call.given.get(&call.node.inputs[3]).is_some_and(|data| data.kind == crate::case::Kind::Bool);
        let mut high = vec![0; s.len()];
        high[s.len() - 1] = short;
        if chosen {
            let allowed = mask.pad(&vec![0; s.len()], &high);
            biased = allowed.select(biased, never);
            bias = allowed.select(bias, never);
        } else {
            let beyond = ganomede::tape::Padding::Constant(f32::NEG_INFINITY);
            let mask = mask.pad_with(&vec![0; s.len()], &high, beyond);
            (biased, bias) = (biased + mask, bias + mask);
        }
    }
    if let Some(allowed) = known_mask(call, past, [sq[0], sq[2], sk[2]])? {
        (biased, bias) = (allowed.select(biased, never), allowed.select(bias, never));
    }
    // A query that may look at nothing gets 0.
    let nothing = bias.max(&[3]).equal(never);
    let largest = biased.max(&[3]).stop_gradient();
    let e = nothing.select(tape.constant(0.0), (biased - nothing.select(tape.constant(0.0), largest)).exp());
    let share = e / nothing.select(tape.constant(1.0), e.sum(&[3]));
    match call.int("qk_matmul_output_mode", 0) {
        2 => shown = biased,
        3 => shown = share,
        _ => {}
    }
    let y = product(share, v, false);
    let s = y.shape();
    let y = if rank == 3 { y.permute(&[0, 2, 1, 3]).reshape(&[s[0], s[2], s[1] * s[3]]) } else { y };
    Ok([y, present_k, present_v, shown].map(Value::Tensor).to_vec())
}

/// What causality, windows and lengths allow, `[batch or 1, 1, queries, keys]`, where they forbid anything.
fn known_mask<'t>(
    call: &Call<'_, 't>,
    past: i64,
    [batch, queries, keys]: [usize; 3],
) -> Result<Option<Tensor<'t>>, String> {
    let causal = call.int("is_causal", 0) == 1;
    let (left, right) = (call.int("left_window_size", -1), call.int("right_window_size", -1));
    let lengths = call.ints(6)?;
    if !causal && left < 0 && right < 0 && lengths.is_none() {
        return Ok(None);
    }
    let batch = if lengths.is_some() { batch } else { 1 };
    let allowed = |at: usize| {
        let (b, i, j) = (at / keys / queries, (at / keys % queries) as i64, (at % keys) as i64);
        let length = lengths.as_ref().map(|lengths| lengths[b]);
        let place = i + length.map_or(past, |length| length - queries as i64);
        (!causal || j <= place)
            && (left < 0 || place - j <= left)
            && (right < 0 || j - place <= right)
            && length.is_none_or(|length| j < length)
    };
    let both = Tensor::concat(&[call.tape.full(0.0, &[1]), call.tape.full(1.0, &[1])], 0);
    let picks: Vec<usize> = (0..batch * queries * keys).map(|at| usize::from(allowed(at))).collect();
    Ok(Some(both.gather(0, &picks).reshape(&[batch, 1, queries, keys])))
}
