//! What the Python package stands on: detectors, their data as arrays, and the engine. The package's modules
//! give it the names and habits of Python.

mod data;
mod detector;
mod engine;
mod watch;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use ganomede::Device;
use ganomede::device::{GpuOptions, Selector};
use ganomede::models::SYSTEMS;

/// An error of the library as Python knows it: what was asked for is at fault, or the machine is.
fn raised(error: ganomede::DetectError) -> PyErr {
    let text = error.to_string();
    if error.is_machine_fault() { PyRuntimeError::new_err(text) } else { PyValueError::new_err(text) }
}

/// Opens a device by its name: `auto`, `cpu`, `gpu`, `gpu:N`.
fn device(name: &str) -> PyResult<Device> {
    let selector: Selector = name.parse().map_err(PyValueError::new_err::<String>)?;
    Device::open(selector, GpuOptions::default()).map_err(|error| PyRuntimeError::new_err(error.to_string()))
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
fn describe_device(name: &str) -> PyResult<String> {
    Ok(device(name)?.describe())
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
