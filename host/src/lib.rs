//! What the program owes the machine it runs on, in one place for all crates: files and folders that are
//! whole or absent ([`write()`], [`NewFolder`]), outputs with one writer ([`Hold`]), inputs that are files
//! and no longer than expected ([`files`]), signals that every loop checks ([`interrupt`]), and names that
//! are safe to print ([`line()`]).
//!
//! What a killed run leaves behind is found by its name and removed by the next run that writes there: its
//! writer holds an advisory lock (`flock`) on it for as long as it lives, so nothing depends on process
//! numbers, clocks or hosts.

mod file;
pub mod files;
mod folder;
mod hold;
pub mod interrupt;
mod leftovers;
mod text;

pub use file::{NewFile, target, write};
pub use folder::{NewFolder, try_folder};
pub use hold::{Hold, HoldError};
pub use leftovers::temporary;
pub use tempfile::NamedTempFile;
pub use text::{line, lines};
