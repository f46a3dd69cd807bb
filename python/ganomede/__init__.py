"""Anomaly detection by the published GANs and autoencoders, and by simpler things, on any GPU or none.

Larger scores are more anomalous; ``predict`` gives 1 for an anomaly and 0 otherwise, as in PyOD.

>>> import numpy as np
>>> import ganomede
>>> rng = np.random.default_rng(0)
>>> normal = rng.normal(size=(300, 5))
>>> detector = ganomede.PCA(latent=2, device="cpu").fit(normal)
>>> detector.predict([[0.0, 0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 9.0, -9.0, 9.0]])
array([0, 1])
"""

from . import engine
from ._ganomede import __version__
from ._detector import Detector, load, systems
from ._systems import (
    ACAE,
    ADAE,
    AE,
    DAGAN,
    DRAEM,
    EGBAD,
    GMM,
    NSA,
    PCA,
    VAE,
    AnoGAN,
    BeatGAN,
    DeepSVDD,
    FAnoGAN,
    FeatureGaussian,
    GANomaly,
    KNN,
    MemAE,
    SkipGANomaly,
)

__all__ = [
    "ACAE",
    "ADAE",
    "AE",
    "AnoGAN",
    "BeatGAN",
    "DAGAN",
    "DRAEM",
    "DeepSVDD",
    "Detector",
    "EGBAD",
    "FAnoGAN",
    "FeatureGaussian",
    "GANomaly",
    "GMM",
    "KNN",
    "MemAE",
    "NSA",
    "PCA",
    "SkipGANomaly",
    "VAE",
    "__version__",
    "engine",
    "load",
    "systems",
]
