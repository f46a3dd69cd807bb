"""Principal components and a Gaussian mixture, from scikit-learn in float64.

Run `python3 tests/goldens/baselines.py` (numpy, scikit-learn, safetensors) to write `baselines.safetensors`
beside this file.

PCA: 96 samples of 16x16 with a spectrum that falls by a factor of 0.8 a component, and 12 others. `pca/x`,
`pca/other`; `pca/mean`, `pca/variances` and `pca/directions` of 6 components (the greatest magnitude of each
positive), `pca/spe` and `pca/t2` of the others.

Mixture: 300 points of 4 features around 3 places, EM with diagonal covariances for 25 iterations from a given
start, `reg_covar` 1e-6. `gmm/points`; `gmm/start_weights`, `gmm/start_means`, `gmm/start_variances`;
`gmm/weights`, `gmm/means`, `gmm/variances` after; `gmm/log_p` of each point.
"""

import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture


def main():
    random = np.random.default_rng(20261123)
    tensors = {}
    directions = np.linalg.qr(random.standard_normal((256, 256)))[0]
    spread = 2.0 * 0.8 ** np.arange(256)

    def samples(count, more):
        x = random.standard_normal((count, 256)) * (spread + more) @ directions.T + 0.3
        return x.astype(np.float32).astype(np.float64)

    x, other = samples(96, 0.0), samples(12, 0.05)
    pca = PCA(6, svd_solver="full").fit(x)
    v = pca.components_
    v = v * np.sign(v[np.arange(6), np.abs(v).argmax(1)])[:, None]
    coordinates = (other - pca.mean_) @ v.T
    residual = other - pca.mean_ - coordinates @ v
    tensors |= {
        "pca/x": x.reshape(96, 1, 16, 16),
        "pca/other": other.reshape(12, 1, 16, 16),
        "pca/mean": pca.mean_,
        "pca/variances": pca.explained_variance_,
        "pca/directions": v,
        "pca/spe": (residual**2).sum(1),
        "pca/t2": (coordinates**2 / pca.explained_variance_).sum(1),
    }

    places = np.array([[0, 0, 0, 0], [3, 1, -2, 0.5], [-1, 4, 1, 2]])
    points = np.concatenate([p + random.standard_normal((100, 4)) * random.uniform(0.2, 1.5, 4) for p in places])
    points = points.astype(np.float32).astype(np.float64)
    start = {
        "weights": np.array([0.5, 0.3, 0.2]),
        "means": points[[5, 150, 250]],
        "variances": np.array([[1.0, 2.0, 1.0, 1.0], [0.5, 1.0, 1.0, 2.0], [1.0, 1.0, 1.5, 1.0]]),
    }
    mixture = GaussianMixture(
        3,
        covariance_type="diag",
        tol=0.0,
        reg_covar=1e-6,
        max_iter=25,
        weights_init=start["weights"],
        means_init=start["means"],
        precisions_init=1.0 / start["variances"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(points)
    tensors |= {f"gmm/start_{name}": value for name, value in start.items()}
    tensors |= {
        "gmm/points": points,
        "gmm/weights": mixture.weights_,
        "gmm/means": mixture.means_,
        "gmm/variances": mixture.covariances_,
        "gmm/log_p": mixture.score_samples(points),
    }
    print(mixture.n_iter_, mixture.weights_, mixture.means_)
    path = Path(__file__).with_name("baselines.safetensors")
    save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
