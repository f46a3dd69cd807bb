"""The engine from Python, against NumPy."""

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
    with pytest.raises(ValueError, match="6"):
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
