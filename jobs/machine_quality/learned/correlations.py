"""How well one number ranks another: Spearman's, Pearson's and Kendall's correlation, with intervals over source images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sensorium.jobs.training.measures import Figure, Statistic, with_intervals
from sensorium.platform.optional import require

__all__ = ["correlations", "krcc", "plcc", "srcc"]

Values = npt.NDArray[np.float64]
#: of the bootstrap: Kendall's takes a few ms for each, and the ends of an interval are good to about 0.01 with so many
_REPEATS = 200


def correlations(predicted: npt.ArrayLike, true: npt.ArrayLike, units: npt.ArrayLike) -> dict[str, Figure]:
    """``srcc``, ``plcc`` and ``krcc`` (tau-b) of two columns, with 95 % intervals by bootstrap over units.

    Args:
        predicted: a value for each row, finite.
        true: the same.
        units: of each row, the source image that it comes from.
    """
    one, other = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    chosen = {"srcc": srcc, "plcc": plcc, "krcc": krcc}
    statistics = {name: _weighted(function, one, other) for name, function in chosen.items()}
    return with_intervals(statistics, units, repeats=_REPEATS)


def _weighted(function: Callable[[Values, Values], float], one: Values, other: Values) -> Statistic:
    def statistic(weights: Values) -> float:
        times = weights.astype(np.int64)  # weights of a bootstrap are how often a row was drawn
        return function(np.repeat(one, times), np.repeat(other, times))

    return statistic


def srcc(one: Values, other: Values) -> float:
    """Spearman's rank correlation; NaN where one of them does not vary."""
    return _correlation("spearmanr", one, other)


def plcc(one: Values, other: Values) -> float:
    """Pearson's linear correlation; NaN where one of them does not vary."""
    return _correlation("pearsonr", one, other)


def krcc(one: Values, other: Values) -> float:
    """Kendall's rank correlation, tau-b; NaN where one of them does not vary."""
    return _correlation("kendalltau", one, other)


def _correlation(name: str, one: Values, other: Values) -> float:
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    scipy = require("scipy.stats", "correlate metrics with scores")
    return float(getattr(scipy, name)(one, other).statistic)
