"""Distributions of metrics by codec, and costs by codec: are the codecs compared over the same range, and for what price?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import polars as pl

from sensorium.jobs.machine_quality.report.rows import SweepRows

__all__ = ["cost_table", "distance", "distribution_table"]

_STEPS = ("encode", "decode", "metric", "task")


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Kolmogorov and Smirnov's: the greatest difference of two cumulative distributions, 0 to 1."""
    points = np.concatenate([one, other])
    below = (np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (one, other))
    return float(np.max(np.abs(next(below) - next(below))))


def distribution_table(rows: SweepRows) -> pl.DataFrame:
    """Of each main number the two codecs whose distributions over all cells differ most.

    ``number, codec, other, distance`` (:func:`distance`). Empty with a single codec.
    """
    found = []
    for number in rows.main:
        values = {
            str(codec): part[number.column].drop_nulls().to_numpy()
            for (codec,), part in rows.cells.sort("codec").group_by("codec", maintain_order=True)
        }
        pairs = itertools.combinations([codec for codec, held in values.items() if len(held)], 2)
        apart = [(distance(values[one], values[other]), one, other) for one, other in pairs]
        if apart:
            greatest, one, other = max(apart)
            found.append((number.column, one, other, greatest))
    schema = {"number": pl.String, "codec": pl.String, "other": pl.String, "distance": pl.Float64}
    return pl.DataFrame(found, schema=schema, orient="row")


def cost_table(rows: SweepRows) -> pl.DataFrame:
    """What each codec cost.

    ``codec, cells, megapixels`` (of all frames), ``encode_ms``, ``decode_ms``, ``metric_ms``, ``task_ms`` (CPU
    milliseconds a megapixel), ``cpu_s`` (all of it), ``cells_per_cpu_s``.
    """
    cells = rows.cells.with_columns(pixels=_pixels(rows.cells.columns))
    spent = [f"{step}_cpu_s" for step in _STEPS if f"{step}_cpu_s" in cells.columns]
    grouped = cells.group_by("codec").agg(
        pl.len().alias("cells"), megapixels=pl.col("pixels").sum() / 1e6, **{name: pl.col(name).sum() for name in spent}
    )
    total = pl.sum_horizontal(spent)
    return grouped.select(
        "codec",
        "cells",
        "megapixels",
        *((1e3 * pl.col(name) / pl.col("megapixels")).alias(name.replace("_cpu_s", "_ms")) for name in spent),
        cpu_s=total,
        cells_per_cpu_s=pl.when(total > 0).then(pl.col("cells") / total),
    ).sort("codec")


def _pixels(columns: Sequence[str]) -> pl.Expr:
    area = pl.col("height") * pl.col("width")
    return area * pl.col("frames").clip(lower_bound=1) if "frames" in columns else area
