//! The command line's tests in one program, since each program is linked with the whole library.

#[path = "common/binary.rs"]
mod binary;
#[path = "common/traced.rs"]
mod traced;

mod bad_input;
mod cli_data;
mod cli_findings;
mod cli_tools;
mod commands;
mod comparing;
mod crash;
mod daily;
mod demo;
mod doors;
mod export;
mod export_onnx;
mod figures;
mod full_disk;
mod groups;
mod import;
mod isa;
mod memory;
mod model_file;
mod options;
mod outputs;
mod parts;
mod precision;
mod profile;
mod recommend;
mod resume;
mod run_settings;
mod scans;
mod serving;
mod sharding;
mod special_files;
mod stopping;
mod synthetic;
mod tables;
mod tiles;
mod tune;
mod watching;
