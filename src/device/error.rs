//! What can go wrong on a device, said so that a person can act on it.

use std::sync::Arc;

use ganomede_kernels::KernelError;

use crate::tape::StateId;

/// Why a device could not be opened, loaded or run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// No adapter answers the choice made.
    #[error(
        "no {wanted} found ({found}); install your GPU's Vulkan driver (for software Vulkan on Debian or Ubuntu: \
         apt-get install mesa-vulkan-drivers) or use the device `cpu`"
    )]
    NoAdapter {
        /// What was looked for, for example "hardware GPU adapter".
        wanted: String,
        /// What exists instead.
        found: String,
    },
    /// A device that the library was built without.
    #[error(
        "this build of ganomede has no device '{device}': the feature of that name was left out; use the CPU, or build \
         with the feature"
    )]
    NotBuilt {
        /// Its name.
        device: &'static str,
    },
    /// What a device is not able to do.
    #[error("this device cannot {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// A device selector that names nothing.
    #[error("device '{selector}' does not exist; known devices: {known}")]
    Selector {
        /// The selector as given.
        selector: String,
        /// What exists, separated by commas.
        known: String,
    },
    /// The adapter exists, its driver refuses to open it.
    #[error(
        "cannot open adapter '{adapter}': {reason}; update its driver, choose another adapter, or use the device `cpu`"
    )]
    Open {
        /// Adapter name.
        adapter: String,
        /// The driver's reason.
        reason: String,
    },
    /// A buffer beyond what the adapter can allocate or bind.
    #[error(
        "{launch}: a buffer of {bytes} bytes exceeds the adapter's limit of {limit} bytes for {what}; use a smaller \
         batch, size or width"
    )]
    BufferTooLarge {
        /// Scope and kernel of the launch, or the buffer's name.
        launch: String,
        /// Bytes needed.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
        /// What the limit is for: "one storage binding" or "one buffer".
        what: &'static str,
    },
    /// All buffers together exceed the memory that the device may use; known before anything is allocated.
    #[error(
        "the program needs {needed} bytes of buffers, the device has {available} bytes free for it; use a smaller \
         batch, size or width, or another device"
    )]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        available: u64,
    },
    /// The driver ran out of memory.
    #[error(
        "out of device memory while allocating {what} ({bytes} bytes); use a smaller batch, or close other programs"
    )]
    OutOfMemory {
        /// What was being allocated or run.
        what: String,
        /// Its size in bytes, 0 where unknown.
        bytes: u64,
    },
    /// A launch that contradicts itself, its program or the adapter's grid and binding limits.
    #[error("{launch}: {what}")]
    Launch {
        /// Scope and kernel of the launch.
        launch: String,
        /// What does not fit, with the numbers.
        what: String,
    },
    /// wgpu rejected a command that passed this crate's own checks.
    #[error("{launch}: rejected by wgpu: {message}; this is a bug in Ganomede, please report it")]
    Validation {
        /// Scope and kernel of the launch, or the operation.
        launch: String,
        /// wgpu's message.
        message: String,
    },
    /// The driver gave the device up.
    #[error(
        "GPU lost while running {launches}: {reason}; resume from the last checkpoint, or use the device `cpu`"
    )]
    Lost {
        /// The launches of the submission waited for.
        launches: String,
        /// The driver's reason.
        reason: String,
    },
    /// A submission did not finish in time; the device is given up, since its state is unknown.
    #[error(
        "GPU did not finish within {seconds} s: {launches}; use a smaller batch, a longer time-out, or the device `cpu`"
    )]
    Timeout {
        /// The launches of the submission waited for.
        launches: String,
        /// Seconds waited.
        seconds: f64,
    },
    /// A shader that does not compile, or does not match its bindings or constants.
    #[error("shader {shader}, entry point {entry}: {message}")]
    Shader {
        /// Shader file.
        shader: String,
        /// Entry point.
        entry: String,
        /// The compiler's message.
        message: String,
    },
    /// A kernel that cannot be planned for this device.
    #[error("{launch}: {source}")]
    Kernel {
        /// Scope and kernel of the launch.
        launch: String,
        /// The kernel's own error.
        source: KernelError,
    },
    /// Data whose length differs from its buffer's.
    #[error("{name}: expected {expected} values, got {got}")]
    WrongLength {
        /// Which buffer.
        name: String,
        /// Elements of the buffer.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// States that could not be registered as asked, or are another registry's.
    #[error(transparent)]
    States(#[from] crate::tape::StateError),
    /// A replay ended early because its observer had seen enough.
    #[error("the replay was stopped by its observer")]
    Stopped,
    /// The process was asked to stop between two replays.
    #[error(transparent)]
    Interrupted(#[from] ganomede_host::interrupt::Interrupted),
    /// A program over the store of another model.
    #[error(
        "state {} is '{expected}' in the program and '{found}' in the store; a program runs over a store of the \
         registry that it was recorded with",
        id.0
    )]
    OtherState {
        /// The state.
        id: StateId,
        /// Its name in the program.
        expected: Arc<str>,
        /// Its name in the store.
        found: Arc<str>,
    },
    /// A buffer or state that does not exist.
    #[error("'{name}' does not exist; known: {known}")]
    UnknownName {
        /// The name or number asked for.
        name: String,
        /// What exists.
        known: String,
    },
}

impl DeviceError {
    /// True where the machine is at fault (no adapter, lost device, memory), false where the request or this
    /// crate is.
    pub fn is_machine_fault(&self) -> bool {
        matches!(
            self,
            Self::NoAdapter { .. }
                | Self::Open { .. }
                | Self::Memory { .. }
                | Self::OutOfMemory { .. }
                | Self::Lost { .. }
                | Self::Timeout { .. }
        )
    }
}
