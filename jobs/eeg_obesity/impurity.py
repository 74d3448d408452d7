"""Dichotomy impurity: how well one threshold on one feature parts two classes (Eqs 2–5 of the paper).

For a threshold τ the N values of a feature fall into those below τ and those from τ on; each part's Gini index is
G = p (1 − p), with p its share of class 1, and the impurity is the mean of both, weighted by the parts' sizes. The
dichotomy impurity of the feature is the smallest over all τ: from 0 (one threshold parts the classes) to that of no split
at all, p (1 − p) of the whole, which Eq. 4 allows too (a τ below all values) and which a constant feature has.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSample

__all__ = ["dichotomy_impurity", "first_quartile"]

#: values sorted at once; bounds memory to some 200 MB beyond the features themselves
_BLOCK = 1 << 21


def dichotomy_impurity(features: npt.ArrayLike, labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The dichotomy impurity of each feature (Eq. 4); their mean is the overall one (Eq. 5).

    All thresholds are tried: a feature is sorted once, and counts of class 1 up to every place give both parts' Gini
    indices. A threshold lies between two different values, never within a tie.

    Args:
        features: [N, D], real.
        labels: [N], 0 or 1, both there.

    Returns:
        [D], float64, each in [0, 0.25].

    Raises:
        InvalidSample: shapes do not fit, a value is NaN, or there are not two classes called 0 and 1.
    """
    values, classes = _checked(features, labels)
    count, dimensions = values.shape
    impurities = np.empty(dimensions)
    step = max(1, _BLOCK // count)
    for start in range(0, dimensions, step):
        block = np.ascontiguousarray(values[:, start : start + step].T)  # [block, N]: sorting runs along memory
        order = np.argsort(block, axis=1)
        impurities[start : start + step] = _smallest(np.take_along_axis(block, order, 1), classes[order])
    return impurities


def _checked(features: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
    values, classes = np.asarray(features), np.asarray(labels)
    if values.dtype.kind not in "f":
        values = values.astype(np.float64)
    if values.ndim != 2 or classes.shape != values.shape[:1]:
        raise InvalidSample(f"features must be [N, D] and labels [N]; got {values.shape} and {classes.shape}.")
    if set(np.unique(classes).tolist()) != {0, 1}:
        raise InvalidSample(f"labels must be 0 and 1, and both there; got {np.unique(classes)[:5].tolist()}.")
    wrong = np.isnan(values)
    if wrong.any():
        row, column = (int(index[0]) for index in np.nonzero(wrong))
        raise InvalidSample(f"feature {column} of entry {row} is NaN, which lies on no side of a threshold.")
    return values, classes.astype(bool)


def _smallest(ordered: npt.NDArray[np.floating], classes: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Smallest impurity over all splits of features [block, N] in ascending order, with their classes.

    With a of n values below τ in class 1, n · G is a − a² / n. The sum of both parts' is thus A less a² / n and
    (A − a)² / (N − n), where A is the number of class 1 in all; the largest of that subtrahend is sought.
    """
    count = ordered.shape[1]
    below = np.cumsum(classes, axis=1, dtype=np.float64)
    total = below[:, -1:].copy()
    below = below[:, :-1]  # a, for n = 1 ... N - 1
    sizes = np.arange(1, count, dtype=np.float64)
    gain = np.square(total - below)
    gain /= count - sizes
    np.square(below, out=below)
    below /= sizes
    gain += below
    gain[ordered[:, 1:] == ordered[:, :-1]] = 0  # a tie cannot be split
    whole = np.square(total) / count  # no split at all
    best = np.maximum(gain.max(axis=1, initial=0), whole[:, 0])
    # rounding must not make a perfect split negative
    smallest: npt.NDArray[np.float64] = np.maximum((total[:, 0] - best) / count, 0)
    return smallest


def first_quartile(impurities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The quarter of the features with the lowest impurity, ascending: the curve of Fig. 4."""
    ordered = np.sort(np.asarray(impurities, dtype=np.float64))
    return ordered[: max(1, len(ordered) // 4)]
