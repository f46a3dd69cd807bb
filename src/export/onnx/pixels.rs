//! What stands around the networks of an image: from decoded pixels to what they see, and from their map to
//! one at the image's own size. It is what `datasets/src/preprocess.rs` and `src/maps/` do, with the sizes of
//! the image at hand, which are whole numbers all along: the weights of a resize are quotients of whole
//! numbers, so that nothing is lost whatever the sizes are.

use ganomede_datasets::Fit;

use super::graph::{Builder, Name, int, ints};
use super::proto::tensor_proto::DataType;
use super::{Input, Pixels};
use crate::maps::{Place, kernel, mirrored};

/// Where the networks' input lies in the image, all vectors of one number.
pub(super) struct Frame {
    /// Height and width of the image.
    size: [Name; 2],
    /// The first row and column that is seen, and how many are.
    start: [Name; 2],
    length: [Name; 2],
    /// The first row and column of the input that they fill, and how many.
    at: [Name; 2],
    filled: [Name; 2],
    /// Whether all of the image is seen.
    is_whole: bool,
}

/// Luma of Rec. 601, and what takes the first channel; alpha counts for nothing.
const LUMA: [f32; 4] = [0.299, 0.587, 0.114, 0.0];
const FIRST: [f32; 4] = [1.0, 0.0, 0.0, 0.0];

/// The networks' input of decoded pixels `image`, `[n, height, width, channels]`, and where it lies.
pub(super) fn preprocessed(b: &mut Builder, image: &str, input: &Input, pixels: Pixels) -> (Name, Frame) {
    let frame = framed(b, image, input);
    b.scope = "preprocess".to_owned();
    let mut x = image.to_owned();
    if !frame.is_whole {
        let ends = [0, 1].map(|d| b.simple("Add", &[&frame.start[d], &frame.length[d]]));
        let join = |b: &mut Builder, of: &[Name; 2]| b.op("Concat", &[&of[0], &of[1]], vec![int("axis", 0)]);
        let (starts, ends) = (join(b, &frame.start), join(b, &ends));
        let axes = b.whole(&[1, 2]);
        x = b.simple("Slice", &[&x, &starts, &ends, &axes]);
    }
    x = coloured(b, &x, input.channels);
    for d in 0..2 {
        let weights = resize(b, &frame.filled[d], &frame.length[d]);
        x = match d {
            0 => b.simple("MatMul", &[&weights, &x]),
            _ => {
                let weights = b.op("Transpose", &[&weights], vec![ints("perm", [1, 0])]);
                b.simple("MatMul", &[&x, &weights])
            }
        };
    }
    if input.fit == Fit::Pad {
        let zeros = b.whole(&[0, 0]);
        let after = [0, 1].map(|d| {
            let whole = b.whole(&[input.size()[d] as i64]);
            let rest = b.simple("Sub", &[&whole, &frame.at[d]]);
            b.simple("Sub", &[&rest, &frame.filled[d]])
        });
        let pads = [&*zeros, &frame.at[0], &frame.at[1], &zeros, &after[0], &after[1]];
        let pads = b.op("Concat", &pads, vec![int("axis", 0)]);
        // Between black and white.
        let gray = b.scalar(if pixels == Pixels::Bytes { 127.5 } else { 0.5 });
        x = b.simple("Pad", &[&x, &pads, &gray]);
    }
    // As it is by now, in words that need no image. It also keeps runtimes from joining the products with
    // what follows, so that images of the networks' own size keep their bits.
    let sizes = b.whole(&[0, input.channels as i64, input.height as i64, input.width as i64]);
    x = b.simple("Reshape", &[&x, &sizes]);
    // From 0 to the highest value, to −1 to 1.
    let [two, one, low] = [2.0, 1.0, -1.0].map(|value| b.scalar(value));
    x = b.simple("Mul", &[&x, &two]);
    if pixels == Pixels::Bytes {
        let most = b.scalar(255.0);
        x = b.simple("Div", &[&x, &most]);
    }
    x = b.simple("Sub", &[&x, &one]);
    x = b.simple("Clip", &[&x, &low, &one]);
    if input.standardise {
        x = standardised(b, &x);
    }
    b.scope.clear();
    (x, frame)
}

