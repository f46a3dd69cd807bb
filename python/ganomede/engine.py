"""The engine by itself: recorded mathematics, its gradients, compiled into launches of kernels.

>>> import numpy as np
>>> from ganomede import engine
>>> tape = engine.Tape()
>>> x = tape.input("x", (2,))
>>> (gradient,) = tape.grad((x.square() * x).sum(), [x])
>>> tape.output("3x²", gradient)
>>> (second,) = tape.grad(gradient.sum(), [x])
>>> tape.output("6x", second)
>>> tape.compile(device="cpu").run(x=[1.0, 2.0])
{'3x²': array([ 3., 12.], dtype=float32), '6x': array([ 6., 12.], dtype=float32)}

States keep their values from run to run, which is how something learns:

>>> states = engine.States()
>>> w = states.add("w", [0.0])
>>> tape = engine.Tape()
>>> value = tape.state(w)
>>> loss = (value - 3.0).square().sum()
>>> (gradient,) = tape.grad(loss, [value])
>>> tape.assign(w, value - 0.1 * gradient)
>>> store = states.store("cpu")
>>> _ = tape.compile(store).run(times=100)
>>> store["w"].round(3)
array([3.], dtype=float32)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from . import _ganomede
from ._device import quiet

__all__ = ["Program", "State", "States", "Store", "Tape", "Tensor", "where"]

Operand = Union["Tensor", float, int]
Pair = Union[int, tuple[int, int]]


@dataclass(frozen=True)
class State:
    """Values that programs share and keep."""

    name: str
    shape: tuple[int, ...]


class States:
    """The states of a model, with their first values."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[State, npt.NDArray[np.float32]]] = {}

    def add(self, name: str, initial: npt.ArrayLike) -> State:
        """A state of the shape and values of an array."""
        if name in self._entries:
            raise ValueError(f"there is a state '{name}' already")
        values = np.asarray(initial, dtype=np.float32)
        state = State(name, values.shape)
        self._entries[name] = (state, values)
        return state

    def store(self, device: str = "auto", precision: str = "f32") -> Store:
        """Memory for them on a device; programs on it round the operands of products as ``precision`` says."""
        return Store(self, device, precision)

    def _shapes(self) -> list[tuple[str, list[int]]]:
        return [(state.name, list(state.shape)) for state, _ in self._entries.values()]


class Store:
    """The states on a device, by name."""

    def __init__(self, states: States, device: str = "auto", precision: str = "f32") -> None:
        entries = states._entries.values()
        given = [(s.name, list(s.shape), np.ascontiguousarray(v).reshape(-1)) for s, v in entries]
        self._states = states
        with quiet():
            self._store = _ganomede.Store((device, precision), given)

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        values = self._store.read(name)
        return values.reshape(self._states._entries[name][0].shape)

    def __setitem__(self, name: str, values: npt.ArrayLike) -> None:
        self._store.write(name, np.asarray(values, dtype=np.float32).reshape(-1))

    @property
    def device(self) -> str:
        """What runs it."""
        return self._store.describe_device()


