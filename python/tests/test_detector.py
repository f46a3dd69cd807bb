"""Detectors as somebody uses them who comes from PyOD or scikit-learn."""

import logging
import os
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pandas
import pytest
from PIL import Image
from sklearn.base import clone

import ganomede


def table(n, seed):
    """Rows near a plane in 6 dimensions, in units of their own."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    mixed = hidden @ np.array([[1.0, 2.0, 0.5, -1.0, 0.0, 3.0], [0.5, -1.0, 2.0, 0.0, 1.0, 1.0]])
    return (mixed + rng.normal(0, 0.05, (n, 6))) * [1, 1e3, 1e-3, 1, 1, 50] + [0, 1e6, 0, 5, 0, -200]


def test_larger_is_more_anomalous_and_predict_says_one():
    detector = ganomede.PCA(latent=2, device="cpu").fit(table(400, 0))
    fresh, odd = table(200, 1), table(200, 1)
    odd[:, 3] += np.where(np.arange(200) % 2, 4.0, -4.0)
    assert detector.decision_function(odd).min() > np.median(detector.decision_function(fresh))
    assert detector.predict(odd).tolist() == [1] * 200
    # Of 200 fresh rows a twentieth may be flagged: more than 24 have a chance below 1e-4.
    flagged = detector.predict(fresh)
    assert set(flagged) <= {0, 1} and flagged.sum() <= 24
    scores = detector.decision_function(fresh)
    assert np.array_equal(flagged, scores >= detector.threshold_)
    share = detector.predict_proba(fresh)
    assert share.shape == (200, 2) and np.allclose(share.sum(axis=1), 1)
    assert np.all(np.diff(share[np.argsort(scores), 1]) >= 0) and share[:, 1].min() >= 0
    p = detector.p_values(fresh)
    assert np.all((p > 0) & (p <= 1)) and np.array_equal(p <= 0.05, flagged == 1)


def test_contamination_is_the_share_of_false_alarms():
    X = table(1000, 0)
    few, many = (ganomede.PCA(latent=2, contamination=c, device="cpu").fit(X) for c in (0.02, 0.3))
    assert few.threshold_ > many.threshold_
    assert np.array_equal(few.decision_function(X), many.decision_function(X))
    rate = many.predict(table(2000, 5)).mean()
    assert 0.15 < rate < 0.4, rate
    for wrong in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="false-alarm rate"):
            ganomede.PCA(contamination=wrong, device="cpu").fit(X)


def test_contamination_goes_with_the_model(program, tmp_path):
    fresh = table(50, 1)
    detector = ganomede.PCA(latent=2, contamination=0.3, device="cpu").fit(table(400, 0))
    detector.save(tmp_path / "m.safetensors")
    loaded = ganomede.load(tmp_path / "m.safetensors", device="cpu")
    assert loaded.contamination == 0.3
    for again in (loaded, pickle.loads(pickle.dumps(loaded)), pickle.loads(pickle.dumps(detector))):
        assert again.threshold_ == detector.threshold_
        assert np.array_equal(again.predict(fresh), detector.predict(fresh))
    other = ganomede.load(tmp_path / "m.safetensors", device="cpu", contamination=0.01)
    assert pickle.loads(pickle.dumps(other)).threshold_ == other.threshold_ > detector.threshold_
    lines = [",".join(f"x{i}" for i in range(6))] + [",".join(map(repr, map(float, row))) for row in fresh]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    said = program("score", tmp_path / "m.safetensors", tmp_path / "rows.csv", "--device", "cpu", "--json")
    assert [row["anomalous"] for row in said["images"]] == detector.predict(fresh).astype(bool).tolist()


def test_training_scores_are_those_of_the_samples():
    X = table(300, 0)
    detector = ganomede.GMM(device="cpu", random_state=3).fit(X)
    assert np.array_equal(detector.decision_scores_, detector.decision_function(X))
    assert np.array_equal(detector.labels_, detector.predict(X))
    assert not hasattr(ganomede.GMM(device="cpu", score_training=False).fit(X), "labels_")
    assert detector.model_["system"] == "gmm" and detector.model_["data"]["held_out"] == 30


def test_the_same_seed_gives_the_same_bits():
    X = table(200, 0)
    make = lambda seed: ganomede.AE(device="cpu", random_state=seed, epochs=3).fit(X).decision_function(X)
    assert np.array_equal(make(1), make(1)) and not np.array_equal(make(1), make(2))


def test_images_score_as_the_command_line_scores_their_files(parts, folder, program, tmp_path):
    detector = ganomede.AE(size=32, width=8, latent=8, epochs=2, device="cpu").fit(parts[0])
    detector.save(tmp_path / "ae.safetensors")
    for name, pictures in zip(["test/good", "test/scratch"], parts[1:]):
        said = program("score", tmp_path / "ae.safetensors", folder / name, "--device", "cpu", "--json")
        theirs = np.array([row["score"] for row in said["images"]])
        assert np.array_equal(detector.decision_function(pictures), theirs)
        assert np.array_equal(detector.decision_function(folder / name), theirs)
        assert np.array_equal(detector.predict(pictures), [row["anomalous"] for row in said["images"]])
        files = sorted((folder / name).iterdir())
        assert np.array_equal(detector.decision_function(files), theirs)
        assert np.array_equal(detector.decision_function([Image.open(f) for f in files]), theirs)
        # The command also says which model, threshold and device.
        assert said.pop("threshold") == detector.threshold_ and said.pop("model") and said.pop("device")
        assert detector.answers(folder / name) == said and len(said["images"]) == 20
    found = detector.evaluate(folder)
    theirs = program("eval", tmp_path / "ae.safetensors", "--data", folder, "--device", "cpu", "--json")
    assert found["auroc"] == theirs["auroc"]


def test_models_of_the_command_line_are_read(folder, program, tmp_path):
    model = tmp_path / "pca.safetensors"
    program("train", "pca", "--data", folder, "--size", 16, "--device", "cpu", "--out", model)
    detector = ganomede.load(model, device="cpu")
    assert isinstance(detector, ganomede.PCA) and detector.size == 16
    said = program("score", model, folder / "test", "--device", "cpu", "--json")["images"]
    assert detector.decision_function(folder / "test").tolist() == [row["score"] for row in said]
    stricter = ganomede.load(model, device="cpu", contamination=0.3)
    assert stricter.threshold_ < detector.threshold_


def test_rows_score_as_the_command_line_scores_a_file(program, tmp_path):
    X, fresh = table(300, 0), table(40, 1)
    detector = ganomede.PCA(latent=2, device="cpu").fit(X)
    detector.save(tmp_path / "pca.safetensors")
    lines = [",".join(f"x{i}" for i in range(6))] + [",".join(map(repr, map(float, row))) for row in fresh]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    said = program("score", tmp_path / "pca.safetensors", tmp_path / "rows.csv", "--device", "cpu", "--json")
    assert detector.decision_function(fresh).tolist() == [row["score"] for row in said["images"]]


def test_numbers_of_zero_to_one_are_pixels_of_16_bits(parts):
    detector = ganomede.PCA(size=32, device="cpu").fit(parts[0])
    floats = detector.decision_function(parts[1] / 255.0, )
    assert np.allclose(floats, detector.decision_function(parts[1]), rtol=1e-3)
    words = (parts[1].astype(np.uint16) * 257)
    assert np.array_equal(detector.decision_function(words), floats)


def test_gray_images_as_numbers_are_not_taken_for_windows_in_silence(parts):
    floats = parts[0] / 255.0
    with pytest.warns(UserWarning, match="form='image'"):
        ganomede.PCA(latent=2, device="cpu").fit(floats)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = ganomede.PCA(size=32, device="cpu", form="image").fit(floats)
        ganomede.PCA(latent=2, device="cpu", form="series").fit(floats)
    assert detector.maps(parts[1][:2]).shape == (2, 32, 32)


def test_colours_and_sizes(parts):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (40, 30, 50, 3), dtype=np.uint8)
    detector = ganomede.PCA(size=(32, 16), device="cpu").fit(colours)
    assert detector.model_["config"]["channels"] == 3
    assert detector.maps(colours[:3]).shape == (3, 16, 32)
    mixed = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(20, 30), (64, 64), (90, 17)]]
    assert detector.decision_function(mixed).shape == (3,)
    opaque = np.concatenate([colours, np.full((40, 30, 50, 1), 255, np.uint8)], axis=3)
    assert np.array_equal(detector.decision_function(opaque), detector.decision_function(colours))


def test_maps_are_hot_where_the_defect_is(parts):
    detector = ganomede.PCA(size=40, device="cpu").fit(parts[0])
    normal, odd = detector.maps(parts[1]), detector.maps(parts[2])
    assert odd.dtype == np.float32 and odd.shape == (20, 40, 40)
    assert odd.max(axis=(1, 2)).min() > 2 * normal.mean()
    with pytest.raises(ValueError, match="no map"):
        ganomede.DeepSVDD(size=32, width=8, steps=5, device="cpu").fit(parts[0]).maps(parts[1])


def test_windows_of_series():
    rng = np.random.default_rng(0)
    t = np.arange(32)
    wave = lambda phase: np.stack([300 + 5 * np.sin(t / 3 + phase), 0.01 * np.cos(t / 3 + phase)])
    X = np.stack([wave(p) for p in rng.uniform(0, 6.28, 150)]) + rng.normal(0, 1e-4, (150, 2, 32))
    detector = ganomede.AE(width=8, latent=4, epochs=20, device="cpu").fit(X)
    odd = X.copy()
    odd[:, 1] *= -1
    assert np.median(detector.decision_function(odd)) > np.median(detector.decision_function(X))
    with pytest.raises(ValueError, match="2 channels"):
        detector.predict(X[:, :1])
    with pytest.raises(ValueError, match="windows"):
        detector.predict(np.zeros((3, 4)))


@pytest.mark.parametrize("name", [s["name"] for s in ganomede.systems()])
def test_every_system_trains_on_images_saves_and_pickles(name, parts, tmp_path):
    kinds = [c for c in vars(ganomede).values() if isinstance(c, type) and getattr(c, "_system", None) == name]
    assert len(kinds) == 1, f"one class of {name}"
    # Searches are short here: what is held out is searched too.
    detector = kinds[0](size=16, width=4, latent=4, steps=2, batch_size=8, device="cpu").fit(parts[0][:24])
    scores = detector.decision_function(parts[2][:4])
    assert np.isfinite(scores).all() and len(set(scores)) > 1
    detector.save(tmp_path / "m.safetensors")
    for again in (
        ganomede.load(tmp_path / "m.safetensors", device="cpu"),
        pickle.loads(pickle.dumps(detector)),
        ganomede.Detector(name, size=16, width=4, latent=4, steps=2, batch_size=8, device="cpu").fit(parts[0][:24]),
    ):
        assert np.array_equal(again.decision_function(parts[2][:4]), scores)
        assert again.threshold_ == detector.threshold_
        # Whatever options the system has, the file tells them.
        repeated = clone(again).set_params(score_training=False).fit(parts[0][:24])
        assert np.array_equal(repeated.decision_function(parts[2][:4]), scores)


def test_parameters_and_pickles_of_what_is_not_fitted():
    detector = ganomede.GANomaly(size=32, epochs=3, options={"adversarial": 2})
    assert detector.get_params()["epochs"] == 3 and "system" not in detector.get_params()
    assert repr(detector.set_params(epochs=4)) == "GANomaly(size=32, epochs=4, options={'adversarial': 2})"
    with pytest.raises(ValueError, match="Invalid parameter 'epoch'"):
        detector.set_params(epoch=3)
    again = pickle.loads(pickle.dumps(detector))
    assert again.get_params() == detector.get_params()
    with pytest.raises((ValueError, AttributeError), match="not fitted"):
        again.predict(np.zeros((2, 2)))


@pytest.mark.parametrize(
    "X, words",
    [
        (np.zeros(5), "1D array"),
        (np.zeros((0, 4)), "0 sample"),
        (np.zeros((4, 0)), "0 feature"),
        (np.array([[1.0, np.nan]] * 30), "NaN"),
        (np.array([["a", "b"]] * 30), "not numeric"),
        (np.zeros((3, 3), dtype=complex), "Complex"),
        (np.zeros((2, 2, 2, 2, 2)), "shape"),
        (np.full((30, 20, 20), 300, np.int32), None),
        (np.zeros((30, 20, 20, 2), np.uint8), "channels"),
        (np.full((30, 20, 20, 1), 2.0), "0 to 1"),
        (np.zeros((30, 2, 2), np.uint8), "pixels"),
        ("nowhere/at/all", "nowhere"),
    ],
)
def test_what_cannot_be_trained_on_is_said(X, words):
    if words is None:
        X, words = [np.full((20, 20), 300, np.int32)] * 30, "int32"
    with pytest.raises(ValueError, match=words):
        ganomede.PCA(device="cpu").fit(X)


@pytest.mark.parametrize(
    "params, words",
    [
        ({"size": 5}, "size"),
        ({"size": "wide"}, "size"),
        ({"epochs": 0}, "epochs"),
        ({"lr": -1.0}, "lr"),
        ({"options": {"nothing": 1}}, "nothing"),
        ({"score_name": "beauty"}, "beauty"),
        ({"device": "abacus"}, "abacus"),
        ({"precision": "f17"}, "f17.*bf16"),
        ({"device": "gpu", "precision": "bf16"}, "cannot multiply in bf16"),
        ({"hold_out": 1.5}, "held out|hold"),
        ({"random_state": -3}, "random_state"),
        ({"random_state": "x"}, "random_state"),
        ({"augment": "twirl"}, "twirl|augment"),
    ],
)
def test_parameters_out_of_range_are_said(params, words, parts):
    with pytest.raises(ValueError, match=words):
        ganomede.AE(**{"device": "cpu", "steps": 1, "width": 4, "size": 16, **params}).fit(parts[0])


def test_without_held_out_samples_there_is_no_verdict():
    detector = ganomede.PCA(hold_out=0.0, device="cpu", score_training=False).fit(table(100, 0))
    assert detector.decision_function(table(10, 1)).shape == (10,) and not hasattr(detector, "threshold_")
    for ask in (detector.predict, detector.predict_proba):
        with pytest.raises(ValueError, match="hold_out=0"):
            ask(table(10, 1))


def test_columns_go_by_name():
    frame = pandas.DataFrame(table(200, 0), columns=list("abcdef"))
    detector = ganomede.PCA(latent=2, device="cpu").fit(frame)
    assert detector.feature_names_in_.tolist() == list("abcdef") and detector.n_features_in_ == 6
    with pytest.raises(ValueError, match="same order"):
        detector.predict(frame[list("bacdef")])
    with pytest.raises(ValueError, match="missing: f"):
        detector.predict(frame.rename(columns={"f": "g"}))
    with pytest.warns(UserWarning, match="feature names"):
        detector.predict(frame.to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detector.predict(frame).shape == (200,)


@pytest.mark.parametrize("names", [list("abcdef"), [f"x{i}" for i in range(6)], ["x1", "x0", *"cdef"]])
def test_columns_go_by_name_whatever_they_are_called(names, tmp_path):
    frame = pandas.DataFrame(table(200, 0), columns=names)
    detector = ganomede.PCA(latent=2, device="cpu").fit(frame)
    detector.save(tmp_path / "pca.safetensors")
    loaded = ganomede.load(tmp_path / "pca.safetensors", device="cpu")
    for again in (detector, pickle.loads(pickle.dumps(detector)), loaded):
        with pytest.raises(ValueError, match="same order"):
            again.predict(frame[names[::-1]])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(again.decision_function(frame), detector.decision_scores_)
    for again in (detector, pickle.loads(pickle.dumps(detector))):
        with pytest.raises(ValueError, match="missing"):
            again.predict(frame.set_axis(list("uvwxyz"), axis=1))


def test_columns_without_names(tmp_path):
    X = table(200, 0)
    detector = ganomede.PCA(latent=2, device="cpu").fit(X)
    detector.save(tmp_path / "pca.safetensors")
    for again in (detector, ganomede.load(tmp_path / "pca.safetensors", device="cpu")):
        assert not hasattr(again, "feature_names_in_") and again.n_features_in_ == 6
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again.predict(X)
            again.predict(pandas.DataFrame(X))
        with pytest.warns(UserWarning, match="was fitted without feature names"):
            again.predict(pandas.DataFrame(X, columns=list("abcdef")))


def test_columns_of_files_go_by_name(tmp_path):
    frame = pandas.DataFrame(table(200, 0), columns=[f"x{i}" for i in range(6)])
    frame.assign(label="normal").to_csv(tmp_path / "rows.csv", index=False)
    detector = ganomede.PCA(latent=2, device="cpu").fit(tmp_path / "rows.csv")
    detector.save(tmp_path / "pca.safetensors")
    for again in (detector, ganomede.load(tmp_path / "pca.safetensors", device="cpu")):
        assert again.feature_names_in_.tolist() == list(frame.columns) and again.n_features_in_ == 6
        with pytest.raises(ValueError, match="missing"):
            again.predict(frame.set_axis(list("uvwxyz"), axis=1))


def test_pickles_judge_as_what_they_were_made_of():
    X = table(400, 0)
    detector = ganomede.PCA(latent=2, device="cpu").fit(X)
    # For a training to come.
    detector.set_params(contamination=0.3)
    again = pickle.loads(pickle.dumps(detector))
    assert again.contamination == 0.3 and again.threshold_ == detector.threshold_
    assert np.array_equal(again.predict(X), detector.labels_)
    assert np.array_equal(again.predict(X), again.decision_function(X) >= again.threshold_)
    assert again.fit(X).threshold_ < detector.threshold_


def test_what_is_no_number_is_refused():
    X = table(30, 0)
    dates = np.arange(180).reshape(30, 6).astype("M8[s]")
    masked = np.ma.masked_array(X, mask=X > np.median(X))
    frame = pandas.DataFrame(X).astype({0: str})
    for given, words in [
        (dates, "datetime64.* not numeric"),
        (X.astype(str), "not numeric"),
        (frame, "str are not numeric"),
        (masked, "masked entries"),
        (list(masked), "masked entries"),
        ([np.ma.masked_array(np.zeros((20, 20), np.uint8), mask=np.eye(20))] * 30, "masked entries"),
    ]:
        with pytest.raises(ValueError, match=words):
            ganomede.PCA(device="cpu").fit(given)


def test_arrays_lie_in_memory_as_they_like(parts):
    X = table(100, 0)
    detector = ganomede.PCA(latent=2, device="cpu").fit(X)
    unaligned = np.frombuffer(b"\0" + X.tobytes(), np.float64, offset=1).reshape(X.shape)
    whole = np.ma.masked_array(X, mask=np.zeros(X.shape, bool))
    for given in (unaligned, np.asfortranarray(X), X.astype(">f8"), whole):
        assert np.array_equal(detector.decision_function(given), detector.decision_scores_)
    words = parts[0].astype(np.uint16) * 257
    unaligned = np.frombuffer(b"\0" + words.tobytes(), np.uint16, offset=1).reshape(words.shape)
    seen = ganomede.PCA(size=16, device="cpu", form="image").fit(words)
    assert np.array_equal(seen.decision_function(unaligned), seen.decision_scores_)


def test_clones_of_what_was_loaded_train_in_the_same_way(parts, folder, program, tmp_path):
    made = [
        (ganomede.AE(size=16, width=4, latent=4, epochs=3, batch_size=16, standardise=True, hold_out=0.25,
                     options={"loss": "ssim"}, contamination=0.2, lr=1e-3, random_state=5, device="cpu"), parts[0]),
        (ganomede.GANomaly(size=16, width=4, latent=4, steps=4, batch_size=16, device="cpu"), parts[0]),
        (ganomede.GMM(latent=2, hold_out=0.3, score_name="residual", device="cpu"), table(200, 0)),
        (ganomede.AE(width=8, latent=4, epochs=2, device="cpu", form="series"), table(960, 0).reshape(60, 6, 16)),
    ]
    for detector, X in made:
        detector.fit(X).save(tmp_path / "m.safetensors")
        loaded = ganomede.load(tmp_path / "m.safetensors", device="cpu")
        again = clone(loaded).fit(X)
        assert np.array_equal(again.decision_scores_, detector.decision_scores_), detector
        assert again.threshold_ == detector.threshold_
        assert clone(again).get_params() == loaded.get_params()
    assert loaded.size == 64 and loaded.form == "series" and loaded.epochs == 2
    model = tmp_path / "cli.safetensors"
    program("train", "ae", "--data", folder, "--size", 16, "--width", 4, "--augment", "flip", "--standardise",
            "--steps", 5, "--device", "cpu", "--out", model)
    loaded = ganomede.load(model, device="cpu")
    assert loaded.augment == "flip" and loaded.standardise and loaded.form == "image"
    again = clone(loaded).fit(folder)
    assert np.array_equal(again.decision_function(parts[1]), loaded.decision_function(parts[1]))


def test_unusable_files_are_warned_of(folder, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.open(next((folder / "test/good").iterdir())).save(tmp_path / "b.png")
    detector = ganomede.PCA(size=16, device="cpu").fit(folder)
    with pytest.warns(UserWarning, match="a.png"):
        assert detector.decision_function(tmp_path).shape == (1,)


def test_a_callback_sees_losses_and_its_exception_ends_the_training(parts, caplog):
    seen = []
    caplog.set_level(logging.INFO, "ganomede")

    def see(kind, news):
        seen.append((kind, news))
        if kind == "progress" and news["done"] == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        ganomede.AE(size=16, width=4, steps=500, device="cpu", callback=see).fit(parts[0])
    last = [news for kind, news in seen if kind == "progress"][-1]
    assert last["task"] == "training" and last["total"] == 500 and last["losses"]


def test_an_interrupt_ends_a_training_at_once(parts):
    # A shell that runs the tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ganomede.GANomaly(size=32, width=16, minutes=1, device="cpu").fit(parts[0])
    assert time.monotonic() - began < 20
    # What comes after is not interrupted.
    assert ganomede.PCA(size=16, device="cpu").fit(parts[0]).predict(parts[1]).shape == (20,)


def test_other_threads_run_while_a_detector_trains(parts):
    counted, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    began = time.monotonic()
    ganomede.AE(size=32, width=16, steps=30, device="cpu").fit(parts[0])
    seconds = time.monotonic() - began
    done.set()
    thread.join()
    assert counted[0] > 50 * seconds, (counted[0], seconds)


def test_several_threads_score_side_by_side(parts):
    detector = ganomede.AE(size=32, width=8, steps=5, device="cpu").fit(parts[0])
    expected, found = detector.decision_function(parts[1]), {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: detector.decision_function(parts[1])})) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(found) == 4 and all(np.array_equal(v, expected) for v in found.values())


def test_progress_on_standard_error(parts, capsys):
    ganomede.PCA(size=16, device="cpu", verbose=1).fit(parts[0])
    assert "scoring" in capsys.readouterr().err


def test_an_adapter_agrees_with_the_processor(parts):
    detector = ganomede.AE(size=16, width=4, steps=5, device="cpu").fit(parts[0])
    cpu = detector.decision_function(parts[1])
    gpu = pickle.loads(pickle.dumps(detector.set_params(device="gpu"))).decision_function(parts[1])
    assert np.allclose(cpu, gpu, rtol=1e-4)


def test_products_are_rounded_where_that_is_asked_for(parts, program, folder, tmp_path):
    make = lambda **params: ganomede.AE(size=16, width=16, steps=5, device="cpu", hold_out=0.2, **params)
    plain, rounded = make().fit(parts[0]), make(precision="bf16").fit(parts[0])
    scores = rounded.decision_function(parts[1])
    # 8 bits of 24: others, and about the same.
    assert (scores != plain.decision_function(parts[1])).any()
    assert np.allclose(scores, plain.decision_function(parts[1]), rtol=0.1)
    path = tmp_path / "rounded.safetensors"
    rounded.save(path)
    said = program("score", path, folder / "test/good", "--device", "cpu", "--precision", "bf16", "--json")
    assert [row["score"] for row in said["images"]] == scores.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = ganomede.load(path, device="cpu", precision="bf16")
        assert (pickle.loads(pickle.dumps(again)).decision_function(parts[1]) == scores).all()
    assert again.get_params()["precision"] == "bf16"
    with pytest.warns(UserWarning, match="chosen by scores in bf16, and these are in f32"):
        exact = ganomede.load(path, device="cpu")
    assert (exact.decision_function(parts[1]) != scores).any()
