// epilogue.wgsl: what is done to a sum before it is stored. The host puts the fused expression in its place,
// with its operands' bindings.

//#epilogue
fn epilogue(acc: f32, channel: u32, index: u32) -> f32 {
    return acc;
}
//#end
