"""How well one number ranks another: Spearman's, Pearson's and Kendall's correlation, with intervals over source images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sensorium.jobs.machine_quality.correlations import (
    FEWEST,
    Drawn,
    agreement,
    column,
    drawn,
    kendall,
    pearson,
    spearman,
)
from sensorium.jobs.training.measures import Figure, Statistic, with_intervals

__all__ = ["correlations"]

#: of the bootstrap: the ends of an interval are good to about 0.01 with so many
_REPEATS = 200


def correlations(predicted: npt.ArrayLike, true: npt.ArrayLike, units: npt.ArrayLike) -> dict[str, Figure]:
    """``srcc``, ``plcc`` and ``krcc`` (tau-b) of two columns, with 95 % intervals by bootstrap over units.

    Args:
        predicted: a value for each row, finite.
        true: the same.
        units: of each row, the source image that it comes from.
    """
    named = np.asarray(units)
    order = np.argsort(named, kind="stable")
    starts = np.unique(named[order], return_index=True)[1]
    x, y = (column(np.asarray(values, np.float64)[order]) for values in (predicted, true))
    agreeing = agreement(x, y, starts)
    coefficients: dict[str, Callable[[Drawn, Drawn], npt.NDArray[np.float64]]] = {
        "srcc": spearman,
        "plcc": pearson,
        "krcc": lambda one, other: kendall(one, other, starts, agreeing),
    }

    def statistic(coefficient: Callable[[Drawn, Drawn], npt.NDArray[np.float64]]) -> Statistic:
        def of(weights: npt.NDArray[np.float64]) -> float:
            if len(order) < FEWEST:
                return float("nan")
            times = weights[order][None]  # weights of a bootstrap are how often a row was drawn
            return float(coefficient(drawn(x, times), drawn(y, times))[0])

        return of

    return with_intervals({name: statistic(one) for name, one in coefficients.items()}, named, repeats=_REPEATS)
