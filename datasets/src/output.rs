//! Data sets written as folders that appear whole or not at all.

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use ganomede_host::NewFolder;

use crate::DataError;
use crate::pixels::Raw;

/// Begins the folder of an output, which must not exist or be empty.
pub(crate) fn create(out: &Path) -> Result<NewFolder, DataError> {
    NewFolder::create(out).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => DataError::Output { path: out.to_path_buf(), reason: error.to_string() },
        _ => DataError::io("create", out)(error),
    })
}

/// Writes an image losslessly, as it is stored, into the folder `out` that is being made.
pub(crate) fn write_png(folder: &NewFolder, out: &Path, name: &str, raw: Raw) -> Result<(), DataError> {
    let path = out.join(name);
    let Some(image) = raw.into_dynamic() else {
        return Err(DataError::file(&path, "the image to be written is inconsistent; report this"));
    };
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| DataError::file(&path, format!("cannot be encoded: {e}; report this")))?;
    folder.write(name, bytes.get_ref()).map_err(DataError::io("write", &path))
}
