//! What kernels become on a target, without running them: translations to other shader languages, and
//! statistics of the machine code that a driver makes of them.

pub mod assembly;
pub mod isa;
#[cfg(target_os = "linux")]
pub mod radv;
mod translate;

pub use translate::{Language, Workgroup, specialise, spirv, translate, workgroup};

/// Why a kernel cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// naga refuses a shader.
    #[error("shader {shader} cannot be translated: {message}")]
    Shader {
        /// Its file.
        shader: &'static str,
        /// naga's words.
        message: String,
    },
    /// The driver that compiles without a GPU is not there.
    #[error("{what}; {advice}")]
    Driver {
        /// What is missing.
        what: String,
        /// What to do.
        advice: String,
    },
    /// The driver is there and failed.
    #[error("the driver failed to compile for {target}: {message}")]
    Compile {
        /// The target.
        target: &'static str,
        /// Its words.
        message: String,
    },
}
