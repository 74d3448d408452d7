"""How well each metric predicts each number of a task: SRCC, PLCC and KRCC with bootstrap intervals over source images.

Per object where a task has objects of its own rows, else per cell; for each codec and overall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sensorium.jobs.machine_quality.correlations import (
    FEWEST,
    Drawn,
    agreement,
    column,
    drawn,
    kendall,
    krcc,
    pearson,
    spearman,
)
from sensorium.jobs.machine_quality.report.numbers import Number
from sensorium.jobs.machine_quality.report.resampling import interval, weights
from sensorium.jobs.machine_quality.report.rows import SweepRows

__all__ = ["ALL", "INTERVAL_ROWS", "correlation_table"]

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: in the column ``codec``: all codecs together
ALL = "all"
#: rows that intervals are computed from at most, evenly drawn: the cost of Kendall's grows with their square
INTERVAL_ROWS = 1000
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
    metrics = [number.column for number in rows.numbers if not number.is_task]
    tasks = [number for number in rows.numbers if number.is_task]
    found = []
    for per, frame, numbers in _frames(rows, tasks):
        for codec in (ALL, *(rows.codecs if len(rows.codecs) > 1 else ())):
            part = _Part(frame if codec == ALL else frame.filter(codec=codec), repeats, seed)
            found += [
                {"number": number, "metric": metric, "codec": codec, "per": per, **part.line(metric, number)}
                for number in numbers
                for metric in metrics
            ]
    place = {number.column: index for index, number in enumerate(tasks)}
    return pl.DataFrame(sorted(found, key=lambda line: place[line["number"]]), schema=_SCHEMA)


def _frames(rows: SweepRows, tasks: Sequence[Number]) -> Iterator[tuple[str, pl.DataFrame, list[str]]]:
    """``object`` or ``cell``, the rows of it, and the numbers of tasks to take from them."""
    own: dict[str, list[str]] = {}
    cells = []
    for number in tasks:
        schema = rows.objects[number.owner].schema if number.owner in rows.objects else {}
        if number.column in schema and schema[number.column].is_numeric():
            own.setdefault(number.owner, []).append(number.column)
        else:
            cells.append(number.column)
    yield from (("object", rows.objects[task], columns) for task, columns in own.items())
    if cells:
        yield "cell", rows.cells, cells


class _Part:
    """The rows of a codec, or of all codecs.

    Metrics and numbers of tasks are mostly there in the same rows: what such pairs share is made once.
    """

    def __init__(self, frame: pl.DataFrame, repeats: int, seed: int) -> None:
        self._frame = frame
        self._repeats, self._seed = repeats, seed
        self._images = frame["source_id"].cast(pl.String).rank("dense").to_numpy().astype(np.int64)
        self._values: dict[str, Floats] = {}
        self._samples: dict[bytes, _Sample] = {}

    def line(self, metric: str, number: str) -> dict[str, Any]:
        """What the table says of two columns, without their names."""
        x, y = self._column(metric), self._column(number)
        both = ~(np.isnan(x) | np.isnan(y))
        images = np.count_nonzero(np.bincount(self._images[both]))
        line: dict[str, Any] = {"rows": int(both.sum()), "images": images, "reason": None}
        line |= {f"{name}{end}": None for name in _COEFFICIENTS for end in ("", "_low", "_high")}
        if line["rows"] < FEWEST:
            return {**line, "reason": f"{line['rows']} rows have both; at least {FEWEST} are needed"}
        for name, values in ((metric, x), (number, y)):
            if np.ptp(values[both]) == 0:
                return {**line, "reason": f"{name} is the same everywhere"}
        key = both.tobytes()
        if key not in self._samples:
            self._samples[key] = _Sample(both, self._images[both], self._repeats, self._seed)
        return {**line, **self._samples[key].correlated((metric, x), (number, y))}

    def _column(self, name: str) -> Floats:
        if name not in self._values:
            self._values[name] = self._frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return self._values[name]


class _Sample:
    """The rows that have both of two columns; a column is ranked once, in all of them and in all draws.

    Args:
        here: [all rows], which ones they are.
        images: [rows], the source image of each.
        repeats: draws of the bootstrap.
        seed: of the draws, and of the rows that intervals are computed from.
    """

    def __init__(self, here: npt.NDArray[np.bool_], images: Indices, repeats: int, seed: int) -> None:
        self._here = here
        names, members = np.unique(images, return_inverse=True)
        self._count = len(names)
        chosen = np.arange(len(members))
        if len(chosen) > INTERVAL_ROWS:
            chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), INTERVAL_ROWS, replace=False))
        self._chosen = chosen[np.argsort(members[chosen], kind="stable")]  # the rows of an image together
        owners = members[self._chosen]
        self._starts = np.unique(owners, return_index=True)[1]
        self._times = weights(len(names), repeats, seed)[:, owners]
        self._whole: dict[str, Drawn] = {}
        self._drawn: dict[str, Drawn] = {}

    def correlated(self, *columns: tuple[str, Floats]) -> dict[str, float | None]:
        """The coefficients of two columns, given as (name, values [all rows]), and the ends of their intervals."""
        columns = tuple((name, values[self._here]) for name, values in columns)
        x, y = (self._as_it_is(*one) for one in columns)
        line: dict[str, float | None] = {"srcc": float(spearman(x, y)[0]), "plcc": float(pearson(x, y)[0])}
        line["krcc"] = krcc(x.column.values, y.column.values)
        if self._count < 2:
            return line
        first, second = (self._in_draws(*one) for one in columns)
        agreeing = agreement(first.column, second.column, self._starts)
        draws = {
            "srcc": spearman(first, second),
            "plcc": pearson(first, second),
            "krcc": kendall(first, second, self._starts, agreeing),
        }
        for name, values in draws.items():
            line[f"{name}_low"], line[f"{name}_high"] = interval(values, self._count)
        return line

    def _as_it_is(self, name: str, values: Floats) -> Drawn:
        """All rows, each once."""
        if name not in self._whole:
            self._whole[name] = drawn(column(values), np.ones((1, len(values))))
        return self._whole[name]

    def _in_draws(self, name: str, values: Floats) -> Drawn:
        if name not in self._drawn:
            self._drawn[name] = drawn(column(values[self._chosen]), self._times)
        return self._drawn[name]
