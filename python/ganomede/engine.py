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
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from . import _ganomede
from ._data import real, unmasked
from ._device import quiet

__all__ = ["Program", "State", "States", "Store", "Tape", "Tensor", "where"]

Operand = Union["Tensor", float, int]
Pair = Union[int, tuple[int, int]]


def _values(given: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    """Numbers as the extension takes them."""
    try:
        values = real(unmasked(given))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None
    return np.require(values, np.float32, ["C", "A"])


def _flat(given: npt.ArrayLike, shape: tuple[int, ...], what: str) -> npt.NDArray[np.float32]:
    """The same in one row, of this shape before."""
    values = _values(given, what)
    if values.shape != shape:
        raise ValueError(f"{what} has shape {shape}, and what was given has shape {values.shape}")
    return values.reshape(-1)


def _number(value: Any) -> float:
    """A constant of a graph."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, (numbers.Real, np.bool_)):
        kind = type(value).__name__
        raise TypeError(f"a number or a tensor is expected, no {kind}; arrays are given as inputs or states")
    found = float(value)
    # NaN fails the comparison too.
    if not abs(found) <= float(np.finfo(np.float32).max):
        raise ValueError(f"the constant {found} is no finite number of float32; give such values as an input")
    return found


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
        values = _values(initial, f"state '{name}'").copy()
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
        given = [(s.name, list(s.shape), v.reshape(-1)) for s, v in entries]
        self._shapes = {s.name: s.shape for s, _ in entries}
        self._place = (device, precision)
        with quiet():
            self._store = _ganomede.Store((device, precision), given)

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        values = self._store.read(name)
        return values.reshape(self._shapes[name])

    def __setitem__(self, name: str, values: npt.ArrayLike) -> None:
        if name not in self._shapes:
            raise ValueError(f"there is no state '{name}'")
        self._store.write(name, _flat(values, self._shapes[name], f"state '{name}'"))

    def _check(self, tape: Tape) -> None:
        """That the states of a tape are those here."""
        for state in tape._states.values():
            known = self._shapes.get(state.name, state.shape)
            if known != state.shape:
                raise ValueError(
                    f"state '{state.name}' has shape {known} in the store, and {state.shape} on the tape"
                )

    @property
    def device(self) -> str:
        """What runs it."""
        return self._store.describe_device()


class Tape:
    """Records operations; nothing is computed before :meth:`compile`."""

    def __init__(self) -> None:
        self._nodes: list[dict[str, Any]] = []
        self._states: dict[str, State] = {}
        #: Inputs by name, and what states are here by now: recorded once.
        self._inputs: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        self._current: dict[str, Tensor] = {}

    def _record(self, op: str, *of: Tensor, values: int = 1, **more: Any) -> list[Tensor]:
        for operand in of:
            if operand._tape is not self:
                raise ValueError(f"an operand of {op} is of another tape")
        if "numbers" in more:
            more["numbers"] = [_number(value) for value in more["numbers"]]
        self._nodes.append({"op": op, "of": [(t._node, t._value) for t in of], **more})
        return [Tensor(self, len(self._nodes) - 1, value) for value in range(values)]

    def input(self, name: str, shape: Sequence[int]) -> Tensor:
        """What is given to a run, and kept for those after it."""
        if name == "times":
            raise ValueError("an input cannot be called 'times': run() takes the number of runs by this name")
        sizes = tuple(shape)
        if name not in self._inputs:
            self._inputs[name] = (self._record("input", name=name, sizes=[list(sizes)])[0], sizes)
        found, known = self._inputs[name]
        if known != sizes:
            raise ValueError(f"input '{name}' has shape {known} already, and not {sizes}")
        return found

    def full(self, value: float, shape: Sequence[int] = ()) -> Tensor:
        """The same number everywhere."""
        return self._record("full", numbers=[value], sizes=[list(shape)])[0]

    def _know(self, state: State) -> None:
        known = self._states.setdefault(state.name, state)
        if known != state:
            raise ValueError(f"state '{state.name}' has shape {known.shape} already, and not {state.shape}")

    def state(self, state: State) -> Tensor:
        """The value of a state: what this tape assigned to it last, else what it has before the run."""
        self._know(state)
        if state.name not in self._current:
            self._current[state.name] = self._record("state", name=state.name)[0]
        return self._current[state.name]

    def assign(self, state: State, value: Tensor) -> None:
        """Gives a state its value after the run; :meth:`state` is this value from here on."""
        self._know(state)
        self._record("assign", value, values=0, name=state.name)
        self._current[state.name] = value

    def output(self, name: str, value: Tensor) -> None:
        """What a run gives."""
        self._record("output", value, values=0, name=name)

    def grad(self, loss: Tensor, wrt: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of a number with respect to tensors; they can be differentiated again.

        The tensors are those that the number was made of: what is recorded after it is no part of it, and
        refused. A tensor recorded before it that it does not depend on has a gradient of zeros.
        """
        _check_recorded_before("the loss", loss, wrt)
        return self._record("grad", loss, *wrt, values=len(wrt))

    def vjp(self, y: Tensor, cotangent: Tensor, wrt: Sequence[Tensor]) -> list[Tensor]:
        """The product of a vector and the Jacobian of ``y``; ``wrt`` as in :meth:`grad`."""
        _check_recorded_before("y", y, wrt)
        return self._record("vjp", y, cotangent, *wrt, values=len(wrt))

    def compile(
        self, store: Store | None = None, *, device: str | None = None, precision: str | None = None
    ) -> Program:
        """Launches of fused kernels on the device of a store, which has a precision too.

        Without a store they are on the device of this name, ``auto`` if none is given, and in this precision,
        ``f32`` if none is given.
        """
        if store is None:
            if self._states:
                raise ValueError("the tape has states: give the store that they are in")
            store = Store(States(), device or "auto", precision or "f32")
        for what, given, own in zip(("device", "precision"), (device, precision), store._place):
            if given is not None and given != own:
                raise ValueError(f"{what} {given!r} is not that of the store, {own!r}; leave it out")
        store._check(self)
        return Program(self, store)


def _check_recorded_before(what: str, y: Tensor, wrt: Sequence[Tensor]) -> None:
    for i, tensor in enumerate(wrt):
        if tensor._tape is y._tape and tensor._node > y._node:
            raise ValueError(
                f"tensor {i} of wrt was recorded after {what} and cannot be part of it; give the tensor that {what} "
                "was made of (a state that was assigned is its new value: keep the tensor that you read before)"
            )


def _axes(axis: int | Sequence[int] | None, rank: int) -> list[int]:
    axes = range(rank) if axis is None else [axis] if isinstance(axis, (int, np.integer)) else axis
    for a in axes:
        if not -rank <= a < rank:
            raise ValueError(f"axis {a} is out of range for a tensor of {rank} axes")
    return sorted(int(a) + rank if a < 0 else int(a) for a in axes)


def _pair(value: Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class Tensor:
    """A value on a tape. Shapes broadcast as NumPy's do.

    Comparisons (``==``, ``!=``, ``<``, ``>``) are recorded like other operations, and give 1 or 0 everywhere.
    A tensor is a key of a dictionary by what it is, not by its values.
    """

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
        return other if isinstance(other, Tensor) else self._tape.full(other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(
            "a tensor is neither true nor false before its program runs: use where(condition, a, b) in place of "
            "if, `and`, `or` and `not`, and the product (low < x) * (x < high) in place of low < x < high"
        )

    def __eq__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return self._of("equal", self._tensor(other))

    def __ne__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return self._of("equal", self._tensor(other))._of("affine", numbers=[-1.0, 1.0])

    # A shift of −0 keeps the sign of a zero; one of 0 does not.

    def __neg__(self) -> Tensor:
        return self._of("affine", numbers=[-1.0, -0.0])

    def __add__(self, other: Operand) -> Tensor:
        if not isinstance(other, Tensor):
            return self._of("affine", numbers=[1.0, other])
        return self._of("add", other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Tensor:
        if not isinstance(other, Tensor):
            return self._of("affine", numbers=[1.0, -_number(other)])
        return self._of("sub", other)

    def __rsub__(self, other: Operand) -> Tensor:
        return self._of("affine", numbers=[-1.0, other]) if not isinstance(other, Tensor) else other - self

    def __mul__(self, other: Operand) -> Tensor:
        if not isinstance(other, Tensor):
            return self._of("affine", numbers=[other, -0.0])
        return self._of("mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        return self._of("div", self._tensor(other))

    def __rtruediv__(self, other: Operand) -> Tensor:
        return self._tensor(other)._of("div", self)

    def __pow__(self, exponent: Operand) -> Tensor:
        if not isinstance(exponent, Tensor):
            return self.square() if exponent == 2 else self._of("powf", numbers=[exponent])
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
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TypeError(f"softmax is along one axis, a whole number, and not {axis!r}")
        return self._of("softmax", sizes=[_axes(int(axis), len(self.shape))])

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
        self._shapes = {name: shape for name, (_, shape) in tape._inputs.items()}

    def run(self, /, times: int = 1, **inputs: npt.ArrayLike) -> dict[str, npt.NDArray[np.float32]]:
        """Runs with these inputs, each of the shape that it was recorded with, and gives the outputs by name.

        An input that is not given is that of the run before; one that the program needs and that was never
        given is refused. Several threads may call it: each gets the outputs of its own inputs, as long as it
        gives them all.
        """
        given = []
        for name, values in inputs.items():
            if name not in self._shapes:
                raise ValueError(f"there is no input '{name}'; the inputs are: {', '.join(self._shapes) or 'none'}")
            given.append((name, _flat(values, self._shapes[name], f"input '{name}'")))
        return self._program.run(times, given)

    @property
    def launches(self) -> list[str]:
        """The kernels that a run launches, in order."""
        return [kernel for kernel, _ in self._program.launches()]
