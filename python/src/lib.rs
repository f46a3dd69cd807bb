//! What the Python package stands on: detectors, their data as arrays, and the engine. The package's modules
//! give it the names and habits of Python.

#![cfg(feature = "module")]

mod data;
mod detector;
mod engine;
mod watch;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use ganomede::device::{DeviceError, GpuOptions, Selector};
use ganomede::models::SYSTEMS;
use ganomede::{Device, Precision};

/// An error of the library as Python knows it: what was asked for is at fault, or the machine is.
fn raised(error: ganomede::DetectError) -> PyErr {
    let text = error.to_string();
    if error.is_machine_fault() { PyRuntimeError::new_err(text) } else { PyValueError::new_err(text) }
}

/// Where something runs: a device by its name (`auto`, `cpu`, `gpu`, `gpu:N`), and a precision by its name
/// (`f32`, `bf16`).
type Place = (String, String);

/// Opens a device in a precision.
fn device((name, precision): &Place) -> PyResult<Device> {
    let selector: Selector = name.parse().map_err(PyValueError::new_err::<String>)?;
    let precision: Precision = precision.parse().map_err(PyValueError::new_err::<String>)?;
    let opened = Device::open(selector, GpuOptions::default());
    opened.and_then(|device| device.with_precision(precision)).map_err(refused)
}

/// An error of a device as Python knows it.
fn refused(error: DeviceError) -> PyErr {
    let text = error.to_string();
    if error.is_machine_fault() { PyRuntimeError::new_err(text) } else { PyValueError::new_err(text) }
}

/// Every system, as dictionaries: name, title, paper, url, scores, options.
#[pyfunction]
fn systems(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    SYSTEMS
        .iter()
        .map(|info| {
            let system = PyDict::new(py);
            system.set_item("name", info.name)?;
            system.set_item("title", info.title)?;
            system.set_item("paper", info.paper)?;
            system.set_item("url", info.url)?;
            system.set_item("scores", info.scores.iter().map(|s| s.name).collect::<Vec<_>>())?;
            system.set_item("options", info.options.iter().map(|o| o.key).collect::<Vec<_>>())?;
            Ok(system)
        })
        .collect()
}

/// What a device is, in words.
#[pyfunction]
fn describe_device(place: Place) -> PyResult<String> {
    Ok(device(&place)?.describe())
}

#[pymodule]
fn _ganomede(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(systems, module)?)?;
    module.add_function(wrap_pyfunction!(describe_device, module)?)?;
    module.add_function(wrap_pyfunction!(detector::train, module)?)?;
    module.add_class::<detector::Model>()?;
    module.add_function(wrap_pyfunction!(engine::shape_of, module)?)?;
    module.add_class::<engine::Program>()?;
    module.add_class::<engine::Store>()?;
    Ok(())
}
