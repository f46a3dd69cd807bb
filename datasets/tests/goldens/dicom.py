"""Writes small DICOM files and what pydicom makes of their pixels: dicom/*.dcm and dicom/*.csv.

    pip install pydicom==3.0.2 numpy && python3 dicom.py

A row of a CSV file is a frame: the gray of each pixel as a share of the range, 0 black and 1 white.
"""

import copy
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

HERE = Path(__file__).parent / "dicom"
ROWS, COLUMNS = 9, 11


def data_set(syntax, pixels, stored, *, signed=False, photometric="MONOCHROME2"):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    ds.PatientName, ds.PatientID = "Secretname^Patient", "SECRETID-17"
    ds.PatientBirthDate = "19700102"
    frames = pixels.reshape(-1, ROWS, COLUMNS).shape[0]
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored, ds.HighBit = stored, stored - 1
    ds.PixelRepresentation = int(signed)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    return ds


def shares(ds, frame):
    """Black is 0 and white is 1, by pydicom's own rescaling and windowing."""
    signed, bits = ds.PixelRepresentation == 1, ds.BitsStored
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    least, most = least * slope + intercept, most * slope + intercept
    gray = apply_windowing(apply_modality_lut(frame, ds), ds).astype(float)
    gray = (gray - least) / (most - least)
    return 1 - gray if ds.PhotometricInterpretation == "MONOCHROME1" else gray


def write(name, ds, frames, of_frame=None):
    of_frame = of_frame or [ds] * len(frames)
    text = "\n".join(",".join(f"{v:.7f}" for v in shares(d, f).ravel()) for d, f in zip(of_frame, frames))
    (HERE / f"{name}.csv").write_text(text + "\n")
    ds.save_as(HERE / f"{name}.dcm", enforce_file_format=True)


def main():
    HERE.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)

    ct = rng.integers(-1024, 1500, (ROWS, COLUMNS)).astype(np.int16)
    ds = data_set(ExplicitVRLittleEndian, ct, 16, signed=True)
    ds.RescaleSlope, ds.RescaleIntercept = 0.5, -20
    ds.WindowCenter, ds.WindowWidth = [40, 300], [400, 1500]
    ds.ReferencedImageSequence = Sequence([Dataset()])
    # Numbers of another image are not this one's.
    ds.ReferencedImageSequence[0].Rows = 999
    ds.ReferencedImageSequence[0].RescaleSlope = 7
    write("ct", ds, [ct])

    xray = rng.integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
    ds = data_set(ImplicitVRLittleEndian, xray, 12, photometric="MONOCHROME1")
    write("xray", ds, [xray])

    stack = rng.integers(0, 256, (3, ROWS, COLUMNS)).astype(np.uint8)
    stack[1, 2:6] = 77
    ds = data_set(ExplicitVRLittleEndian, stack, 8)
    ds.compress(RLELossless)
    write("stack", ds, list(stack))

    deep = rng.integers(0, 1024, (ROWS, COLUMNS)).astype(np.uint16)
    ds = data_set(ExplicitVRLittleEndian, deep, 10)
    ds.compress(RLELossless)
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 500, 700, "LINEAR_EXACT"
    write("deep", ds, [deep])

    big = rng.integers(0, 65536, (ROWS, COLUMNS)).astype(np.uint16)
    ds = data_set(ExplicitVRBigEndian, big, 16)
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 30000, 20000, "SIGMOID"
    write("big", ds, [big])

    pair = rng.integers(0, 4096, (2, ROWS, COLUMNS)).astype(np.uint16)
    ds = data_set(ExplicitVRLittleEndian, pair, 12)
    shared, of_frame, each = Dataset(), [], []
    shared.FrameVOILUTSequence = Sequence([Dataset()])
    shared.FrameVOILUTSequence[0].WindowCenter = 1500
    shared.FrameVOILUTSequence[0].WindowWidth = 3000
    for slope in (1.0, 2.0):
        item, plain = Dataset(), copy.deepcopy(ds)
        item.PixelValueTransformationSequence = Sequence([Dataset()])
        item.PixelValueTransformationSequence[0].RescaleSlope = slope
        item.PixelValueTransformationSequence[0].RescaleIntercept = -100
        plain.RescaleSlope, plain.RescaleIntercept = slope, -100
        plain.WindowCenter, plain.WindowWidth = 1500, 3000
        each.append(item)
        of_frame.append(plain)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(each)
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    for item in each:
        item.is_undefined_length_sequence_item = True
    write("enhanced", ds, list(pair), of_frame)


if __name__ == "__main__":
    main()
