"""The engine from Python, against NumPy."""

import threading

import numpy as np
import pytest

from ganomede import engine


def test_operations_and_gradients_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 5))
    tape = engine.Tape()
    x, w = tape.input("x", (3, 4)), tape.input("w", (4, 5))
    assert x.shape == (3, 4) and (x @ w).shape == (3, 5) and x[1:, ::2].shape == (2, 2) and x[0].shape == (4,)
    y = (x @ w).tanh()
    loss = (y * y).mean() + (1.0 / (x.square() + 1.0)).sum() - 2.0 * x.abs().sum(axis=1).max()
    for name, value in zip("xw", tape.grad(loss, [x, w])):
        tape.output(f"d{name}", value)
    tape.output("loss", loss)
    tape.output("soft", x.softmax(axis=1))
    tape.output("part", x[1, 1:3])
    tape.output("T", x.T.reshape(2, -1))
    found = tape.compile(device="cpu").run(x=a, w=b)

    def value(a, b):
        y = np.tanh(a @ b)
        return (y * y).mean() + (1 / (a * a + 1)).sum() - 2 * np.abs(a).sum(axis=1).max()

    assert np.isclose(found["loss"], value(a, b), rtol=1e-5)
    for name, at in (("dx", 0), ("dw", 1)):
        numeric = np.zeros_like((a, b)[at])
        for i in np.ndindex(numeric.shape):
            low, high = [a.copy(), b.copy()], [a.copy(), b.copy()]
            low[at][i] -= 1e-6
            high[at][i] += 1e-6
            numeric[i] = (value(*high) - value(*low)) / 2e-6
        assert np.allclose(found[name], numeric, rtol=1e-3, atol=1e-4), name
    e = np.exp(a)
    assert np.allclose(found["soft"], e / e.sum(axis=1, keepdims=True), rtol=1e-5)
    assert np.allclose(found["part"], a[1, 1:3]) and np.allclose(found["T"], a.T.reshape(2, -1))


def test_a_layer_learns_and_programs_share_their_states():
    rng = np.random.default_rng(1)
    states = engine.States()
    weight = states.add("weight", rng.normal(size=(2, 1)))
    x = rng.normal(size=(64, 2))
    step = engine.Tape()
    w = step.state(weight)
    loss = (step.input("x", (64, 2)) @ w - step.input("y", (64, 1))).square().mean()
    step.assign(weight, w - 0.2 * step.grad(loss, [w])[0])
    step.output("loss", loss)
    ask = engine.Tape()
    ask.output("made", ask.input("x", (1, 2)) @ ask.state(weight))
    store = states.store("cpu")
    program = step.compile(store)
    assert program.run(times=100, x=x, y=x @ [[3.0], [-2.0]])["loss"] < 1e-6
    assert program.launches
    assert np.allclose(store["weight"], [[3.0], [-2.0]], atol=1e-3)
    assert np.allclose(ask.compile(store).run(x=[[1.0, 1.0]])["made"], 1.0, atol=1e-3)
    store["weight"] = [[1.0], [1.0]]
    assert np.allclose(ask.compile(store).run(x=[[1.0, 1.0]])["made"], 2.0)


def test_convolutions_and_choices():
    rng = np.random.default_rng(2)
    image, kernel = rng.normal(size=(1, 1, 6, 6)), rng.normal(size=(1, 1, 3, 3))
    tape = engine.Tape()
    x = tape.input("x", image.shape)
    y = x.conv2d(tape.input("k", kernel.shape), stride=2, padding=1)
    tape.output("y", y)
    tape.output("positive", engine.where(x > 0.0, x, 0.0))
    found = tape.compile(device="cpu").run(x=image, k=kernel)
    padded = np.pad(image[0, 0], 1)
    expected = [[(padded[i : i + 3, j : j + 3] * kernel[0, 0]).sum() for j in (0, 2, 4)] for i in (0, 2, 4)]
    assert np.allclose(found["y"][0, 0], expected, rtol=1e-4, atol=1e-5)
    assert np.allclose(found["positive"], np.maximum(image, 0))


def test_what_cannot_be_is_said():
    tape, other = engine.Tape(), engine.Tape()
    x = tape.input("x", (2, 3))
    with pytest.raises(ValueError, match="another tape"):
        x + other.input("y", (2, 3))
    wrong = engine.Tape()
    with pytest.raises(ValueError, match="matmul"):
        y = wrong.input("x", (2, 3))
        (y @ y).shape
    with pytest.raises(IndexError):
        x[5]
    tape.output("y", x.sum())
    program = tape.compile(device="cpu")
    with pytest.raises(ValueError, match="z"):
        program.run(z=[1.0])
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(1,\)"):
        program.run(x=[1.0])
    with pytest.raises(ValueError, match="no state"):
        states = engine.States()
        orphan = engine.State("w", (1,))
        lone = engine.Tape()
        lone.output("w", lone.state(orphan))
        lone.compile(states.store("cpu"))


