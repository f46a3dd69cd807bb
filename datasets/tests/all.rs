//! The tests in one program. Those that count what their process allocates stand by themselves: `hostile.rs`
//! and `memory.rs`.

mod common;

mod batches;
mod dicom;
mod folders;
mod labelled;
mod layouts;
mod lists;
mod manifest;
mod masks;
mod npz;
mod reads;
mod retina;
mod signals;
mod skipped;
mod special_files;
mod surfaces;
mod tables;
mod times;
mod write;
