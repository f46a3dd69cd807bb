"""Test vectors of the ONNX operators in a form that `tests/onnx/main.rs` reads.

Run `python3 tests/onnx/vectors.py DIR` with the packages of `tests/onnx/requirements.txt`: all that is read
comes with the `onnx` wheel, the operators' own cases and those that were converted from PyTorch. DIR gets

    vectors.json          the cases: nodes with their attributes, names and kinds of what goes in and must come out
    vectors.safetensors   their f32 tensors, named CASE/NUMBER

Integers and booleans are few and stand in the JSON. A case that holds anything else (other kinds of numbers,
strings, sequences, subgraphs) is written with the reason alone, so that it is counted.
"""

import json
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests

LARGEST = 1 << 20  # elements of one tensor


class Inexpressible(Exception):
    pass


class Writer:
    def __init__(self):
        self.header, self.blobs, self.at = {}, [], 0

    def add(self, name, array):
        raw = np.ascontiguousarray(array, "<f4").tobytes()
        self.header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [self.at, self.at + len(raw)]}
        self.blobs.append(raw)
        self.at += len(raw)

    def save(self, path):
        head = json.dumps(self.header).encode()
        head += b" " * (-len(head) % 8)
        path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(self.blobs))


def value(array, case, writer, count):
    """A tensor as JSON: f32 by name, the rest in place."""
    if isinstance(array, TensorProto):
        array = numpy_helper.to_array(array)
    if isinstance(array, np.generic):
        array = np.asarray(array)
    if not isinstance(array, np.ndarray):
        raise Inexpressible("a sequence, map or missing value")
    if array.size > LARGEST:
        raise Inexpressible("a tensor of more than 2^20 elements")
    kind = array.dtype.kind
    if array.dtype == np.float32:
        name = f"{case}/{count}"
        writer.add(name, array)
        return {"kind": "f32", "shape": list(array.shape), "tensor": name}
    if array.dtype == np.bool_:
        return {"kind": "bool", "shape": list(array.shape), "values": array.astype(int).flatten().tolist()}
    if kind in "iu" and array.dtype.itemsize in (4, 8) and array.dtype.name in ("int32", "int64"):
        return {"kind": "int", "shape": list(array.shape), "values": array.flatten().tolist()}
    raise Inexpressible(f"numbers of kind {array.dtype.name}")


def attribute(a, case, writer, count):
    match a.type:
        case AttributeProto.INT:
            return a.i
        case AttributeProto.INTS:
            return list(a.ints)
        case AttributeProto.FLOAT:
            return a.f if np.isfinite(a.f) else str(a.f)
        case AttributeProto.FLOATS:
            return list(a.floats)
        case AttributeProto.STRING:
            return a.s.decode()
        case AttributeProto.STRINGS:
            return [s.decode() for s in a.strings]
        case AttributeProto.TENSOR:
            return value(numpy_helper.to_array(a.t), case, writer, count())
    raise Inexpressible("a subgraph")


def convert(name, model, inputs, outputs, writer):
    numbers = iter(range(1 << 20))
    count = lambda: next(numbers)
    graph = model.graph
    nodes = []
    try:
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                raise Inexpressible(f"operators of '{node.domain}'")
            try:
                attributes = {a.name: attribute(a, name, writer, count) for a in node.attribute}
            except Inexpressible as reason:
                raise Inexpressible(f"{node.op_type}: {reason}") from None
            nodes.append({"op": node.op_type, "in": list(node.input), "out": list(node.output), "attributes": attributes})
        given = {i.name: value(numpy_helper.to_array(i), name, writer, count()) for i in graph.initializer}
        names = [i.name for i in graph.input if i.name not in given or len(graph.input) == len(inputs)]
        given |= {n: value(a, name, writer, count()) for n, a in zip(names, inputs)}
        wanted = [(o.name, value(a, name, writer, count())) for o, a in zip(graph.output, outputs)]
    except Inexpressible as reason:
        return {"name": name, "ops": sorted({n.op_type for n in graph.node}), "reason": str(reason)}
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return {"name": name, "opset": opset, "nodes": nodes, "given": given, "wanted": wanted}


def cases():
    """Name, model, inputs and outputs of every case: a name has as many as it has sets of data."""
    for case in collect_testcases(None):
        for inputs, outputs in case.data_sets:
            yield case.name, case.model, inputs, outputs
    for kind in ("pytorch-converted", "pytorch-operator", "simple"):
        for case in load_model_tests(kind=kind):
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            for data in sorted(folder.glob("test_data_set_*")):
                tensors = []
                for which, ports in (("input", model.graph.input), ("output", model.graph.output)):
                    count = len(list(data.glob(f"{which}_*.pb")))
                    tensors.append([tensor(data / f"{which}_{i}.pb", port) for i, port in zip(range(count), ports)])
                yield f"{kind}/{case.name}", model, *tensors


def tensor(path, port):
    """The array of a file; what is no tensor is returned as its bytes."""
    raw = path.read_bytes()
    return numpy_helper.to_array(TensorProto.FromString(raw)) if port.type.WhichOneof("value") == "tensor_type" else raw


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", RuntimeWarning)  # the cases divide by 0 on purpose
    writer, converted = Writer(), []
    for name, model, inputs, outputs in cases():
        converted.append(convert(name, model, list(inputs), list(outputs), writer))
    writer.save(folder / "vectors.safetensors")
    document = {"onnx": onnx.__version__, "cases": converted}
    (folder / "vectors.json").write_text(json.dumps(document, allow_nan=False))
    print(f"onnx {onnx.__version__}: {len(converted)} cases, {sum('reason' not in c for c in converted)} of f32, integers and booleans")


if __name__ == "__main__":
    main()
