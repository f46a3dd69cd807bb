"""Detectors with the habits of PyOD and scikit-learn."""

from __future__ import annotations

import inspect
import json
import logging
import os
import secrets
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Optional, TypeVar, Union

import numpy as np
import numpy.typing as npt

from . import _ganomede
from ._data import Data, Form, Images, Measured, Paths, Samples, samples
from ._device import quiet

_log = logging.getLogger("ganomede")

#: ``callback(kind, news)``: ``"progress"`` with a dictionary, ``"note"`` and ``"unused"`` with a sentence.
Callback = Callable[[str, Any], None]
Size = Union[int, str, tuple[int, int]]
Self = TypeVar("Self", bound="BaseDetector")


class NotFittedError(ValueError, AttributeError):
    """A detector that was neither fitted nor loaded."""


def _not_fitted(detector: BaseDetector) -> Exception:
    text = f"this {type(detector).__name__} is not fitted yet; call fit, or load a model file"
    try:
        from sklearn.exceptions import NotFittedError as TheirError
    except ImportError:
        return NotFittedError(text)
    return TheirError(text)  # type: ignore[no-any-return]


class BaseDetector:
    """A detector that is trained on normal samples.

    What the samples are follows from their type and shape:

    * ``[n, columns]``, or a data frame: rows of a table;
    * ``[n, channels, time]``: windows of a series;
    * ``[n, height, width]`` of ``uint8``, ``[n, height, width, channels]``, or a list of arrays or Pillow
      images of any sizes: images. ``uint8`` counts from 0 to 255, ``uint16`` to 65535, floats from 0 to 1;
    * a path: a folder of images, a CSV file (a table; a series with ``form="series"``), or ``builtin:NAME``.

    Parameters
    ----------
    size : int, (width, height) or "WxH"
        Size that images are brought to, 16 to 1024 a side.
    width : int
        Channels of the widest feature maps.
    latent : int, optional
        Length of the latent vector; as the system recommends.
    epochs, steps, minutes : optional
        When training ends, whichever comes first; as the system recommends.
    batch_size, lr : optional
        Samples in a step and Adam's step size; as the system recommends.
    score_name : str, optional
        Which of the system's scores; the published one.
    options : mapping, optional
        Options of the system, as ``ganomede train -O name=value`` has them.
    augment : str
        Augmentation, as ``flip,rotate:10``.
    textures : path, optional
        Folder of images that ``DRAEM`` takes its textures from; drawn ones without.
    standardise : bool
        Whether each image is seen without its own brightness and contrast.
    hold_out : float
        Share of the samples that thresholds are taken from; they are not trained on.
    contamination : float
        Share of normal samples that may be flagged: the threshold lies where at most so many of new normal
        samples score as high (split conformal prediction on the samples held out). It is no guess of how many
        of the training samples are anomalous, of which there should be none.
    random_state : int, optional
        Seed of everything random; None draws one.
    device : str
        ``auto``, ``cpu``, ``gpu`` or ``gpu:N``.
    precision : str
        What the operands of products are rounded to: ``f32``, which is not at all, or ``bf16``, which is
        faster on processors that have instructions for it and less exact. The processor alone has it.
    form : str, optional
        ``image``, ``series`` or ``table``, where the samples leave it open.
    score_training : bool
        Whether ``fit`` also scores its samples, for ``decision_scores_`` and ``labels_``.
    verbose : int
        1 shows progress: by tqdm, where it is installed.
    callback : callable, optional
        Is told of progress and of what was decided; what it raises ends the work.

    Attributes
    ----------
    threshold_ : float
        The score from which on a sample is called anomalous.
    decision_scores_, labels_ : arrays
        Scores and verdicts of the training samples, where these are arrays.
    model_ : dict
        The header of the model file: sizes, settings, what was trained on.
    """

    _system: ClassVar[str] = ""

    def __init__(
        self,
        *,
        size: Size = 64,
        width: int = 64,
        latent: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        score_name: str | None = None,
        options: Mapping[str, Any] | None = None,
        augment: str = "",
        textures: str | os.PathLike[str] | None = None,
        standardise: bool = False,
        hold_out: float = 0.1,
        contamination: float = 0.05,
        random_state: int | None = 0,
        device: str = "auto",
        precision: str = "f32",
        form: Form | None = None,
        score_training: bool = True,
        verbose: int = 0,
        callback: Callback | None = None,
    ) -> None:
        self.size = size
        self.width = width
        self.latent = latent
        self.epochs = epochs
        self.steps = steps
        self.minutes = minutes
        self.batch_size = batch_size
        self.lr = lr
        self.score_name = score_name
        self.options = options
        self.augment = augment
        self.textures = textures
        self.standardise = standardise
        self.hold_out = hold_out
        self.contamination = contamination
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.form = form
        self.score_training = score_training
        self.verbose = verbose
        self.callback = callback

    # Parameters, as scikit-learn reads and sets them.

    @classmethod
    def _usual(cls) -> dict[str, Any]:
        """Every parameter with its default."""
        parameters = inspect.signature(BaseDetector.__init__).parameters.items()
        return {name: parameter.default for name, parameter in parameters if name != "self"}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in self._usual()}

    def set_params(self: Self, **params: Any) -> Self:
        """Sets parameters by name."""
        for name, value in params.items():
            if name not in self._usual():
                known = ", ".join(self._usual())
                raise ValueError(f"Invalid parameter {name!r} for estimator {self!r}. Valid parameters are: {known}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        usual = self._usual()
        given = [f"{k}={v!r}" for k, v in self.get_params().items() if not _same(v, usual[k])]
        return f"{type(self).__name__}({', '.join(given)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            transformer_tags=None,
            classifier_tags=None,
            regressor_tags=None,
            array_api_support=False,
            no_validation=False,
            non_deterministic=False,
            requires_fit=True,
            input_tags=InputTags(two_d_array=True, three_d_array=True),
        )

    # Training.

    def fit(self: Self, X: Data, y: object = None) -> Self:
        """Trains on normal samples; ``y`` is ignored, as in PyOD."""
        given = samples(X, self.form if not isinstance(X, (str, os.PathLike)) else None)
        seed = secrets.randbits(32) if self.random_state is None else _whole(self.random_state, "random_state")
        how = {
            "size": _size(self.size, given),
            "channels": given.channels if isinstance(given, Images) else 1,
            "width": _whole(self.width, "width"),
            "latent": self.latent,
            "epochs": self.epochs,
            "steps": self.steps,
            "minutes": self.minutes,
            "batch": self.batch_size,
            "lr": self.lr,
            "score": self.score_name or "",
            "options": [(name, _word(value)) for name, value in (self.options or {}).items()],
            "augment": self.augment,
            "textures": self.textures,
            "standardise": bool(self.standardise),
            "hold_out": float(self.hold_out),
            "seed": seed,
            "rate": float(self.contamination),
        }
        if isinstance(given, Measured) and len(given.values) == 1:
            raise ValueError("Found array with 1 sample(s), which nothing can be learned from")
        try:
            with quiet(), _Telling(self.verbose, self.callback) as tell:
                model = _ganomede.train(self._system_name(), self._given(given), how, self._place(), tell)
        except ValueError as error:
            if isinstance(given, Measured) and given.values.shape[1] == 1:
                raise ValueError(f"{error}; X has 1 feature(s)") from None
            raise
        self._take(model)
        if isinstance(given, Measured):
            self._keep_columns(given.names)
        elif isinstance(given, Paths):
            self._keep_columns(model.columns())
        if self.score_training and not isinstance(given, Paths):
            judged = self._judged(given, maps=False)
            self.decision_scores_ = judged["scores"]
            self.labels_ = self._labels(judged)
        return self

    def _system_name(self) -> str:
        return self._system

    def _place(self) -> tuple[str, str]:
        return (self.device, self.precision)

    def _given(self, given: Samples) -> Any:
        if isinstance(given, Images):
            return given.pixels
        if isinstance(given, Measured):
            names = given.names or _invented(given.channels)
            return (given.form, names, given.values)
        if len(given.names) != 1:
            raise ValueError("train on one folder, or on images as arrays; a list of files is for scoring")
        return (self.form or _form_of(given.names[0]), given.names[0])

    def _take(self, model: _ganomede.Model) -> None:
        """Becomes a fitted detector of this model; what was known of another goes."""
        for name in ("decision_scores_", "labels_", "n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        self._model = model
        self.model_: dict[str, Any] = json.loads(model.header())
        threshold = model.threshold()
        if threshold is not None:
            self.threshold_ = threshold
        else:
            self.__dict__.pop("threshold_", None)

    def _keep_columns(self, names: list[str] | None) -> None:
        """What is known of a table's columns: their number, and the names that somebody gave."""
        model = self._fitted()
        if model.form() == "table":
            self.n_features_in_ = model.shape()[0]
            # One column of a file may have become several features.
            if names and len(names) == self.n_features_in_:
                self.feature_names_in_ = np.array(names, dtype=object)

    # Judging.

    def decision_function(self, X: Data) -> npt.NDArray[np.float64]:
        """The score of each sample; larger is more anomalous."""
        scores: npt.NDArray[np.float64] = self._judged(self._asked(X), maps=False)["scores"]
        return scores

    def predict(self, X: Data) -> npt.NDArray[np.int64]:
        """1 for each sample that is anomalous, 0 for each that is not."""
        return self._labels(self._judged(self._asked(X), maps=False))

    def predict_proba(self, X: Data) -> npt.NDArray[np.float64]:
        """``[n, 2]``: in the second column the share of held-out normal samples with a lower score.

        It is a percentile among normal samples, **no probability of an anomaly**: of good samples half have
        more than 0.5. The first column is what it leaves of 1.
        """
        percentiles = self._judged(self._asked(X), maps=False)["percentiles"]
        if np.isnan(percentiles).any():
            raise ValueError("no samples were held out (hold_out=0), so that there is nothing to compare scores with")
        share = percentiles / 100.0
        return np.column_stack([1.0 - share, share])

    def p_values(self, X: Data) -> npt.NDArray[np.float64]:
        """How often a normal sample scores as high or higher, at most (conformal p-value)."""
        values: npt.NDArray[np.float64] = self._judged(self._asked(X), maps=False)["p_values"]
        return values

    def maps(self, X: Data) -> npt.NDArray[np.float32]:
        """Where each image is anomalous, ``[n, height, width]`` at the size that the networks see."""
        given = self._asked(X)
        if isinstance(given, Paths):
            raise ValueError("maps are of arrays; for files use `ganomede score --maps` or pass their pixels")
        judged = self._judged(given, maps=True)
        if "maps" not in judged:
            raise ValueError(f"scores of {self._system_name()} have no place, and so no map")
        found: npt.NDArray[np.float32] = judged["maps"]
        return found

    def fit_predict(self, X: Data, y: object = None) -> npt.NDArray[np.int64]:
        """Trains on samples and judges them."""
        return self.fit(X, y).predict(X)

    def answers(self, data: str | os.PathLike[str] | list[str]) -> dict[str, Any]:
        """Judges files, folders or sets: what ``ganomede score --json`` prints of them."""
        given = samples(data)
        if not isinstance(given, Paths):
            raise TypeError("give a path, or a list of paths")
        with _Telling(self.verbose, self.callback) as tell:
            found: dict[str, Any] = json.loads(self._fitted().score_data(given.names, tell))
        return found

    def evaluate(self, data: str | os.PathLike[str]) -> dict[str, Any]:
        """Every metric on labelled test data: what ``ganomede eval --json`` prints."""
        with _Telling(self.verbose, self.callback) as tell:
            found: dict[str, Any] = json.loads(self._fitted().evaluate(os.fspath(data), tell))
        return found

    def _fitted(self) -> _ganomede.Model:
        model: Optional[_ganomede.Model] = self.__dict__.get("_model")
        if model is None:
            raise _not_fitted(self)
        return model

    def __sklearn_is_fitted__(self) -> bool:
        return self.__dict__.get("_model") is not None

    def _asked(self, X: Data) -> Samples:
        """Samples of the model's form, and of its columns."""
        model = self._fitted()
        form: Any = model.form()
        is_path = isinstance(X, (str, os.PathLike)) or (
            isinstance(X, (list, tuple)) and len(X) > 0 and all(isinstance(x, (str, os.PathLike)) for x in X)
        )
        given = samples(X, None if is_path else form)
        if isinstance(given, Measured):
            self._check_columns(given, model)
        return given

    def _check_columns(self, given: Measured, model: _ganomede.Model) -> None:
        channels, height, width = model.shape()
        known = channels if given.form == "table" else channels * height * width
        if given.values.shape[1] != known or given.channels != channels:
            found = given.values.shape[1]
            raise ValueError(
                f"X has {found} features, but {type(self).__name__} is expecting {known} features as input"
                if given.form == "table"
                else f"windows of {given.channels} channels and {found // given.channels} points; the model is of "
                f"{channels} channels and {known // channels} points"
            )
        if given.form != "table":
            return
        named = getattr(self, "feature_names_in_", None)
        columns = model.columns() if named is None else [str(name) for name in named]
        kind = type(self).__name__
        if given.names is None:
            if named is not None:
                text = f"X does not have valid feature names, but {kind} was fitted with feature names"
                warnings.warn(text, UserWarning, stacklevel=4)
        elif given.names == columns:
            pass
        # Names that were invented can be in a wrong order too: in files they stand as those that were given.
        elif named is not None or sorted(given.names) == sorted(columns):
            missing = [name for name in columns if name not in given.names]
            text = "The feature names should match those that were passed during fit.\n"
            if missing:
                text += f"Feature names seen at fit time, yet now missing: {', '.join(missing)}\n"
            else:
                text += "Feature names must be in the same order as they were in fit.\n"
            raise ValueError(text)
        elif given.names != [str(i) for i in range(len(columns))]:
            text = f"X has feature names, but {kind} was fitted without feature names"
            warnings.warn(text, UserWarning, stacklevel=4)

    def _judged(self, given: Samples, maps: bool) -> dict[str, npt.NDArray[Any]]:
        model = self._fitted()
        with _Telling(self.verbose, self.callback) as tell:
            if isinstance(given, Images):
                return model.score_images(given.pixels, maps, tell)
            if isinstance(given, Measured):
                return model.score_measured(given.values, maps, tell)
            return _of_answers(json.loads(model.score_data(given.names, tell)))

    def _labels(self, judged: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
        labels: npt.NDArray[np.int64] = judged["anomalous"]
        if (labels < 0).any():
            raise ValueError("no samples were held out (hold_out=0), so that there is no threshold")
        return labels

    # Files, bytes and pickles.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model file that ``ganomede`` and :func:`load` read."""
        self._fitted().save(path)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        model: Optional[_ganomede.Model] = state.pop("_model", None)
        state["_model_bytes"] = None if model is None else model.to_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        found = state.pop("_model_bytes", None)
        self.__dict__.update(state)
        if found is not None:
            with quiet():
                # At its own rate: `contamination` may have been set since, for a training to come.
                self._model = _ganomede.Model.from_bytes(found, self._place())
            _tell_precision(self._model)


class Detector(BaseDetector):
    """A detector of the system of this name: ``Detector("ganomaly", epochs=5)``.

    Parameters
    ----------
    system : str
        One of :func:`systems`.
    **params
        As of every detector: see the class of the system.
    """

    def __init__(self, system: str = "ganomaly", **params: Any) -> None:
        super().__init__(**params)
        self.system = system

    @classmethod
    def _usual(cls) -> dict[str, Any]:
        return {"system": "ganomaly", **BaseDetector._usual()}

    def _system_name(self) -> str:
        return self.system


def systems() -> list[dict[str, Any]]:
    """Every system: name, title, paper, address, scores and options.

    >>> import ganomede
    >>> [system["name"] for system in ganomede.systems()][:2]
    ['anogan', 'f-anogan']
    """
    return _ganomede.systems()


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "f32",
    contamination: float | None = None,
) -> BaseDetector:
    """A detector of a model file, of whatever system it is.

    Its parameters are those that the file tells of, so that a clone of it trains in the same way: ``epochs``
    (or ``steps``) are what the training took, and ``options`` has all options of the system. The file does
    not hold ``minutes``, ``score_training``, ``verbose`` and ``callback``, which are the usual ones, nor can
    a detector be told what the program alone has: its tiles, schedules and averages of weights.

    Parameters
    ----------
    path
        What ``ganomede train`` or :meth:`BaseDetector.save` wrote.
    device
        Where it runs.
    precision
        What the operands of products are rounded to, ``f32`` or ``bf16``. Who scores in another precision
        than the threshold was chosen in is warned.
    contamination
        Share of normal samples that may be flagged; the model's own.
    """
    with quiet():
        model = _ganomede.Model.load(path, (device, precision), contamination)
    _tell_precision(model)
    header = json.loads(model.header())
    from . import _systems

    classes: Iterator[type[BaseDetector]] = (
        c for c in vars(_systems).values() if isinstance(c, type) and issubclass(c, BaseDetector)
    )
    own = next((c for c in classes if c._system == header["system"]), None)
    detector = own() if own is not None else Detector(header["system"])
    detector.set_params(
        device=device, precision=precision, contamination=model.rate(), form=model.form(), **_trained(header)
    )
    detector._take(model)
    # Columns of arrays have invented names in the file; those of CSV files are their own.
    columns = model.columns()
    is_invented = header["data"]["spec"] == _IN_MEMORY and columns == _invented(len(columns))
    detector._keep_columns(None if is_invented else columns)
    return detector


#: What model files say that they were trained on, where that was arrays.
_IN_MEMORY = "samples in memory"


def _invented(columns: int) -> list[str]:
    """Names of columns that have none."""
    return [f"x{i}" for i in range(columns)]


def _trained(header: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a training, as far as the header of its model tells them."""
    config, data, recipe = header["config"], header["data"], header.get("recipe", {})
    params: dict[str, Any] = {
        "width": config["width"],
        "latent": config["latent"],
        # The batch of the file is a part of what a step sees.
        "batch_size": header["batch"] * recipe.get("parts", 1),
        "lr": header["training"]["lr"],
        "options": dict(header["options"]) or None,
        "augment": data["augment"],
        "standardise": recipe.get("standardise", False),
        "hold_out": data["val_fraction"],
        "random_state": header["seed"],
    }
    if config["form"] == "image":
        size = config["size"]
        params["size"] = size if isinstance(size, (int, str)) else tuple(size)
    steps, in_epoch = header["progress"]["steps"], header["progress"]["steps_per_epoch"]
    if steps > 0:
        is_whole = in_epoch > 0 and steps % in_epoch == 0
        params.update({"epochs": steps // in_epoch} if is_whole else {"steps": steps})
    if (calibration := header.get("calibration")) is not None:
        params["score_name"] = calibration["score"]["score"] or None
    if (textures := data.get("textures")) is not None:
        params["textures"] = textures["folder"]
    return params


def _tell_precision(model: _ganomede.Model) -> None:
    told = model.other_precision()
    if told is not None:
        warnings.warn(told, UserWarning, stacklevel=3)


def _of_answers(answers: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The columns of what was said of files."""
    for file in answers.get("rejected", []) + answers.get("skipped", []):
        warnings.warn(f"{file['path']}: {file['reason']}", UserWarning, stacklevel=5)
    if "series" in answers:
        raise ValueError("a series has a score a point: use answers(path)")
    rows = answers["images"]

    def column(name: str) -> npt.NDArray[np.float64]:
        return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)

    verdicts = [-1 if row["anomalous"] is None else int(row["anomalous"]) for row in rows]
    return {
        "scores": column("score"),
        "percentiles": column("percentile"),
        "p_values": column("p_value"),
        "anomalous": np.array(verdicts, dtype=np.int64),
    }


def _form_of(path: str) -> Form:
    return "table" if path.lower().endswith((".csv", ".csv.gz", ".data", ".data.gz")) else "image"


def _size(size: Size, given: Samples) -> str:
    if isinstance(given, Measured):
        return str(given.values.shape[1] // given.channels) if given.form == "series" else "64"
    if isinstance(size, tuple):
        return f"{size[0]}x{size[1]}"
    return str(size)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, (int, np.integer)) and value >= 0:
        return int(value)
    raise ValueError(f"{name} is {value!r}; a whole number of at least 0 is expected")


def _word(value: Any) -> str:
    """As the command line has it."""
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and bool(a == b))


class _Telling:
    """Tells of work: to the callback, to the log, and on a bar where that is wanted."""

    def __init__(self, verbose: int, callback: Callback | None) -> None:
        self.verbose = verbose
        self.callback = callback
        self.bar: Any = None
        self.task = ""

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __call__(self, kind: str, news: Any) -> None:
        if self.callback is not None:
            self.callback(kind, news)
        if kind == "note":
            _log.info("%s", news)
        elif kind == "unused":
            warnings.warn(str(news), UserWarning, stacklevel=4)
        elif self.verbose:
            self._show(news)

    def _show(self, news: Mapping[str, Any]) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            if news["ended"]:
                print(f"{news['task']}: {news['done']} {news['unit']}", file=sys.stderr)
            return
        if self.bar is None or self.task != news["task"]:
            self._close()
            self.task = news["task"]
            self.bar = tqdm(total=news["total"], desc=self.task, unit=news["unit"], initial=news["first"])
        self.bar.update(news["done"] - self.bar.n)
        if news["losses"]:
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in news["losses"].items()}, refresh=False)
        if news["ended"]:
            self._close()
