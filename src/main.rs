//! ganomede
fn main() {}
