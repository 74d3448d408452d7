"""How well each metric predicts each number of a task: SRCC, PLCC and KRCC with bootstrap intervals over source images.

Per object where a task has objects of its own rows, else per cell; for each codec and overall.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sensorium.jobs.machine_quality.report.numbers import Number
from sensorium.jobs.machine_quality.report.resampling import interval, weights
from sensorium.jobs.machine_quality.report.rows import SweepRows
from sensorium.platform.optional import require

__all__ = ["ALL", "INTERVAL_ROWS", "correlation_table"]

Floats = npt.NDArray[np.float64]

#: in the column ``codec``: all codecs together
ALL = "all"
#: rows that intervals are computed from at most, evenly drawn: the cost of Kendall's grows with their square
INTERVAL_ROWS = 1000
#: fewer pairs say nothing
_FEWEST = 3
_COEFFICIENTS = ("srcc", "plcc", "krcc")
_SCHEMA = {
    "number": pl.String,
    "metric": pl.String,
    "codec": pl.String,
    "per": pl.String,
    "rows": pl.Int64,
    "images": pl.Int64,
    **{f"{name}{end}": pl.Float64 for name in _COEFFICIENTS for end in ("", "_low", "_high")},
    "reason": pl.String,
}


def correlation_table(rows: SweepRows, *, repeats: int = 200, seed: int = 0) -> pl.DataFrame:
    """A row for each number of a task, metric and codec (:data:`ALL` for all together).

    ``number, metric, codec, per`` (``object`` or ``cell``), ``rows`` and ``images`` that have both; ``srcc, plcc, krcc``
    (Spearman, Pearson, Kendall's tau-b) with ``_low`` and ``_high`` of their 95 % intervals, null with a single image;
    ``reason`` why they are null. Empty where the sweep had no tasks.
    """
    metrics = [number for number in rows.numbers if not number.is_task]
    found = [
        {"number": number.column, "metric": metric.column, "codec": codec, "per": per, **line}
        for number in rows.numbers
        if number.is_task
        for per, codec, part in _parts(rows, number)
        for metric in metrics
        for line in [_correlated(part, metric.column, number.column, repeats, seed)]
    ]
    return pl.DataFrame(found, schema=_SCHEMA)


def _parts(rows: SweepRows, number: Number) -> Iterator[tuple[str, str, pl.DataFrame]]:
    objects = rows.objects.get(number.owner)
    own = objects is not None and number.column in objects.columns and objects.schema[number.column].is_numeric()
    frame = objects if own and objects is not None else rows.cells
    per = "object" if own else "cell"
    yield per, ALL, frame
    if len(rows.codecs) > 1:
        for codec in rows.codecs:
            yield per, codec, frame.filter(codec=codec)


def _correlated(frame: pl.DataFrame, metric: str, number: str, repeats: int, seed: int) -> dict[str, Any]:
    pairs = frame.select("source_id", pl.col(metric, number).cast(pl.Float64)).drop_nulls().drop_nans()
    x, y = pairs[metric].to_numpy(), pairs[number].to_numpy()
    images, members = np.unique(pairs["source_id"].to_numpy().astype(str), return_inverse=True)
    line: dict[str, Any] = dict.fromkeys(_SCHEMA) | {"rows": len(x), "images": len(images)}
    for key in ("number", "metric", "codec", "per"):
        line.pop(key)
    if len(x) < _FEWEST:
        return {**line, "reason": f"{len(x)} rows have both; at least {_FEWEST} are needed"}
    for name, values in ((metric, x), (number, y)):
        if np.ptp(values) == 0:
            return {**line, "reason": f"{name} is the same everywhere"}
    stats = require("scipy", "correlate metrics with tasks").stats
    line |= {
        "srcc": float(stats.spearmanr(x, y).statistic),
        "plcc": float(stats.pearsonr(x, y).statistic),
        "krcc": float(stats.kendalltau(x, y).statistic),
    }
    if len(images) < 2:
        return line
    if len(x) > INTERVAL_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(x), INTERVAL_ROWS, replace=False))
        x, y, members = x[chosen], y[chosen], members[chosen]
    drawn = weights(len(images), repeats, seed)
    times = drawn[:, members]
    draws = {
        "srcc": _weighted_pearson(_weighted_ranks(x, times), _weighted_ranks(y, times), times),
        "plcc": _weighted_pearson(np.broadcast_to(x, times.shape), np.broadcast_to(y, times.shape), times),
        "krcc": _drawn_kendall(x, y, members, drawn),
    }
    for name, values in draws.items():
        line[f"{name}_low"], line[f"{name}_high"] = interval(values, len(images))
    return line


def _weighted_ranks(values: Floats, times: Floats) -> Floats:
    """Mid-ranks [repeats, rows] of ``values`` [rows] of which each stands there ``times`` [repeats, rows] times."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    step = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    held = np.add.reduceat(times[:, order], step, axis=1)  # of each distinct value
    middle = np.cumsum(held, axis=1) - held / 2
    ranks = np.empty_like(times)
    ranks[:, order] = np.repeat(middle, np.diff(np.r_[step, len(values)]), axis=1)
    return ranks


def _weighted_pearson(x: Floats, y: Floats, times: Floats) -> Floats:
    """Pearson's coefficient of each draw [repeats]; NaN where one of the two is constant."""
    total = times.sum(axis=1, keepdims=True)
    total = np.where(total > 0, total, np.nan)
    x = x - (times * x).sum(axis=1, keepdims=True) / total
    y = y - (times * y).sum(axis=1, keepdims=True) / total
    both, one, other = ((times * a * b).sum(axis=1) for a, b in ((x, y), (x, x), (y, y)))
    scale = np.sqrt(one * other)
    found: Floats = np.divide(both, scale, out=np.full(len(times), np.nan), where=scale > 0)
    return found


def _drawn_kendall(x: Floats, y: Floats, members: npt.NDArray[np.int64], drawn: Floats) -> Floats:
    """Kendall's tau-b of each draw [repeats].

    Concordant less discordant pairs between two images are a number for each pair of images, S [images, images]; a draw
    that has image a w_a times has w' S w of them. Copies of one row are ties, as they are in a bootstrap.
    """
    order = np.argsort(members, kind="stable")
    x, y, members = x[order], y[order], members[order]
    starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]])
    above, right = (np.sign(values[:, None] - values[None, :]).astype(np.float32) for values in (x, y))
    agreeing, apart_x, apart_y = (
        np.add.reduceat(np.add.reduceat(pairs, starts, axis=0), starts, axis=1).astype(np.float64)
        for pairs in (above * right, above * above, right * right)
    )
    times = drawn[:, members[starts]]
    both, one, other = (((times @ sums) * times).sum(axis=1) for sums in (agreeing, apart_x, apart_y))
    scale = np.sqrt(one * other)
    found: Floats = np.divide(both, scale, out=np.full(len(drawn), np.nan), where=scale > 0)
    return found
