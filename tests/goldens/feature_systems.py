"""Features of several scales, Gaussians at places and nearest neighbours, from PyTorch, scikit-learn and
NumPy in float64.

Run `python3 tests/goldens/feature_systems.py` (torch, scikit-learn, safetensors) to write
`feature_systems.safetensors` beside this file.

Network: DCGAN's discriminator without norm (`src/models/dcgan.rs`) on gray images of 33x26, width 4, kernel
4: three convolutions that halve rounding up, leaky ReLU 0.2. `weight/NAME` are its parameters, `x` 24 images
that all fits are made of, `other` 5 others.

* `places` and `image`: the descriptions of `other` (`src/models/multiscale.rs`), not standardised.
* `gaussian/R` for R of 0 and 1: Mahalanobis distances of `other` at each place, features standardised over
  all images and places, one `LedoitWolf` a place on the features of all places at most R rows and columns
  away, 0.01 added to the diagonal. `gaussian/projected`: R = 0 with the projection `projection`.
* `row/x`, `row/other`, `row/distances`: the same for rows of a table, one Gaussian; `row/shrinkage`.
* `knn/image`, `knn/places`: distances of `other` from the nearest of a k-centre coreset of 9 images and of
  100 places, each coreset begun with the first row in the order of the images.
* `coreset/rows` and `coreset/chosen`: greedy k-centre of 40 of 150 rows.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from sklearn.covariance import LedoitWolf

HEIGHT, WIDTH, CHANNELS, KERNEL, COUNT, OTHER = 33, 26, [1, 4, 8, 16], 4, 24, 5


def narrow(x):
    return x.astype(np.float32).astype(np.float64)


def halve(x, weight, bias):
    """Stride 2, as many zeros as make the side half of it rounded up, one more after than before where odd."""
    pads = []
    for side in reversed(x.shape[2:]):
        zeros = 2 * -(-side // 2) + KERNEL - side - 2
        pads += [zeros // 2, (zeros + 1) // 2]
    return F.leaky_relu(F.conv2d(F.pad(x, pads), weight, bias, stride=2), 0.2)


def describe(images, layers):
    h, maps = torch.tensor(images), []
    for weight, bias in layers:
        h = halve(h, torch.tensor(weight), torch.tensor(bias))
        maps.append(h)
    grid = maps[1].shape[2:]
    joined = torch.cat([F.interpolate(h, size=grid, mode="bilinear", align_corners=False) for h in maps[1:]], 1)
    places = joined.permute(0, 2, 3, 1).flatten(1, 2)
    moments = [f(h.flatten(2)) for h in maps for f in (
        lambda v: v.mean(2), lambda v: v.var(2, unbiased=False).sqrt(), lambda v: v.amin(2), lambda v: v.amax(2))]
    return places.numpy(), torch.cat(moments, 1).numpy(), tuple(grid)


def distances(fit, points, floor=0.01):
    model = LedoitWolf().fit(fit)
    apart = points - model.location_
    inverse = np.linalg.inv(model.covariance_ + floor * np.eye(fit.shape[1]))
    return np.sqrt(np.einsum("ni,ij,nj->n", apart, inverse, apart)), model.shrinkage_


def gaussians(places, others, grid, reach):
    height, width = grid
    found = np.zeros(others.shape[:2])
    for i in range(height):
        for j in range(width):
            near = [a * width + b for a in range(max(0, i - reach), min(height, i + reach + 1))
                    for b in range(max(0, j - reach), min(width, j + reach + 1))]
            fit = places[:, near].reshape(-1, places.shape[2])
            found[:, i * width + j] = distances(fit, others[:, i * width + j])[0]
    return found


def coreset(rows, most):
    chosen, least = [0], np.full(len(rows), np.inf)
    while len(chosen) < most:
        least = np.minimum(least, ((rows - rows[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(least.argmax()))
    return chosen


def nearest(bank, queries):
    return np.sqrt(((queries[:, None] - bank[None]) ** 2).sum(2)).min(1)


def main():
    random = np.random.default_rng(20261130)
    layers, tensors = [], {}
    for i, (before, after) in enumerate(zip(CHANNELS, CHANNELS[1:])):
        weight = narrow(random.standard_normal((after, before, KERNEL, KERNEL)) / (4 * np.sqrt(before)))
        bias = narrow(0.1 * random.standard_normal(after))
        layers.append((weight, bias))
        name = "input" if i == 0 else f"down{i}"
        tensors |= {f"weight/features.{name}.weight": weight, f"weight/features.{name}.bias": bias}
    shapes = narrow(random.standard_normal((6, 1, HEIGHT, WIDTH)))
    images = lambda n: narrow(0.5 * np.tensordot(random.standard_normal((n, 6)), shapes, 1) / 2 + 0.3 * random.standard_normal((n, 1, HEIGHT, WIDTH)))
    x, other = images(COUNT), images(OTHER)
    other[3:] += 0.4
    other = narrow(other)
    places, image, grid = describe(x, layers)
    other_places, other_image, _ = describe(other, layers)
    tensors |= {"x": x, "other": other, "places": other_places, "image": other_image}

    mean, deviation = places.mean((0, 1)), places.std((0, 1))
    fit, queries = (places - mean) / deviation, (other_places - mean) / deviation
    for reach in (0, 1):
        tensors[f"gaussian/{reach}"] = gaussians(fit, queries, grid, reach)
    projection = narrow(random.standard_normal((7, fit.shape[2])) / np.sqrt(7))
    tensors["projection"] = projection
    tensors["gaussian/projected"] = gaussians(fit @ projection.T, queries @ projection.T, grid, 0)

    mix = random.standard_normal((9, 9)) * 0.8 ** np.arange(9)
    rows, others = (narrow(random.standard_normal((n, 9)) @ mix + 0.5) for n in (32, 6))
    centre, spread = rows.mean(0), rows.std(0)
    found, shrinkage = distances((rows - centre) / spread, (others - centre) / spread)
    tensors |= {"row/x": rows, "row/other": others, "row/distances": found, "row/shrinkage": np.array([shrinkage])}

    whole, asked = ((v - image.mean(0)) / image.std(0) for v in (image, other_image))
    tensors["knn/image"] = nearest(whole[coreset(whole, 9)], asked)
    all_places = fit.reshape(-1, fit.shape[2])
    bank = all_places[coreset(all_places, 100)]
    tensors["knn/places"] = nearest(bank, queries.reshape(-1, fit.shape[2])).reshape(OTHER, -1)
    rows = narrow(random.standard_normal((150, 11)))
    tensors |= {"coreset/rows": rows, "coreset/chosen": np.array(coreset(rows, 40))}
    print(grid, shrinkage, tensors["gaussian/0"].max(1), tensors["gaussian/1"].max(1), tensors["knn/image"])
    path = Path(__file__).with_name("feature_systems.safetensors")
    save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()}, path)
    print(f"{len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
