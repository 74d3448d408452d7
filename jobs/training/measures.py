"""Figures with confidence intervals by bootstrap over the unit that was sampled: a subject, a measurement, a stay.

Drawing units with replacement is the same as giving each row the number of times that its unit was drawn as a weight; a
statistic is a function of such weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSetting
from sensorium.platform.optional import require

__all__ = ["Figure", "accuracy", "auprc", "auroc", "macro_f1", "with_intervals"]

Weights = npt.NDArray[np.float64]
#: weight of each row -> the statistic; NaN where it is not defined
Statistic = Callable[[Weights], float]

_LEVEL = 0.95


@dataclass(frozen=True)
class Figure:
    """A statistic with its 95 % interval.

    Attributes:
        value: on all rows.
        low, high: bounds of the interval.
        units: how many units (subjects, measurements) it rests on.
    """

    value: float
    low: float
    high: float
    units: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def with_intervals(
    statistics: Mapping[str, Statistic], units: npt.ArrayLike, *, repeats: int = 1000, seed: int = 0
) -> dict[str, Figure]:
    """Statistics with percentile intervals.

    Args:
        statistics: by name.
        units: of each row, the unit that it belongs to; rows of a unit are drawn together.
        repeats: of the bootstrap.
        seed: of the bootstrap.
    """
    names, members = np.unique(np.asarray(units), return_inverse=True)
    if len(names) == 0:
        raise InvalidSetting("there are no rows to measure. Look at the predicate and the split.")
    random = np.random.default_rng(seed)
    ones = np.ones(len(members))
    draws = [
        np.bincount(random.integers(0, len(names), len(names)), minlength=len(names))[members].astype(np.float64)
        for _ in range(repeats)
    ]
    edges = [(1 - _LEVEL) / 2 * 100, (1 + _LEVEL) / 2 * 100]
    figures = {}
    for name, statistic in statistics.items():
        drawn = np.array([statistic(weights) for weights in draws])
        defined = drawn[np.isfinite(drawn)]
        low, high = np.percentile(defined, edges) if len(defined) else (np.nan, np.nan)
        figures[name] = Figure(float(statistic(ones)), float(low), float(high), len(names))
    return figures


def accuracy(correct: npt.ArrayLike, count: npt.ArrayLike | None = None) -> Statistic:
    """Share of what is correct; rows may stand for ``count`` decisions each."""
    right = np.asarray(correct, np.float64)
    whole = np.ones_like(right) if count is None else np.asarray(count, np.float64)

    def statistic(weights: Weights) -> float:
        total = float(weights @ whole)
        return float(weights @ right) / total if total else float("nan")

    return statistic


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Statistic:
    """Area under the receiver operating characteristic."""
    return _ranking("roc_auc_score", labels, scores)


def auprc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Statistic:
    """Area under the precision-recall curve, as average precision."""
    return _ranking("average_precision_score", labels, scores)


def _ranking(function: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> Statistic:
    metrics = require("sklearn.metrics", "measure a fit")
    truth, found = np.asarray(labels), np.asarray(scores, np.float64)

    def statistic(weights: Weights) -> float:
        chosen = weights > 0
        if len(np.unique(truth[chosen])) < 2:
            return float("nan")
        return float(getattr(metrics, function)(truth[chosen], found[chosen], sample_weight=weights[chosen]))

    return statistic


def macro_f1(confusion: npt.ArrayLike) -> Statistic:
    """Mean over the classes of F1; ``confusion`` [rows, classes, classes] counts true by predicted for each row."""
    counts = np.asarray(confusion, np.float64)

    def statistic(weights: Weights) -> float:
        table = np.tensordot(weights, counts, axes=1)
        right, actual, found = np.diag(table), table.sum(axis=1), table.sum(axis=0)
        present = actual > 0
        if not present.any():
            return float("nan")
        return float(np.mean(2 * right[present] / np.maximum(actual[present] + found[present], 1e-12)))

    return statistic
