//! The library's tests in one program, since each program is linked with all of it. What measures its own
//! process stands by itself: `hostile.rs`, and `onnx/`, which needs what `make onnx` fetches.

#[path = "../kernels/tests/batches/mod.rs"]
mod batches;
mod common;
#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/interpreter.rs"]
mod interpreter;
#[path = "common/nonsense.rs"]
mod nonsense;
#[path = "../kernels/tests/products/mod.rs"]
mod products;
#[path = "common/random/mod.rs"]
mod random;
#[path = "../kernels/tests/spaces/mod.rs"]
mod spaces;
#[path = "../kernels/tests/zoo/mod.rs"]
mod zoo;

mod backends;
mod compiler;
mod counts;
mod course;
mod custom_operation;
mod detect;
mod detection;
mod examples;
mod extremes;
mod fusion;
mod golden_ae;
mod golden_dcgan;
mod golden_gan_systems;
mod golden_nn;
mod golden_ops;
mod golden_sides;
mod golden_synthetic;
mod gpu_device;
mod gradients;
mod import;
mod intermediates;
mod kept_weights;
mod kernels_conv_gpu;
mod kernels_f16_gpu;
mod kernels_small_gpu;
mod layers;
mod load_checks;
mod misuse;
mod orientations;
mod parts;
mod pipelines;
mod precision;
mod random_programs;
mod ranks;
mod recipe;
mod scores;
mod second_order;
mod sides;
mod special_values;
mod system_anogan;
mod system_f_anogan;
mod systems_ae;
mod systems_gan;
mod tape_cpu;
mod textures;
mod tiles;
mod wider_operations;
