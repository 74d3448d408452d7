"""What a sweep would cost, before it is run."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import polars as pl

from sensorium.jobs.machine_quality.cells import Measures
from sensorium.jobs.machine_quality.plan import Costs, SweepPlan, measured_costs
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    from sensorium.jobs.machine_quality.config import SweepConfig
    from sensorium.platform.settings import Settings

__all__ = ["assumed", "cost_table", "cost_text", "parse_assumption"]

#: bytes of a row of a sweep in Parquet, seen on tables of some thousand rows; metrics add 8 each
_ROW_BYTES = 160
_METRIC_BYTES = 8


def parse_assumption(text: str) -> tuple[int, int, int]:
    """Number of images, width and height out of ``3125x640x480``.

    Raises:
        InvalidSetting: it reads differently.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip())
    if match is None or not all(int(part) for part in match.groups()):
        raise InvalidSetting(f"--assume {text!r}: IMAGESxWIDTHxHEIGHT is expected, such as 3125x640x480.")
    images, width, height = (int(part) for part in match.groups())
    return images, width, height


def cost_table(plan: SweepPlan) -> pl.DataFrame:
    """Per codec: missing cells, CPU seconds, and where the estimate comes from."""
    priced = plan.priced().group_by("codec").agg(pl.len().alias("cells"), pl.col("cost").sum().alias("cpu_s"))
    return _sourced(priced, plan.costs)


def assumed(config: SweepConfig, images: int, width: int, height: int) -> pl.DataFrame:
    """The same of images that nobody has yet, all of one size."""
    measures = Measures.open(config.metrics, config.tasks)
    costs = measured_costs(None, config, measures)
    area = images * width * height / 1e6
    rows = [
        {"codec": name, "cells": images * len(values), "cpu_s": area * len(values) * costs.of(name)}
        for name, values in config.qualities.items()
    ]
    return _sourced(pl.DataFrame(rows), costs)


def _sourced(table: pl.DataFrame, costs: Costs) -> pl.DataFrame:
    learned = pl.col("codec").is_in(list(costs.learned))
    source = pl.when(learned).then(pl.lit("rows that are there")).otherwise(pl.lit("first guess"))
    return table.with_columns(estimate=source).sort("cpu_s", descending=True)


def cost_text(table: pl.DataFrame, config: SweepConfig, settings: Settings) -> str:
    """The estimate in a sentence."""
    cells, seconds = int(table["cells"].sum()), float(table["cpu_s"].sum())
    cores = settings.cpus or len(os.sched_getaffinity(0))
    size = cells * (_ROW_BYTES + _METRIC_BYTES * len(config.metrics)) / 1e6
    return (
        f"{cells} cells to run: about {_duration(seconds)} of CPU, {_duration(seconds / cores)} on {cores} cores; "
        f"about {size:.1f} MB of rows"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