/// Gray or colours of interleaved channels: `[n, channels, height, width]`.
fn coloured(b: &mut Builder, image: &str, channels: usize) -> Name {
    let count = b.extent(image, 3);
    let three = b.whole(&[3]);
    let is_coloured = b.simple("GreaterOrEqual", &[&count, &three]);
    if channels == 1 {
        let image = b.cast(image, DataType::Float);
        let from = b.whole(&[0]);
        let [luma, first] = [LUMA, FIRST].map(|weights| {
            let weights = b.floats(&[4], &weights);
            b.simple("Slice", &[&weights, &from, &count])
        });
        let weights = b.simple("Where", &[&is_coloured, &luma, &first]);
        let gray = b.simple("MatMul", &[&image, &weights]);
        let axis = b.whole(&[1]);
        return b.simple("Unsqueeze", &[&gray, &axis]);
    }
    let [each, first] = [[0, 1, 2], [0, 0, 0]].map(|places| b.whole(&places));
    let places = b.simple("Where", &[&is_coloured, &each, &first]);
    let colours = b.op("Gather", &[image, &places], vec![int("axis", 3)]);
    let colours = b.cast(&colours, DataType::Float);
    b.op("Transpose", &[&colours], vec![ints("perm", [0, 3, 1, 2])])
}

/// Which part of the image is seen, and which part of the input it fills.
pub(super) fn framed(b: &mut Builder, image: &str, input: &Input) -> Frame {
    b.scope = "frame".to_owned();
    let size = [1, 2].map(|axis| b.extent(image, axis));
    let zero = b.whole(&[0]);
    let to = input.size().map(|side| b.whole(&[side as i64]));
    let whole = Frame {
        size: size.clone(),
        start: [zero.clone(), zero.clone()],
        length: size.clone(),
        at: [zero.clone(), zero],
        filled: to.clone(),
        is_whole: true,
    };
    let [one, two] = [1, 2].map(|value| b.whole(&[value]));
    let half = |b: &mut Builder, whole: &str, part: &str| {
        let rest = b.simple("Sub", &[whole, part]);
        b.simple("Div", &[&rest, &two])
    };
    match input.fit {
        Fit::Stretch => whole,
        Fit::Crop => {
            // Of the other side's length, as many as the output's proportions have.
            let length = [0, 1].map(|d| {
                let product = b.simple("Mul", &[&size[1 - d], &to[d]]);
                let part = b.simple("Div", &[&product, &to[1 - d]]);
                let part = b.simple("Max", &[&part, &one]);
                b.simple("Min", &[&size[d], &part])
            });
            let start = [0, 1].map(|d| half(b, &size[d], &length[d]));
            Frame { start, length, is_whole: false, ..whole }
        }
        Fit::Pad => {
            // To the nearest pixel: (2·side·to + of) / (2·of).
            let filled = [0, 1].map(|d| {
                let of = &size[1 - d];
                let twice = b.simple("Mul", &[&size[d], &two]);
                let product = b.simple("Mul", &[&twice, &to[1 - d]]);
                let sum = b.simple("Add", &[&product, of]);
                let twice = b.simple("Mul", &[of, &two]);
                let side = b.simple("Div", &[&sum, &twice]);
                let side = b.simple("Max", &[&side, &one]);
                b.simple("Min", &[&to[d], &side])
            });
            let at = [0, 1].map(|d| half(b, &to[d], &filled[d]));
            Frame { at, filled, ..whole }
        }
    }
}

