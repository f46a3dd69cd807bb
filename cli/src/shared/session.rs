//! What commands share before the work: data opened for a model, and outputs that can be written.

use std::path::Path;

use ganomede::detect::options_of;
use ganomede::models::file::ModelFile;
use ganomede::report::REPORT_FILES;
use ganomede_datasets::{DataError, Dataset, OpenOptions, Reads};

use super::args::DataArgs;
use super::{CliError, shown};

/// Opens data for a trained model: framed (flattened, cut into patches) as the model was trained, labelled
/// sets with the model's classes where the command gives none; it may not give the contrary. `without_masks`
/// where only scores are wanted.
pub(crate) fn open_data(
    data: &DataArgs,
    model: &ModelFile,
    without_masks: bool,
) -> Result<Dataset, DataError> {
    let given = OpenOptions { without_masks, ..data.open_options() };
    Dataset::open(&data.data, &options_of(model, given))
}

/// Makes sure before the work that its results can be written to a folder and will not lie among what the run
/// reads: makes the folder and tries it.
pub(crate) fn check_folder(folder: &Path, reads: &Reads) -> Result<(), CliError> {
    reads.check_folder(folder)?;
    ganomede_host::try_folder(folder).map_err(|e| {
        CliError::machine(format!(
            "cannot write to folder '{}': {e}; choose another place or fix its permissions",
            shown(folder)
        ))
    })
}

/// As [`check_folder`], for a file that will be written: it replaces nothing that the run reads, and no
/// device or pipe.
pub(crate) fn check_file(file: &Path, reads: &Reads) -> Result<(), CliError> {
    // Below a file there is no place at all; the system says that best about the folder.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    check_folder(folder, &Reads::new())?;
    Ok(reads.check_file(file)?)
}

/// As [`check_folder`], for the folder of a report.
pub(crate) fn check_report(folder: &Path, reads: &Reads) -> Result<(), CliError> {
    check_folder(folder, reads)?;
    REPORT_FILES.iter().try_for_each(|name| Ok(reads.check_file(&folder.join(name))?))
}
