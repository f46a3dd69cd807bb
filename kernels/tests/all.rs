//! The kernels' tests in one program.

mod batches;
mod plans;
mod products;
mod spaces;
mod twins;
mod zoo;

mod batch;
mod bf16;
mod conv;
mod copy;
mod expr;
mod families;
mod gemm;
mod half;
mod ladders;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine_code;
mod moments;
mod peak;
mod pointwise;
mod pool;
mod products_gpu_plan;
mod random;
mod reduce;
mod small_gpu_plan;
mod sparse;
