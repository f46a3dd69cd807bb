//! Operations: what a model may write. Each checks its shapes and appends nodes, the last of
//! which is its value. It simplifies nothing, so that every value can be differentiated; the compiler does.

mod elementwise;
mod grouped;
mod pool;
mod product;
mod random;
mod reduce;
mod sample;
mod shape;

pub use pool::PoolOptions;
pub use product::ConvOptions;
pub use random::RandomState;
pub(super) use sample::MOST_ROWS;
pub use sample::{Padding, Sampling};
pub(super) use shape::broadcast_shape;

/// Size of a strided window operation's output along one dimension, if a window fits.
fn windows(x: usize, pads: usize, kernel: usize, dilation: usize, stride: usize) -> Option<usize> {
    let extent = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
    (x.checked_add(pads)?.checked_sub(extent)? / stride.max(1)).checked_add(1)
}
