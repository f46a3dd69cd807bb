//! ONNX's messages as Rust, without `protoc`: the vendored `onnx.proto` becomes `src/export/onnx/proto.rs`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let messages = protox::compile([here.join("onnx.proto")], [&here])?;
    let made = std::env::temp_dir().join(format!("ganomede-onnx-proto-{}", std::process::id()));
    std::fs::create_dir_all(&made)?;
    let mut config = prost_build::Config::new();
    config.out_dir(&made).disable_comments(["."]);
    config.compile_fds(messages)?;
    print!("{}", std::fs::read_to_string(made.join("onnx.rs"))?);
    std::fs::remove_dir_all(made)?;
    Ok(())
}
