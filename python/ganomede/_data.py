"""What users hand over, as the extension takes it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

Form = Literal["image", "series", "table"]
#: Rows and columns from which on an array may hold images.
SMALLEST_IMAGE = 16
#: A folder or file; or images, rows or windows as arrays.
Data = Any


@dataclass(frozen=True)
class Paths:
    """Files, folders and sets by name."""

    names: list[str]


@dataclass(frozen=True)
class Images:
    """Images of 8 or 16 bits, ``[height, width]`` or ``[height, width, channels]``."""

    pixels: list[npt.NDArray[Any]]

    @property
    def channels(self) -> int:
        """1 where all images are gray, else 3."""
        return 1 if all(p.ndim == 2 or p.shape[2] == 1 for p in self.pixels) else 3


@dataclass(frozen=True)
class Measured:
    """Rows of a table, or windows of a series, in their own units."""

    form: Form
    #: ``[samples, columns]`` or ``[samples, channels · time]``.
    values: npt.NDArray[np.float64]
    channels: int
    #: Names of the columns, where there are any.
    names: list[str] | None


Samples = Union[Paths, Images, Measured]


def samples(x: Data, form: Form | None = None) -> Samples:
    """Tells what ``x`` is; ``form`` decides where its shape leaves it open."""
    if isinstance(x, (str, os.PathLike)):
        return Paths([os.fspath(x)])
    if isinstance(x, Sequence) and len(x) > 0:
        if all(isinstance(item, (str, os.PathLike)) for item in x):
            return Paths([os.fspath(item) for item in x])
        first = x[0]
        if hasattr(first, "convert") or (isinstance(first, np.ndarray) and first.ndim >= 2):
            if form in (None, "image"):
                return _images([_array(item) for item in x])
            return _numbers(np.stack([unmasked(item) for item in x]), form, None)
    names = [str(name) for name in x.columns] if hasattr(x, "columns") else None
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise TypeError("sparse input is not supported; pass X.toarray()")
    array = unmasked(x)
    if form == "image" or (form is None and (array.ndim == 4 or (array.ndim == 3 and array.dtype == np.uint8))):
        if array.ndim not in (3, 4):
            raise ValueError(f"images of shape {array.shape}; [n, height, width] or [n, height, width, channels] is expected")
        return _images(list(array))
    if form is None and array.ndim == 3 and min(array.shape[1:]) >= SMALLEST_IMAGE:
        warnings.warn(
            f"an array of shape {array.shape} of {array.dtype} is taken as windows of {array.shape[1]} channels and "
            f"{array.shape[2]} points; if these are gray images, pass form='image' (form='series' keeps this and is quiet)",
            UserWarning,
            stacklevel=3,
        )
    return _numbers(array, form, names)


def unmasked(x: Any) -> npt.NDArray[Any]:
    """An array. What is masked is no value, and nothing here takes missing ones."""
    parts = x if isinstance(x, (list, tuple)) else [x]
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise ValueError("a masked array has masked entries, which are no values: fill them or leave them out")
    return np.asarray(x)


def real(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of real numbers; texts and times are none, whatever NumPy would make of them."""
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: give real numbers")
    if array.dtype.kind == "O":
        others = (str, bytes, type(None), np.datetime64, np.timedelta64)
        wrong = next((type(value).__name__ for value in array.flat if isinstance(value, others)), None)
    else:
        wrong = str(array.dtype) if array.dtype.kind not in "biuf" else None
    if wrong is not None:
        raise ValueError(f"values of {wrong} are not numeric: make numbers of them first")
    try:
        return array if array.dtype.kind != "O" else np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"values of {array.dtype} are not numeric: {error}") from None


def _array(image: Any) -> npt.NDArray[Any]:
    """An image of NumPy or of Pillow as an array."""
    if isinstance(image, np.ndarray):
        return unmasked(image)
    if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    return np.asarray(image)


def _images(arrays: list[npt.NDArray[Any]]) -> Images:
    if not arrays:
        raise ValueError("there are no images (0 samples)")
    return Images([_pixels(array, i) for i, array in enumerate(arrays)])


def _pixels(array: npt.NDArray[Any], i: int) -> npt.NDArray[Any]:
    """8 or 16 bits: numbers of 0 to 1 become 16 bits."""
    if array.dtype in (np.uint8, np.uint16):
        return np.require(array, requirements=["C", "A"])
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array).astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"image {i} is of {array.dtype}; give uint8 (0 to 255), uint16, or floats of 0 to 1")
    low, high = float(np.min(array)), float(np.max(array))
    # NaN fails the comparison too.
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(
            f"image {i} has values from {low:g} to {high:g}; floats must lie in 0 to 1, uint8 in 0 to 255"
        )
    return np.round(np.asarray(array, dtype=np.float64) * 65535.0).astype(np.uint16)


def _numbers(array: npt.NDArray[Any], form: Form | None, names: list[str] | None) -> Measured:
    values = np.asarray(real(array), dtype=np.float64)
    if values.ndim == 1:
        raise ValueError(
            "Expected 2D array, got 1D array instead. Reshape your data either using array.reshape(-1, 1) if it has "
            "a single feature or array.reshape(1, -1) if it is a single sample"
        )
    if values.ndim not in (2, 3) or form == "table" and values.ndim != 2 or form == "series" and values.ndim != 3:
        raise ValueError(
            f"an array of shape {values.shape}: [n, columns] is a table, [n, channels, time] are windows of a series, "
            "[n, height, width] of uint8 and [n, height, width, channels] are images"
        )
    if values.shape[0] == 0:
        raise ValueError(f"Found array with 0 sample(s) (shape={values.shape}) while a minimum of 1 is required.")
    if 0 in values.shape:
        raise ValueError(f"Found array with 0 feature(s) (shape={values.shape}) while a minimum of 1 is required.")
    if not np.isfinite(values).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"Input X contains NaN or infinity, the first at {at}")
    return Measured(
        form="table" if values.ndim == 2 else "series",
        values=np.require(values.reshape(values.shape[0], -1), requirements=["C", "A"]),
        channels=values.shape[1],
        names=names,
    )
