//! What can be wrong with a kernel.

/// Why a kernel cannot be built or run as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Parameters that contradict each other.
    #[error("{kernel}: {what}")]
    Shape {
        /// Family name.
        kernel: &'static str,
        /// What does not fit, with the numbers.
        what: String,
    },
    /// A variant name that the family does not have, or that cannot run this shape.
    #[error("{kernel} has no variant '{variant}' for this shape; it has: {known}")]
    Variant {
        /// Family name.
        kernel: &'static str,
        /// The name asked for.
        variant: String,
        /// The names that exist, separated by commas.
        known: String,
    },
    /// A variant that needs what the adapter does not have.
    #[error(
        "{kernel}: variant '{variant}' needs {what}, which the adapter does not have; choose another variant"
    )]
    Missing {
        /// Family name.
        kernel: &'static str,
        /// The variant asked for.
        variant: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// A buffer or grid beyond what the adapter can bind or dispatch.
    #[error(
        "{kernel}: needs {needed} {unit}, the adapter allows {limit}; use a smaller batch, size or width"
    )]
    Limit {
        /// Family name.
        kernel: &'static str,
        /// Amount needed.
        needed: u64,
        /// What the adapter allows.
        limit: u64,
        /// Unit of both, for example "bytes in one binding".
        unit: &'static str,
    },
}

pub(crate) fn shape_error(kernel: &'static str, what: String) -> KernelError {
    KernelError::Shape { kernel, what }
}
