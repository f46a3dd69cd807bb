// expr.wgsl: one function per operation of the expression language (kernels/src/expr/mod.rs).
//
// Put before every kernel with generated code, which calls these in straight lines:
//   let r2 = op_add(r0, r1);
//   let r3 = op_leaky_relu(r2, 0.2f);
//
// WGSL leaves max, min and clamp of NaN open; here comparisons are written so that NaN comes out wherever NaN
// went in, since a fault must be seen, not clipped. Compilers take x - x for 0 and x / x for 1, which of ∞ or
// NaN they are not: sums, differences and quotients look at the bits of such operands. Where exp of a large
// argument would overflow (in tanh, sigmoid and softplus), the argument is bounded first. No bindings, no
// entry point.

fn op_bits(bits: u32) -> f32 { return bitcast<f32>(bits); } // infinities and NaN, which have no literals
fn op_is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }
fn op_is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

fn op_neg(x: f32) -> f32 { return -x; }
fn op_recip(x: f32) -> f32 { return 1.0 / x; }
fn op_exp(x: f32) -> f32 { return exp(x); }
// Denormals are scaled into the normal range, or to 0 where the device takes them so: ln 2^23 = 15.942385.
fn op_log(x: f32) -> f32 {
    let small = (bitcast<u32>(x) & 0x7f800000u) == 0u;
    return log(select(x, x * 8388608.0, small)) - select(0.0, 15.942385, small);
}
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

// An odd polynomial to 0.625, where the built-in function may be as wrong as e^2x is near 1, and 1 - 2 /
// (e^2|x| + 1) beyond; ±1 to the last bit from |x| = 9.01 on.
fn op_tanh(x: f32) -> f32 {
    let z = x * x;
    let p = -0.33333278 + z * (0.13331328 + z * (-0.05372923 + z * (0.020602006 - z * 0.0056607886)));
    let near = x + x * (z * p);
    let a = abs(x);
    let far = 1.0 - 2.0 / (exp(2.0 * min(a, 10.0)) + 1.0);
    return select(near, select(far, -far, x < 0.0), a > 0.625);
}

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

fn op_add(a: f32, b: f32) -> f32 {
    let opposite = (bitcast<u32>(a) ^ bitcast<u32>(b)) == 0x80000000u;
    return select(a + b, op_bits(0x7fc00000u), opposite && !op_is_finite(a));
}
fn op_sub(a: f32, b: f32) -> f32 {
    let equal = bitcast<u32>(a) == bitcast<u32>(b);
    return select(a - b, op_bits(0x7fc00000u), equal && !op_is_finite(a));
}
fn op_mul(a: f32, b: f32) -> f32 { return a * b; }
fn op_div(a: f32, b: f32) -> f32 {
    let equal = bitcast<u32>(a) == bitcast<u32>(b);
    return select(a / b, op_bits(0x7fc00000u), equal && (a == 0.0 || !op_is_finite(a)));
}
fn op_max(a: f32, b: f32) -> f32 { return select(b, a, a > b || op_is_nan(a)); }
fn op_min(a: f32, b: f32) -> f32 { return select(b, a, a < b || op_is_nan(a)); }
// |a|^b = 2^(b · log2 |a|). With |a| = 2^k · m, 0.7 <= m < 1.42, and b in two parts whose products with k are exact, what is
// rounded is b · log2 m alone: 4e-8 of the exponent. The sign is that of a where b is odd; NaN where b is no
// integer.
fn op_pow(a: f32, b: f32) -> f32 {
    let small = (bitcast<u32>(a) & 0x7f800000u) == 0u; // denormals, as in op_log
    let x = select(abs(a), abs(a) * 8388608.0, small);
    if b == 0.0 || a == 1.0 { return 1.0; }
    if op_is_nan(a) || op_is_nan(b) { return a + b; }
    let whole = abs(b) >= 16777216.0 || floor(b) == b;
    let odd = abs(b) < 16777216.0 && whole && (i32(abs(b)) & 1) == 1;
    let below = (bitcast<u32>(a) & 0x80000000u) != 0u;
    let sign = select(1.0, -1.0, below && odd);
    let infinity = op_bits(0x7f800000u);
    if x == 0.0 { return sign * select(infinity, 0.0, b > 0.0); }
    if x > 3.4028234e38 { return sign * select(0.0, infinity, b > 0.0); }
    if below && !whole { return op_bits(0x7fc00000u); }
    if abs(a) == 1.0 { return sign; }
    if abs(b) > 3.4028234e38 { return select(0.0, infinity, (x > 1.0 && !small) == (b > 0.0)); }
    let bits = bitcast<u32>(x);
    let above = i32(bits - 0x3f3504f3u) >> 23u;
    let k = f32(above) - select(0.0, 23.0, small);
    let f = bitcast<f32>(bits - (bitcast<u32>(above) << 23u)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let half = 0.5 * f * f;
    let p = z * (0.6666666 + z * (0.40000895 + z * (0.28505448 + z * 0.24123351)));
    let part = b * ((f - (half - s * (half + p))) * 1.442695);
    let high = bitcast<f32>(bitcast<u32>(b) & 0xfffff000u);
    let n = clamp(round(b * k + part), -200.0, 200.0);
    let r = clamp(((high * k - n) + (b - high) * k) + part, -64.0, 64.0) * 0.6931472;
    let e = 1.0 + (r + r * r * (0.5 + r * (0.16666512 + r * (0.041666187 + r * (0.008369598 + r * 0.001395172)))));
    let low = i32(n) >> 1u;
    return sign * e * bitcast<f32>(u32(low + 127) << 23u) * bitcast<f32>(u32(i32(n) - low + 127) << 23u);
}
fn op_greater(a: f32, b: f32) -> f32 { return select(0.0, 1.0, a > b); }
fn op_equal(a: f32, b: f32) -> f32 { return select(0.0, 1.0, a == b); }
fn op_select(condition: f32, a: f32, b: f32) -> f32 { return select(a, b, condition == 0.0); }
