// expr.wgsl: one function per operation of the expression language (kernels/src/expr.rs).
//
// Put before every kernel with generated code, which calls these in straight lines:
//   let r2 = op_add(r0, r1);
//   let r3 = op_leaky_relu(r2, 0.2f);
// WGSL leaves max, min and clamp of NaN open; here comparisons are written so that NaN comes out wherever NaN went in,
// since a fault must be seen, not clipped. Where a built-in may overflow inside (tanh, and exp of a large argument in
// sigmoid and softplus), the argument is bounded first. No bindings, no entry point.

fn op_bits(bits: u32) -> f32 { return bitcast<f32>(bits); } // infinities and NaN, which have no literals
fn op_is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

fn op_neg(x: f32) -> f32 { return -x; }
fn op_recip(x: f32) -> f32 { return 1.0 / x; }
fn op_exp(x: f32) -> f32 { return exp(x); }
fn op_log(x: f32) -> f32 { return log(x); }
fn op_sqrt(x: f32) -> f32 { return sqrt(x); }
fn op_abs(x: f32) -> f32 { return abs(x); }
fn op_sign(x: f32) -> f32 { return select(0.0, 1.0, x > 0.0) - select(0.0, 1.0, x < 0.0); }
fn op_square(x: f32) -> f32 { return x * x; }
fn op_relu(x: f32) -> f32 { return select(x, 0.0, x < 0.0); }
fn op_leaky_relu(x: f32, slope: f32) -> f32 { return select(slope * x, x, x > 0.0); }
fn op_leaky_mask(x: f32, slope: f32) -> f32 { return select(slope, 1.0, x > 0.0); }
fn op_affine(x: f32, scale: f32, shift: f32) -> f32 { return x * scale + shift; }
fn op_clamp(x: f32, low: f32, high: f32) -> f32 {
    let y = select(x, low, x < low);
    return select(y, high, y > high);
}
fn op_clamp_mask(x: f32, low: f32, high: f32) -> f32 { return select(0.0, 1.0, x >= low && x <= high); }
fn op_step(x: f32) -> f32 { return select(0.0, 1.0, x > 0.0); }
fn op_tanh(x: f32) -> f32 { return tanh(op_clamp(x, -10.0, 10.0)); } // ±1 to the last bit from |x| = 9.01 on

// 1 / (1 + e^-x), as e / (1 + e) of e = e^-|x| below 0.
fn op_sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

// max(x, 0) + ln(1 + t) with t = e^-|x|; ln(1 + t) = 2 atanh s, s = t / (2 + t) <= 1/3, as an odd polynomial.
fn op_softplus(x: f32) -> f32 {
    let t = exp(-abs(x));
    let s = t / (2.0 + t);
    let z = s * s;
    let p = 0.66666675 + z * (0.39998877 + z * (0.28616884 + z * (0.21427658 + z * 0.24300934)));
    return op_relu(x) + (2.0 * s + s * z * p);
}

fn op_add(a: f32, b: f32) -> f32 { return a + b; }
fn op_sub(a: f32, b: f32) -> f32 { return a - b; }
fn op_mul(a: f32, b: f32) -> f32 { return a * b; }
fn op_div(a: f32, b: f32) -> f32 { return a / b; }
fn op_max(a: f32, b: f32) -> f32 { return select(b, a, a > b || op_is_nan(a)); }
fn op_min(a: f32, b: f32) -> f32 { return select(b, a, a < b || op_is_nan(a)); }
fn op_greater(a: f32, b: f32) -> f32 { return select(0.0, 1.0, a > b); }
fn op_equal(a: f32, b: f32) -> f32 { return select(0.0, 1.0, a == b); }
fn op_select(condition: f32, a: f32, b: f32) -> f32 { return select(a, b, condition == 0.0); }