class Tape:
    """Records operations; nothing is computed before :meth:`compile`."""

    def __init__(self) -> None:
        self._nodes: list[dict[str, Any]] = []
        self._states: dict[str, State] = {}

    def _record(self, op: str, *of: Tensor, values: int = 1, **more: Any) -> list[Tensor]:
        for operand in of:
            if operand._tape is not self:
                raise ValueError(f"an operand of {op} is of another tape")
        self._nodes.append({"op": op, "of": [(t._node, t._value) for t in of], **more})
        return [Tensor(self, len(self._nodes) - 1, value) for value in range(values)]

    def input(self, name: str, shape: Sequence[int]) -> Tensor:
        """What is given at each run."""
        return self._record("input", name=name, sizes=[list(shape)])[0]

    def full(self, value: float, shape: Sequence[int] = ()) -> Tensor:
        """The same number everywhere."""
        return self._record("full", numbers=[float(value)], sizes=[list(shape)])[0]

    def state(self, state: State) -> Tensor:
        """The value that a state has before the run."""
        self._states[state.name] = state
        return self._record("state", name=state.name)[0]

    def assign(self, state: State, value: Tensor) -> None:
        """Gives a state its value after the run."""
        self._states[state.name] = state
        self._record("assign", value, values=0, name=state.name)

    def output(self, name: str, value: Tensor) -> None:
        """What a run gives."""
        self._record("output", value, values=0, name=name)

    def grad(self, loss: Tensor, wrt: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of a number with respect to tensors; they can be differentiated again."""
        return self._record("grad", loss, *wrt, values=len(wrt))

    def vjp(self, y: Tensor, cotangent: Tensor, wrt: Sequence[Tensor]) -> list[Tensor]:
        """The product of a vector and the Jacobian of ``y``."""
        return self._record("vjp", y, cotangent, *wrt, values=len(wrt))

    def compile(
        self, store: Store | None = None, *, device: str = "auto", precision: str = "f32"
    ) -> Program:
        """Launches of fused kernels on the device of a store; without one, on that of this name."""
        if store is None:
            if self._states:
                raise ValueError("the tape has states: give the store that they are in")
            store = Store(States(), device, precision)
        return Program(self, store)


def _axes(axis: int | Sequence[int] | None, rank: int) -> list[int]:
    axes = range(rank) if axis is None else [axis] if isinstance(axis, int) else axis
    return sorted(a + rank if a < 0 else a for a in axes)


def _pair(value: Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class Tensor:
    """A value on a tape. Shapes broadcast as NumPy's do."""

    __array_priority__ = 1000

    def __init__(self, tape: Tape, node: int, value: int) -> None:
        self._tape = tape
        self._node = node
        self._value = value

    def __repr__(self) -> str:
        return f"Tensor{self.shape}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        nodes = self._tape._nodes[: self._node + 1]
        states = [(state.name, list(state.shape)) for state in self._tape._states.values()]
        return tuple(_ganomede.shape_of(json.dumps(nodes), states, self._node, self._value))

    def _of(self, op: str, *others: Tensor, **more: Any) -> Tensor:
        return self._tape._record(op, self, *others, **more)[0]

    def _tensor(self, other: Operand) -> Tensor:
        return other if isinstance(other, Tensor) else self._tape.full(float(other))

    def __neg__(self) -> Tensor:
        return self._of("affine", numbers=[-1.0, 0.0])

    def __add__(self, other: Operand) -> Tensor:
        if not isinstance(other, Tensor):
            return self._of("affine", numbers=[1.0, float(other)])
        return self._of("add", other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Tensor:
        return self + (-other)

    def __rsub__(self, other: Operand) -> Tensor:
        return self._of("affine", numbers=[-1.0, float(other)]) if not isinstance(other, Tensor) else other - self

    def __mul__(self, other: Operand) -> Tensor:
        if not isinstance(other, Tensor):
            return self._of("affine", numbers=[float(other), 0.0])
        return self._of("mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        return self._of("div", self._tensor(other))

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self._tensor(other)._of("div", self)

    def __pow__(self, exponent: Operand) -> Tensor:
        if not isinstance(exponent, Tensor):
            return self.square() if exponent == 2 else self._of("powf", numbers=[float(exponent)])
        return self._of("pow", exponent)

    def __matmul__(self, other: Tensor) -> Tensor:
        return self._of("matmul", other)

    def __gt__(self, other: Operand) -> Tensor:
        return self._of("greater", self._tensor(other))

    def __lt__(self, other: Operand) -> Tensor:
        return self._tensor(other)._of("greater", self)

    def maximum(self, other: Operand) -> Tensor:
        """The larger of two."""
        return self._of("maximum", self._tensor(other))

    def minimum(self, other: Operand) -> Tensor:
        """The smaller of two."""
        return self._of("minimum", self._tensor(other))

    def exp(self) -> Tensor:
        """e to its power."""
        return self._of("exp")

    def log(self) -> Tensor:
        """The natural logarithm."""
        return self._of("log")

    def sqrt(self) -> Tensor:
        """The square root."""
        return self._of("sqrt")

    def square(self) -> Tensor:
        """Its product with itself."""
        return self._of("square")

    def abs(self) -> Tensor:
        """Its magnitude; the gradient at 0 is 0."""
        return self._of("abs")

    def sign(self) -> Tensor:
        """−1, 0 or 1."""
        return self._of("sign")

    def relu(self) -> Tensor:
        """Its positive part."""
        return self._of("relu")

    def leaky_relu(self, slope: float = 0.2) -> Tensor:
        """Its positive part, and ``slope`` of its negative one."""
        return self._of("leaky_relu", numbers=[slope])

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""
        return self._of("tanh")

    def sigmoid(self) -> Tensor:
        """1 / (1 + e^−x)."""
        return self._of("sigmoid")

    def softplus(self) -> Tensor:
        """log(1 + e^x)."""
        return self._of("softplus")

    def clamp(self, low: float, high: float) -> Tensor:
        """Within bounds."""
        return self._of("clamp", numbers=[low, high])

    def stop_gradient(self) -> Tensor:
        """The same, through which no gradient goes."""
        return self._of("stop_gradient")

    def _reduced(self, op: str, axis: int | Sequence[int] | None, keepdims: bool) -> Tensor:
        shape = self.shape
        axes = _axes(axis, len(shape))
        found = self._of(op, sizes=[axes])
        sizes = [1 if i in axes else size for i, size in enumerate(shape)]
        if not keepdims:
            sizes = [size for i, size in enumerate(shape) if i not in axes]
        return found.reshape(sizes)

    def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """The sum over axes, or of all."""
        return self._of("sum_all") if axis is None and not keepdims else self._reduced("sum", axis, keepdims)

    def mean(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """The mean over axes, or of all."""
        return self._of("mean_all") if axis is None and not keepdims else self._reduced("mean", axis, keepdims)

    def max(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """The largest over axes, or of all."""
        return self._reduced("max", axis, keepdims)

    def min(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """The smallest over axes, or of all."""
        return self._reduced("min", axis, keepdims)

    def softmax(self, axis: int = -1) -> Tensor:
        """Exponentials that add to 1 along an axis."""
        return self._of("softmax", sizes=[_axes(axis, len(self.shape))])

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape."""
        sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else list(shape)
        if -1 in sizes:
            rest = int(np.prod([size for size in sizes if size != -1], dtype=int))
            sizes[sizes.index(-1)] = int(np.prod(self.shape, dtype=int)) // max(rest, 1)
        return self._of("reshape", sizes=[sizes])

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        """Repeated along axes of size 1."""
        return self._of("broadcast_to", sizes=[list(shape)])

    def permute(self, *order: int) -> Tensor:
        """The axes in another order."""
        return self._of("permute", sizes=[list(order)])

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self.permute(*reversed(range(len(self.shape))))

    def pad(self, low: Sequence[int], high: Sequence[int]) -> Tensor:
        """Zeros before and after each axis."""
        return self._of("pad", sizes=[list(low), list(high)])

    def __getitem__(self, index: Any) -> Tensor:
        shape = self.shape
        given = index if isinstance(index, tuple) else (index,)
        if len(given) > len(shape):
            raise IndexError(f"{len(given)} indices for a tensor of {len(shape)} axes")
        start, end, step, kept = [], [], [], []
        for i, size in enumerate(shape):
            at = given[i] if i < len(given) else slice(None)
            if isinstance(at, int):
                at = at + size if at < 0 else at
                if not 0 <= at < size:
                    raise IndexError(f"index {at} is out of range for axis {i} of size {size}")
                low, high, stride = at, at + 1, 1
            elif isinstance(at, slice):
                low, high, stride = at.indices(size)
                if stride < 1:
                    raise IndexError("steps of slices must be positive")
                kept.append(len(range(low, high, stride)))
            else:
                raise IndexError("indices are whole numbers and slices")
            start.append(low)
            end.append(high)
            step.append(stride)
        return self._of("slice", sizes=[start, end, step]).reshape(kept)

    def conv2d(
        self, weight: Tensor, *, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1
    ) -> Tensor:
        """``[n, c, h, w]`` with ``[out, c / groups, kh, kw]``."""
        sizes = [_pair(stride), _pair(padding), _pair(padding), _pair(dilation), [0, 0], [groups]]
        return self._of("conv2d", weight, sizes=sizes)

    def conv_transpose2d(
        self, weight: Tensor, *, stride: Pair = 1, padding: Pair = 0, output_padding: Pair = 0
    ) -> Tensor:
        """``[n, c, h, w]`` with ``[c, out, kh, kw]``."""
        sizes = [_pair(stride), _pair(padding), _pair(padding), [1, 1], _pair(output_padding), [1]]
        return self._of("conv_transpose2d", weight, sizes=sizes)


def where(condition: Tensor, a: Operand, b: Operand) -> Tensor:
    """``a`` where the condition is not 0, else ``b``."""
    return condition._of("where", condition._tensor(a), condition._tensor(b))


class Program:
    """Launches of kernels over planned buffers."""

    def __init__(self, tape: Tape, store: Store) -> None:
        self._program = _ganomede.Program(json.dumps(tape._nodes), store._store)

    def run(self, times: int = 1, **inputs: npt.ArrayLike) -> dict[str, npt.NDArray[np.float32]]:
        """Runs with these inputs (those of before where none are given), and gives the outputs by name."""
        for name, values in inputs.items():
            self._program.write(name, np.asarray(values, dtype=np.float32).reshape(-1))
        return self._program.run(times)

    @property
    def launches(self) -> list[str]:
        """The kernels that a run launches, in order."""
        return [kernel for kernel, _ in self._program.launches()]