/// The whole numbers below a vector of one number.
fn below(b: &mut Builder, end: &str) -> Name {
    let axis = b.whole(&[0]);
    let end = b.simple("Squeeze", &[end, &axis]);
    let [from, step] = [0, 1].map(|value| b.whole_scalar(value));
    b.simple("Range", &[&from, &end, &step])
}

/// 2·i + 1 for every i below `end`.
fn odd(b: &mut Builder, end: &str) -> Name {
    let [one, two] = [1, 2].map(|value| b.whole(&[value]));
    let i = below(b, end);
    let twice = b.simple("Mul", &[&i, &two]);
    b.simple("Add", &[&twice, &one])
}

/// A vector as a column.
fn column(b: &mut Builder, values: &str) -> Name {
    let axis = b.whole(&[1]);
    b.simple("Unsqueeze", &[values, &axis])
}

/// max(reach − |distance|, 0), of whole numbers.
fn triangle(b: &mut Builder, distance: &str, reach: &str) -> Name {
    let zero = b.whole(&[0]);
    let distance = b.simple("Abs", &[distance]);
    let weight = b.simple("Sub", &[reach, &distance]);
    b.simple("Max", &[&weight, &zero])
}

/// The weights `[filled, length]` of a triangle filter with antialias. Output i sits at (i + ½)·length/filled
/// of the image and reaches max(1, length/filled) on both sides; times 2·filled all of it is whole.
fn resize(b: &mut Builder, filled: &str, length: &str) -> Name {
    let outputs = odd(b, filled);
    let outputs = column(b, &outputs);
    let outputs = b.simple("Mul", &[&outputs, length]);
    let pixels = odd(b, length);
    let pixels = b.simple("Mul", &[&pixels, filled]);
    let distance = b.simple("Sub", &[&outputs, &pixels]);
    let two = b.whole(&[2]);
    let reach = b.simple("Max", &[filled, length]);
    let reach = b.simple("Mul", &[&reach, &two]);
    let weights = triangle(b, &distance, &reach);
    let axis = b.whole(&[1]);
    let total = b.op("ReduceSum", &[&weights, &axis], vec![int("keepdims", 1)]);
    let [weights, total] = [weights, total].map(|value| b.cast(&value, DataType::Float));
    b.simple("Div", &[&weights, &total])
}

/// (x − mean) / (3·max(sd, 1/255)) of each sample, within [−1, 1].
fn standardised(b: &mut Builder, x: &str) -> Name {
    let axes = b.whole(&[1, 2, 3]);
    let mean = b.op("ReduceMean", &[x, &axes], vec![int("keepdims", 1)]);
    let apart = b.simple("Sub", &[x, &mean]);
    let squares = b.simple("Mul", &[&apart, &apart]);
    let variance = b.op("ReduceMean", &[&squares, &axes], vec![int("keepdims", 1)]);
    let deviation = b.simple("Sqrt", &[&variance]);
    let [least, reach, low, high] = [1.0 / 255.0, 3.0, -1.0, 1.0].map(|value| b.scalar(value));
    let deviation = b.simple("Max", &[&deviation, &least]);
    let scale = b.simple("Mul", &[&deviation, &reach]);
    let x = b.simple("Div", &[&apart, &scale]);
    b.simple("Clip", &[&x, &low, &high])
}