def test_products_are_rounded_where_that_is_asked_for():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(64, 64)).astype(np.float32), rng.normal(size=(64, 64)).astype(np.float32)
    tape = engine.Tape()
    tape.output("y", tape.input("a", a.shape) @ tape.input("b", b.shape))
    program = tape.compile(device="cpu", precision="bf16")

    def rounded(x):
        """To the nearest number of 8 bits, ties to even."""
        bits = x.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)

    found = program.run(a=a, b=b)["y"]
    assert np.allclose(found, rounded(a) @ rounded(b), rtol=1e-4, atol=1e-4)
    assert np.abs(found - a @ b).max() > 1e-3
    assert "bf16" in engine.States().store("cpu", "bf16").device
    with pytest.raises(ValueError, match="f32, bf16 or f16"):
        tape.compile(device="cpu", precision="int8")


def made(make, at):
    """What a recorded function gives at values."""
    tape = engine.Tape()
    tape.output("y", make(tape.input("x", np.shape(at))))
    return tape.compile(device="cpu").run(x=at)["y"]


def test_each_thread_gets_the_outputs_of_its_own_inputs():
    tape = engine.Tape()
    x = y = tape.input("x", (128, 128))
    for _ in range(3):
        y = (y @ x) * 0.01
    tape.output("y", y.sum())
    tape.output("first", x[0, 0])
    program = tape.compile(device="cpu")
    found = {}

    def ask(value):
        given = np.full((128, 128), value)
        found[value] = {float(program.run(x=given)["first"]) for _ in range(40)}

    threads = [threading.Thread(target=ask, args=(value,)) for value in (1.0, 2.0, 3.0)]
    [t.start() for t in threads]
    while any(t.is_alive() for t in threads):
        assert len(program.launches) > 0
    [t.join() for t in threads]
    assert found == {value: {value} for value in (1.0, 2.0, 3.0)}


def test_comparisons_are_recorded():
    at = [-1.0, 0.0, 1.0, 2.0]
    assert made(lambda x: x == 1.0, at).tolist() == [0, 0, 1, 0]
    assert made(lambda x: 1.0 != x, at).tolist() == [1, 1, 0, 1]
    assert made(lambda x: x == x.square(), at).tolist() == [0, 1, 1, 0]
    assert made(lambda x: (x == x) + 2.0 * (x != x), [np.nan, 1.0]).tolist() == [2, 1]
    assert made(lambda x: np.float32(1.0) == x, at).tolist() == [0, 0, 1, 0]
    tape = engine.Tape()
    x, y = tape.input("x", (2,)), tape.input("y", (2,))
    for ask in (
        lambda: -0.5 < x < 0.5,
        lambda: x > 0 and y > 0,
        lambda: not x,
        lambda: x if x == 0.0 else y,
        lambda: max(x, 0.0),
    ):
        with pytest.raises(TypeError, match="neither true nor false.*where"):
            ask()
    assert {x: "x", y: "y"}[y] == "y" and len({x, y, x}) == 2
    with pytest.raises(TypeError, match="no str"):
        x == "1"


def test_inputs_and_states_have_their_shapes():
    tape = engine.Tape()
    x = tape.input("x", (2, 3))
    assert tape.input("x", (2, 3)) is x
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        tape.input("x", (3, 2))
    tape.output("y", x * 1.0)
    program = tape.compile(device="cpu")
    with pytest.raises(ValueError, match="'x' was never given"):
        program.run()
    for given in (np.zeros((3, 2)), np.zeros(6), 1.0, np.zeros((1, 2, 3))):
        with pytest.raises(ValueError, match=r"input 'x' has shape \(2, 3\)"):
            program.run(x=given)
    with pytest.raises(ValueError, match="never given"):
        program.run()
    assert program.run(x=np.ones((2, 3)))["y"].sum() == program.run()["y"].sum() == 6
    states = engine.States()
    states.add("w", np.zeros((2, 3)))
    store = states.store("cpu")
    with pytest.raises(ValueError, match=r"state 'w' has shape \(2, 3\).*\(3, 2\)"):
        store["w"] = np.zeros((3, 2))
    with pytest.raises(ValueError, match="no state 'v'"):
        store["v"] = [0.0]
    others = engine.States()
    foreign = engine.Tape()
    foreign.output("w", foreign.state(others.add("w", np.zeros((3, 2)))))
    with pytest.raises(ValueError, match=r"'w' has shape \(2, 3\) in the store, and \(3, 2\)"):
        foreign.compile(store)
    with pytest.raises(ValueError, match="'times'"):
        tape.input("times", ())
    # What no output needs may be left out.
    constant = engine.Tape()
    z = constant.input("z", (2,))
    constant.output("slope", constant.grad((z * 3.0).sum(), [z])[0])
    assert constant.compile(device="cpu").run()["slope"].tolist() == [3, 3]


