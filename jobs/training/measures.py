"""Figures with confidence intervals by bootstrap over the unit that was sampled: a subject, a measurement, a stay.

Drawing units with replacement is the same as giving each row the number of times that its unit was drawn as a weight; a
statistic is a function of such weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSetting

__all__ = [
    "Figure",
    "accuracy",
    "auprc",
    "auroc",
    "macro_f1",
    "plain",
    "plain_figures",
    "with_intervals",
]

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


def plain(value: float) -> float | None:
    """A number as JSON has it: none for NaN and infinities."""
    return value if math.isfinite(value) else None


def plain_figures(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | None]]:
    """Figures as JSON types."""
    return {name: {key: plain(value) for key, value in vars(figure).items()} for name, figure in figures.items()}


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
    """Area under the receiver operating characteristic of labels 0 and 1; equal scores count half."""
    ranked = _Ranked(labels, scores)

    def statistic(weights: Weights) -> float:
        positive, negative = ranked.sums(weights)
        total = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative / 2
        return float(positive @ below / total) if total else float("nan")

    return statistic


def auprc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Statistic:
    """Area under the precision-recall curve of labels 0 and 1, as average precision."""
    ranked = _Ranked(labels, scores)

    def statistic(weights: Weights) -> float:
        positive, negative = (sums[::-1] for sums in ranked.sums(weights))  # from the highest score down
        found, taken = np.cumsum(positive), np.cumsum(positive + negative)
        if not found[-1] or found[-1] == taken[-1]:
            return float("nan")
        precision = found / np.maximum(taken, 1e-300)
        return float(positive @ precision / found[-1])

    return statistic


class _Ranked:
    """Rows sorted by score, once for all draws of a bootstrap; rows of equal score are one step."""

    def __init__(self, labels: npt.ArrayLike, scores: npt.ArrayLike) -> None:
        found = np.asarray(scores, np.float64)
        self._order = np.argsort(found, kind="stable")
        ordered = found[self._order]
        self._starts = (
            np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
        )
        self._positive = np.asarray(labels)[self._order].astype(bool)

    def sums(self, weights: Weights) -> tuple[Weights, Weights]:
        """Weight of the positive and of the negative rows at each score, the lowest first."""
        ordered = weights[self._order]
        return (
            np.add.reduceat(np.where(self._positive, ordered, 0.0), self._starts),
            np.add.reduceat(np.where(self._positive, 0.0, ordered), self._starts),
        )


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