/// What becomes of a map `[n, height, width]` of the networks' input: smoothed, relative to what normals have
/// at each place, and at the size of the image, where it is NaN at what the networks did not see.
pub(super) fn drawn(
    b: &mut Builder,
    map: &str,
    input: &Input,
    frame: &Frame,
    sigma: f64,
    relative: Option<&Place>,
) -> Name {
    b.scope = "map".to_owned();
    let [height, width] = input.size();
    let sizes = b.whole(&[-1, 1, height as i64, width as i64]);
    let mut map = b.simple("Reshape", &[map, &sizes]);
    let weights: Vec<f32> = kernel(sigma).into_iter().map(|weight| weight as f32).collect();
    let radius = weights.len() / 2;
    if radius > 0 {
        // Along the rows first; beyond the borders the map is mirrored.
        for (axis, side, shape) in [(3, width, [1, weights.len()]), (2, height, [weights.len(), 1])] {
            let places = (0..side + 2 * radius).map(|i| mirrored(i as i64 - radius as i64, side) as i64);
            let places = b.whole(&places.collect::<Vec<_>>());
            let padded = b.op("Gather", &[&map, &places], vec![int("axis", axis)]);
            let weights = b.floats(&[1, 1, shape[0], shape[1]], &weights);
            map = b.op("Conv", &[&padded, &weights], vec![ints("kernel_shape", shape)]);
        }
    }
    if let Some(place) = relative {
        let shape = [1, 1, height, width];
        let (mean, scale) = (b.floats(&shape, &place.mean), b.floats(&shape, &place.scale()));
        let apart = b.simple("Sub", &[&map, &mean]);
        map = b.simple("Div", &[&apart, &scale]);
    }
    for d in 0..2 {
        let weights = enlarge(b, frame, d, input.size()[d]);
        map = match d {
            0 => b.simple("MatMul", &[&weights, &map]),
            _ => {
                let weights = b.op("Transpose", &[&weights], vec![ints("perm", [1, 0])]);
                b.simple("MatMul", &[&map, &weights])
            }
        };
    }
    let axis = b.whole(&[1]);
    map = b.simple("Squeeze", &[&map, &axis]);
    if !frame.is_whole {
        let [rows, columns] = [0, 1].map(|d| {
            let i = below(b, &frame.size[d]);
            let end = b.simple("Add", &[&frame.start[d], &frame.length[d]]);
            let from = b.simple("GreaterOrEqual", &[&i, &frame.start[d]]);
            let to = b.simple("Less", &[&i, &end]);
            b.simple("And", &[&from, &to])
        });
        let rows = column(b, &rows);
        let seen = b.simple("And", &[&rows, &columns]);
        let unseen = b.scalar(f32::NAN);
        map = b.simple("Where", &[&seen, &map, &unseen]);
    }
    b.scope.clear();
    map
}

/// The weights `[size, side]` that bring a map's axis to that of the image: pixel i lies at
/// (i + ½ − start)·filled/length + at − ½ of the map, linear between its pixels, constant beyond the
/// outermost; times 2·length all of it is whole.
fn enlarge(b: &mut Builder, frame: &Frame, d: usize, side: usize) -> Name {
    let [zero, one, two, last] = [0, 1, 2, side as i64 - 1].map(|value| b.whole(&[value]));
    let length = &frame.length[d];
    let twice = b.simple("Mul", &[length, &two]);
    let pixels = odd(b, &frame.size[d]);
    let start = b.simple("Mul", &[&frame.start[d], &two]);
    let pixels = b.simple("Sub", &[&pixels, &start]);
    let pixels = b.simple("Mul", &[&pixels, &frame.filled[d]]);
    let at = b.simple("Mul", &[&frame.at[d], &two]);
    let at = b.simple("Sub", &[&at, &one]);
    let at = b.simple("Mul", &[&at, length]);
    let places = b.simple("Add", &[&pixels, &at]);
    let most = b.simple("Mul", &[&twice, &last]);
    let places = b.simple("Max", &[&places, &zero]);
    let places = b.simple("Min", &[&places, &most]);
    let places = column(b, &places);
    let all: Vec<i64> = (0..side as i64).collect();
    let all = b.whole(&all);
    let of_map = b.simple("Mul", &[&all, &twice]);
    let distance = b.simple("Sub", &[&places, &of_map]);
    let weights = triangle(b, &distance, &twice);
    let [weights, twice] = [weights, twice].map(|value| b.cast(&value, DataType::Float));
    b.simple("Div", &[&weights, &twice])
}