def test_gradients_are_of_what_was_recorded_before():
    states = engine.States()
    weight = states.add("w", [1.0, 2.0])
    tape = engine.Tape()
    w = tape.state(weight)
    loss = w.square().sum()
    # Read again, it is the same tensor until it is assigned.
    (early,) = tape.grad(loss, [tape.state(weight)])
    tape.output("early", early)
    tape.assign(weight, w + 10.0)
    tape.output("after", tape.state(weight))
    for wrt in (tape.state(weight), w * 2.0):
        with pytest.raises(ValueError, match="tensor 1 of wrt was recorded after the loss"):
            tape.grad(loss, [w, wrt])
        with pytest.raises(ValueError, match="recorded after y"):
            tape.vjp(loss, tape.full(1.0), [wrt])
    (itself,) = tape.grad(loss, [loss])
    tape.output("itself", itself)
    (late,) = tape.grad((tape.state(weight) * 3.0).sum(), [tape.state(weight)])
    tape.output("late", late)
    store = states.store("cpu")
    found = tape.compile(store).run()
    assert found["early"].tolist() == [2, 4] and found["after"].tolist() == [11, 12]
    assert found["itself"] == 1 and found["late"].tolist() == [3, 3]
    assert store["w"].tolist() == [11, 12]


def test_a_store_has_its_device_and_precision():
    tape = engine.Tape()
    tape.output("y", tape.full(1.0))
    store = engine.States().store("cpu")
    with pytest.raises(ValueError, match="precision 'bf16'.*'f32'"):
        tape.compile(store, precision="bf16")
    with pytest.raises(ValueError, match="device 'nonsense'.*'cpu'"):
        tape.compile(store, device="nonsense")
    assert tape.compile(store, device="cpu", precision="f32").run()["y"] == 1


def test_axes_are_said():
    x = engine.Tape().input("x", (2, 3))
    for axis in ((0, 1), None, True):
        with pytest.raises(TypeError, match="one axis"):
            x.softmax(axis)
    for ask in (lambda: x.softmax(2), lambda: x.sum(-3), lambda: x.max((0, 2))):
        with pytest.raises(ValueError, match="out of range"):
            ask()


def test_zeros_keep_their_signs():
    at = np.array([0.0, -0.0, 1.0], np.float32)
    for make in (
        lambda x: -x,
        lambda x: -(-x),
        lambda x: x * 2.0,
        lambda x: x * -1.0,
        lambda x: x - 0.0,
        lambda x: x + 0.0,
        lambda x: 0.0 - x,
        lambda x: x - x * 2.0,
        lambda x: x - x,
    ):
        assert np.array_equal(np.signbit(made(make, at)), np.signbit(make(at)))


def test_states_are_copies():
    initial = np.zeros(3, np.float32)
    states = engine.States()
    states.add("w", initial)
    initial[:] = 7.0
    assert states.store("cpu")["w"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "given, words",
    [
        (np.ma.masked_array([1.0, 2.0], mask=[0, 1]), "masked"),
        (np.array([1, 2], "M8[s]"), "datetime64.*not numeric"),
        (["1", "2"], "<U1 are not numeric"),
        (np.array(["1", 2], object), "str are not numeric"),
        ([None, 2.0], "NoneType are not numeric"),
        ([1j, 2.0], "real numbers"),
    ],
)
def test_only_numbers_are_numbers(given, words):
    for take in (lambda: made(lambda x: x, given), lambda: engine.States().add("w", given)):
        with pytest.raises((ValueError, TypeError), match=f"'[xw]': .*{words}"):
            take()


def test_arrays_lie_in_memory_as_they_like():
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    unaligned = np.frombuffer(b"\0" + expected.tobytes(), np.float32, offset=1).reshape(2, 3)
    assert not unaligned.flags.aligned
    whole = np.ma.masked_array(expected, mask=np.zeros((2, 3), bool))
    for given in (unaligned, unaligned.T.copy().T, expected.astype(">f4"), expected.astype(int), whole):
        assert np.array_equal(made(lambda x: x, given), expected)
    states = engine.States()
    states.add("w", unaligned)
    assert np.array_equal(states.store("cpu")["w"], expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300])
def test_constants_are_finite(value):
    x = engine.Tape().input("x", (2,))
    for ask in (
        lambda: x * value,
        lambda: x - value,
        lambda: value - x,
        lambda: x**value,
        lambda: x.clamp(0.0, value),
        lambda: engine.where(x > 0.0, x, value),
    ):
        with pytest.raises(ValueError, match="constant .* no finite number of float32"):
            ask()
    with pytest.raises(TypeError, match="no ndarray; arrays are given as inputs or states"):
        x * np.array([1.0, 2.0])
    assert made(lambda x: x - np.uint8(3), [5.0]).tolist() == [2]
