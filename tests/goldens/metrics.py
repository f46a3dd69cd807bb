"""Golden values for src/eval: writes metrics.json beside this file.

Run with numpy, scikit-learn and scipy installed: python tests/goldens/metrics.py

Metrics of images and of points come from scikit-learn; adjusted F1 flags segments as its papers say; AUPRO is
computed from its definition, one threshold at a time, with scipy's 8-connected component labels.
"""

import json
import pathlib

import numpy as np
import scipy
import sklearn
from scipy import ndimage, optimize
from sklearn import metrics

rng = np.random.default_rng(20170319)


def eer(fpr, tpr):
    """Where FPR = 1 - TPR on the curve, walked by its arc length so that vertical segments count too."""
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(fpr)) + np.abs(np.diff(tpr)))])
    gap = lambda s: np.interp(s, along, fpr) + np.interp(s, along, tpr) - 1
    return float(np.interp(optimize.brentq(gap, 0, along[-1], xtol=1e-15), along, fpr))


def ranking(name, truths, scores):
    fpr, tpr, _ = metrics.roc_curve(truths, scores, drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(truths, scores)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    threshold = float(np.quantile(scores[truths == 0], 0.9))
    flagged = scores >= threshold
    return {
        "name": name,
        "truths": truths.astype(bool).tolist(),
        "scores": scores.tolist(),
        "auroc": metrics.roc_auc_score(truths, scores),
        "auprc_trapz": metrics.auc(recall, precision),
        "average_precision": metrics.average_precision_score(truths, scores),
        "f1_max": float(f1.max()),
        "eer": eer(fpr, tpr),
        "youden_j": float((tpr - fpr).max()),
        "fpr": fpr.tolist(),
        "tpr": tpr.tolist(),
        # scikit-learn orders by falling recall and appends (1, 0); ours rises and has no such point.
        "precision": precision[:-1][::-1].tolist(),
        "recall": recall[:-1][::-1].tolist(),
        "threshold": threshold,
        "at_threshold": {
            "precision": metrics.precision_score(truths, flagged),
            "recall": metrics.recall_score(truths, flagged),
            "f1": metrics.f1_score(truths, flagged),
        },
    }


def aupro(maps, masks, limit=0.3):
    regions, overlaps, fprs = [], [0.0], [0.0]
    for i, mask in enumerate(masks):
        labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(i, labels == k) for k in range(1, n + 1)]
    for t in np.unique(maps)[::-1]:
        overlaps.append(np.mean([(maps[i][r] >= t).mean() for i, r in regions]))
        fprs.append((maps[~masks] >= t).mean())
    fprs, overlaps = np.array(fprs), np.array(overlaps)
    # Of equal FPRs the last (highest overlap) starts the next trapezoid, so integrate segment by segment.
    area = 0.0
    for x0, x1, y0, y1 in zip(fprs[:-1], fprs[1:], overlaps[:-1], overlaps[1:]):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def pixels():
    h, w = 9, 13
    masks = np.zeros((4, h, w), bool)
    masks[0, 1:3, 2:5] = True
    masks[0, 3, 5] = True  # touches the block at a corner: one region
    masks[0, 6:9, 10:13] = True
    masks[1, 4, 0:13:3] = True
    masks[2, 0, 0] = True
    # Tenths: plenty of ties.
    maps = np.round(rng.normal(size=masks.shape) + 1.2 * masks, 1).astype(np.float32)
    return {
        "height": h,
        "width": w,
        "maps": [m.ravel().tolist() for m in maps],
        "masks": [m.ravel().tolist() for m in masks],
        "pixel_auroc": metrics.roc_auc_score(masks.ravel(), maps.ravel()),
        "aupro": aupro(maps, masks),
    }


def segments(truths):
    edges = np.diff(np.concatenate([[0], truths.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)))


def adjust(flags, truths, k):
    flags = flags.copy()
    for start, end in segments(truths):
        if flags[start:end].sum() * 100 > k * (end - start):
            flags[start:end] = True
    return flags


def signal():
    random = np.random.default_rng(814)
    truths = np.zeros(400, bool)
    for start, length in [(0, 7), (50, 1), (90, 40), (200, 5), (230, 25), (395, 5)]:
        truths[start : start + length] = True
    # Tenths: plenty of ties, and shares of a segment that are exactly K percent.
    scores = np.round(random.normal(size=400) + 1.0 * truths, 1)

    def best(k):
        return max(metrics.f1_score(truths, adjust(scores >= t, truths, k)) for t in np.unique(scores))

    cases = []
    for threshold, k in [(1.5, 0), (1.5, 20), (1.5, 100), (2.5, 20), (0.0, 50), (9.9, 10)]:
        flags = scores >= threshold
        f1 = lambda flags: metrics.f1_score(truths, flags)
        cases.append({
            "threshold": threshold,
            "k": k,
            "f1": f1(flags),
            "f1_point_adjusted": f1(adjust(flags, truths, 0)),
            "f1_pa_k": f1(adjust(flags, truths, k)),
            "f1_oracle": best(100),
            "f1_pa_k_oracle": best(k),
        })
    return {"truths": truths.tolist(), "scores": scores.tolist(), "cases": cases}


truths = (rng.random(60) < 0.4).astype(int)
rare = np.zeros(90, int)
rare[:7] = 1
golden = {
    "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "scipy": scipy.__version__},
    "ranking": [
        ranking("continuous", truths, rng.normal(size=60) + truths),
        ranking("ties", truths, np.round(2 * (rng.normal(size=60) + truths)) / 2),
        ranking("rare and inverted", rare, np.round(rng.normal(size=90) - 0.5 * rare, 1)),
        ranking("constant", truths, np.ones(60)),
    ],
    "pixels": pixels(),
    "signal": signal(),
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
print(path.name, path.stat().st_size, "bytes")
