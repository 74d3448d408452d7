"""Spearman's, Pearson's and Kendall's correlation (SRCC, PLCC, KRCC) of two columns, alone and in the draws of a bootstrap.

A bootstrap draws units (source images) with replacement; the rows of a unit are drawn together. A draw is how often each row
stands in it, ``times`` [repeats, rows]: a coefficient is of the rows written out so often, and is computed without writing
them out. Rows of a unit lie one after the other; ``starts`` [units] is the first row of each.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sensorium.platform.optional import require

__all__ = [
    "FEWEST",
    "Column",
    "Drawn",
    "agreement",
    "column",
    "drawn",
    "kendall",
    "krcc",
    "pearson",
    "plcc",
    "spearman",
    "srcc",
]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: rows: fewer say nothing
FEWEST = 3
#: up to so many rows, Kendall's is summed over pairs of rows once for all draws; the cost of that grows with their square,
#: and beyond it is cheaper to sort each draw
_SQUARE = 1024


def srcc(one: Floats, other: Floats) -> float:
    """Spearman's rank correlation; NaN where one of them does not vary."""
    return _correlation("spearmanr", one, other)


def plcc(one: Floats, other: Floats) -> float:
    """Pearson's linear correlation; NaN where one of them does not vary."""
    return _correlation("pearsonr", one, other)


def krcc(one: Floats, other: Floats) -> float:
    """Kendall's rank correlation, tau-b; NaN where one of them does not vary."""
    return _correlation("kendalltau", one, other)


def _correlation(name: str, one: Floats, other: Floats) -> float:
    if len(one) < FEWEST or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    scipy = require("scipy.stats", "correlate metrics with scores")
    return float(getattr(scipy, name)(one, other).statistic)


@dataclass(frozen=True)
class Column:
    """A column of numbers, sorted once for all draws.

    Attributes:
        values: [rows], finite.
        order: [rows], which rows hold them from the smallest to the largest.
        steps: [distinct], where in that order each distinct value begins.
        level: [rows], which of the distinct values, in rising order, a row has.
    """

    values: Floats
    order: Indices
    steps: Indices
    level: Indices

    @functools.cached_property
    def signs(self) -> npt.NDArray[np.int8]:
        """Of each row less each other row [rows, rows]: -1, 0 or 1."""
        above = self.values[:, None] > self.values[None, :]
        signs: npt.NDArray[np.int8] = above.view(np.int8) - above.T.view(np.int8)
        return signs


def column(values: Floats) -> Column:
    """``values`` [rows], which must be finite, as a column."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.ones(len(values), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    level = np.empty(len(values), np.int64)
    level[order] = np.cumsum(first) - 1
    return Column(values, order, np.flatnonzero(first), level)


@dataclass(frozen=True)
class Drawn:
    """A column in every draw.

    Attributes:
        column: the column.
        times: [repeats, rows], how often each row was drawn.
        values, ranks: [repeats, rows], the numbers and their mid-ranks in the draw, of mean 0 and length 1 over the rows
            that were drawn and each times the root of how often: the sum of products of two columns is their
            correlation. NaN where the column does not vary in the draw.
        apart: [repeats], how many ordered pairs of drawn rows have different values.
    """

    column: Column
    times: Floats
    values: Floats
    ranks: Floats
    apart: Floats


def drawn(column: Column, times: Floats) -> Drawn:
    """``column`` in the draws ``times`` [repeats, rows]."""
    held = np.add.reduceat(times[:, column.order], column.steps, axis=1)  # [repeats, distinct]
    total = held.sum(axis=1)
    apart = total**2 - (held**2).sum(axis=1)  # whole numbers, so that 0 is exact
    ranks = (np.cumsum(held, axis=1) - held / 2)[:, column.level]
    roots = np.sqrt(times)
    scale = np.where(apart > 0, 1.0, np.nan)
    values = np.broadcast_to(column.values, times.shape)
    values, ranks = (_standard(one, times, roots, total) * scale[:, None] for one in (values, ranks))
    return Drawn(column, times, values, ranks, apart)


def _standard(values: Floats, times: Floats, roots: Floats, total: Floats) -> Floats:
    centred = values - (np.einsum("ij,ij->i", times, values) / np.maximum(total, 1))[:, None]
    centred *= roots
    length = np.sqrt(np.einsum("ij,ij->i", centred, centred))[:, None]
    standard: Floats = np.divide(centred, length, out=centred, where=length > 0)
    return standard


def spearman(x: Drawn, y: Drawn) -> Floats:
    """SRCC of each draw [repeats]; NaN where one of the two does not vary in it."""
    found: Floats = np.einsum("ij,ij->i", x.ranks, y.ranks)
    return found


def pearson(x: Drawn, y: Drawn) -> Floats:
    """PLCC of each draw [repeats]; NaN where one of the two does not vary in it."""
    found: Floats = np.einsum("ij,ij->i", x.values, y.values)
    return found


def agreement(x: Column, y: Column, starts: Indices) -> Floats | None:
    """Concordant less discordant pairs of a row of one unit and a row of another [units, units].

    None where there are too many rows to take each with each.
    """
    if len(x.values) > _SQUARE:
        return None
    pairs = x.signs * y.signs
    rows = np.add.reduceat(pairs, starts, axis=0, dtype=np.int16)  # a unit has 1024 rows at most
    found: Floats = np.add.reduceat(rows, starts, axis=1, dtype=np.int32).astype(np.float64)
    return found


def kendall(x: Drawn, y: Drawn, starts: Indices, agreeing: Floats | None) -> Floats:
    """KRCC (tau-b) of each draw [repeats]; NaN where one of the two does not vary in it.

    ``agreeing`` is what :func:`agreement` gives of the two. A draw that has unit a w_a times has w' S w concordant less
    discordant pairs; copies of a row are ties, as they are in a bootstrap.
    """
    if agreeing is None:
        counts = x.times.astype(np.int64)
        return np.array([krcc(np.repeat(x.column.values, n), np.repeat(y.column.values, n)) for n in counts])
    weights = x.times[:, starts]
    both = ((weights @ agreeing) * weights).sum(axis=1)
    scale = np.sqrt(x.apart * y.apart)
    found: Floats = np.divide(both, scale, out=np.full(len(both), np.nan), where=scale > 0)
    return found
