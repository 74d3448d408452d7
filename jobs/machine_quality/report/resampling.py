"""Bootstrap over source images: how often each image is drawn, for all draws at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LEVEL", "interval", "rates", "weights"]

LEVEL = 0.95

Floats = npt.NDArray[np.float64]


def weights(units: int, repeats: int, seed: int) -> Floats:
    """Times that each unit is drawn [repeats, units]; every line sums to ``units``."""
    random = np.random.default_rng(seed)
    return random.multinomial(units, np.full(units, 1 / units), size=repeats).astype(np.float64)


def rates(drawn: Floats, values: Floats, members: npt.NDArray[np.int64]) -> Floats:
    """Means of ``values`` [rows] that are finite in each draw [repeats]; rows belong to the units ``members`` [rows]."""
    here = np.isfinite(values)
    units = drawn.shape[1]
    sums = np.bincount(members[here], values[here], minlength=units)
    counts = np.bincount(members[here], minlength=units)
    total = drawn @ counts
    means: Floats = np.divide(drawn @ sums, total, out=np.full(len(drawn), np.nan), where=total > 0)
    return means


def interval(drawn: Floats, units: int) -> tuple[float | None, float | None]:
    """Percentile interval of a bootstrapped statistic.

    None where fewer than two units were drawn from, or where most draws do not define it: what is left would be the draws
    that suit it.
    """
    defined = drawn[np.isfinite(drawn)]
    if units < 2 or 2 * len(defined) <= len(drawn):
        return None, None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
