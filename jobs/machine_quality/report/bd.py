"""BD-rates of every codec against every other, by every metric and task, with bootstrap intervals over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sensorium.jobs.machine_quality.report.bjontegaard import Hulls, bd_rate, bd_rate_many, hulls
from sensorium.jobs.machine_quality.report.numbers import Number
from sensorium.jobs.machine_quality.report.resampling import interval, rates, weights
from sensorium.jobs.machine_quality.report.rows import SweepRows

__all__ = ["bd_table"]

Floats = npt.NDArray[np.float64]

_SCHEMA = {
    "number": pl.String,
    "reference": pl.String,
    "codec": pl.String,
    "bd_rate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "images": pl.Int64,
    "overlap": pl.Float64,
    "curve": pl.String,
    "reason": pl.String,
}


@dataclass(frozen=True)
class _Grid:
    """The points of one codec: rate and value [images, qualities], NaN where a cell is missing; value times its sign."""

    rate: Floats
    value: Floats

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Images [images] that have all qualities."""
        found: npt.NDArray[np.bool_] = np.all(np.isfinite(self.rate) & np.isfinite(self.value), axis=1)
        return found


def bd_table(rows: SweepRows, *, repeats: int = 1000, seed: int = 0, min_overlap: float = 0.5) -> pl.DataFrame:
    """A row for each number and ordered pair of codecs.

    ================  ===================================================================================================
    ``number``        column of the metric or of the task's main number
    ``bd_rate``       percent of rate that ``codec`` needs more than ``reference``; null where it cannot be told
    ``low, high``     its 95 % interval, by bootstrap over source images; null with a single image
    ``images``        that it rests on
    ``overlap``       part of the shorter curve's range that both cover, 0 to 1; the mean where there are many curves
    ``curve``         ``images``: mean of the BD-rates of single images, for metrics; ``mean``: of the mean curves over
                      images that both codecs have at all qualities, for tasks, whose curve of one image is a few steps
    ``reason``        why there is none, or why images are left out; else null
    ================  ===================================================================================================
    """
    images = sorted(rows.cells["image_id"].unique())
    sources = _sources(rows.cells, images)
    drawn = weights(int(sources.max(initial=-1)) + 1, repeats, seed) if images else np.empty((0, 0))
    found: list[dict[str, Any]] = []
    for number in rows.main:
        grids = _grids(rows.cells, number, images)
        shapes = {codec: hulls(grid.rate, grid.value) for codec, grid in grids.items()}
        for reference in grids:
            for codec in grids:
                if reference == codec:
                    continue
                if number.is_task:
                    line = _of_means(grids[reference], grids[codec], sources, drawn, min_overlap)
                else:
                    line = _of_images(shapes[reference], shapes[codec], sources, drawn, min_overlap)
                found.append({"number": number.column, "reference": reference, "codec": codec, **line})
    return pl.DataFrame(found, schema=_SCHEMA)


def _sources(cells: pl.DataFrame, images: list[str]) -> npt.NDArray[np.int64]:
    """Number of the source image of each of ``images``."""
    source = dict(cells.select("image_id", "source_id").unique().iter_rows())
    return np.unique([source[image] for image in images], return_inverse=True)[1]


def _grids(cells: pl.DataFrame, number: Number, images: list[str]) -> Mapping[str, _Grid]:
    place = {image: index for index, image in enumerate(images)}
    grids = {}
    for (codec,), part in cells.sort("codec").group_by("codec", maintain_order=True):
        qualities, column = np.unique(part["quality"].to_numpy(), return_inverse=True)
        line = np.array([place[image] for image in part["image_id"]])
        rate, value = (np.full((len(images), len(qualities)), np.nan) for _ in range(2))
        rate[line, column] = part["bits_per_pixel"].cast(pl.Float64).to_numpy()
        value[line, column] = number.sign * part[number.column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        grids[str(codec)] = _Grid(rate, value)
    return grids


def _of_images(
    reference: Hulls, test: Hulls, sources: npt.NDArray[np.int64], drawn: Floats, min_overlap: float
) -> dict[str, Any]:
    percent, overlap = bd_rate_many(reference, test, min_overlap=min_overlap)
    told = np.isfinite(percent)
    units = len(np.unique(sources[told]))
    low, high = interval(rates(drawn, percent, sources), units)
    return {
        "bd_rate": float(percent[told].mean()) if told.any() else None,
        "low": low,
        "high": high,
        "images": int(told.sum()),
        "overlap": float(overlap.mean()),
        "curve": "images",
        "reason": _reason(reference, test, told, min_overlap),
    }


def _reason(reference: Hulls, test: Hulls, told: npt.NDArray[np.bool_], min_overlap: float) -> str | None:
    """Why images are left out: that of the first, since they are many, and how many."""
    lost = np.flatnonzero(~told)
    if not len(lost):
        return None
    curves = [
        (np.exp(hull.log_rate[lost[0], :count]), hull.quality[lost[0], :count])
        for hull in (reference, test)
        for count in [int(hull.counts[lost[0]])]
    ]
    reason = bd_rate(curves[0], curves[1], min_overlap=min_overlap).reason
    return f"{len(lost)} of {len(told)} images cannot be compared; the first: {reason}"


def _of_means(
    reference: _Grid, test: _Grid, sources: npt.NDArray[np.int64], drawn: Floats, min_overlap: float
) -> dict[str, Any]:
    whole = reference.whole & test.whole
    line: dict[str, Any] = {
        "bd_rate": None,
        "low": None,
        "high": None,
        "images": int(whole.sum()),
        "overlap": None,
        "curve": "mean",
    }
    if not whole.any():
        return {**line, "reason": "no image has a value at all qualities of both codecs"}
    members = sources[whole]
    every = np.ones((1, drawn.shape[1]))
    parts = [_mean_hulls(grid, whole, members, every) for grid in (reference, test)]
    result = bd_rate(*(_points(hull) for hull in parts), min_overlap=min_overlap)
    line["overlap"] = result.overlap
    if result.reason is not None:
        return {**line, "reason": f"mean curves: {result.reason}"}
    parts = [_mean_hulls(grid, whole, members, drawn) for grid in (reference, test)]
    low, high = interval(bd_rate_many(*parts, min_overlap=min_overlap)[0], len(np.unique(members)))
    return {**line, "bd_rate": result.percent, "low": low, "high": high, "reason": None}


def _points(hull: Hulls) -> tuple[Floats, Floats]:
    count = int(hull.counts[0])
    return np.exp(hull.log_rate[0, :count]), hull.quality[0, :count]


def _mean_hulls(grid: _Grid, whole: npt.NDArray[np.bool_], members: npt.NDArray[np.int64], drawn: Floats) -> Hulls:
    """Mean curves of each draw; draws that have none of the images are lines of NaN."""
    times = drawn[:, members]
    total = times.sum(axis=1, keepdims=True)
    share = np.divide(times, total, out=np.full_like(times, np.nan), where=total > 0)
    return hulls(share @ grid.rate[whole], share @ grid.value[whole])
