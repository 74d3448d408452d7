"""All that a report says, as tables; no drawing, no HTML: the app shows the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from sensorium.jobs.machine_quality import analysis
from sensorium.jobs.machine_quality.report import worst
from sensorium.jobs.machine_quality.report.bd import bd_table
from sensorium.jobs.machine_quality.report.correlations import correlation_table
from sensorium.jobs.machine_quality.report.recommend import parse_condition, recommendation_table
from sensorium.jobs.machine_quality.report.rows import SweepRows, read
from sensorium.jobs.machine_quality.report.spread import cost_table, distribution_table

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog

__all__ = ["BUDGETS", "Content", "ReportSettings", "build", "compute"]

#: bits per pixel, where neither a condition nor a budget is asked for: strong, usual and mild compression
BUDGETS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class ReportSettings:
    """What a report is to say.

    Attributes:
        where: SQL that chooses among the rows; empty for all.
        keep: conditions, as :func:`.recommend.parse_condition` reads them.
        budgets: bits per pixel.
        worst: how many of the worst cases.
        worst_by: the number by which they are bad; empty for the first task's, else the first metric.
        repeats: of the bootstrap of BD-rates; that of correlations has a fifth as many.
        seed: of bootstraps and of the split into images chosen by and checked by.
    """

    where: str = ""
    keep: Sequence[str] = ()
    budgets: Sequence[float] = ()
    worst: int = 8
    worst_by: str = ""
    repeats: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Content:
    """What a report says.

    Attributes:
        rows: that it is about.
        settings: as they were given.
        tables: by name, as :func:`compute` makes them.
        cases: the worst ones.
        notes: what a reader has to know: what is missing and why.
    """

    rows: SweepRows
    settings: ReportSettings
    tables: dict[str, pl.DataFrame]
    cases: tuple[worst.Case, ...] = ()
    notes: tuple[str, ...] = ()


def build(catalog: Catalog, name: str, settings: ReportSettings) -> Content:
    """The report of the data set ``name``; see :func:`compute`. The worst cases are coded again, which takes its time.

    Raises:
        InvalidSetting, InvalidSample: settings or rows that cannot be used.
    """
    rows = read(catalog, name, settings.where)
    content = compute(rows, settings)
    if rows.cells.is_empty() or not rows.main or settings.worst < 1:
        return content
    number, found = worst.worst_cases(rows, settings.worst, settings.worst_by)
    cases = tuple(worst.shown(catalog, name, number, found))
    return Content(rows, settings, content.tables, cases, content.notes)


def compute(rows: SweepRows, settings: ReportSettings) -> Content:
    """Everything but pictures.

    Tables: ``curves`` (number, codec, quality, images, bits_per_pixel, value: mean curves of every number), ``bd_rates``,
    ``correlations``, ``distributions``, ``recommendations``, ``costs``, ``errors``.

    Raises:
        InvalidSetting: a condition that cannot be read.
    """
    conditions = [parse_condition(text, rows.numbers) for text in settings.keep]
    budgets = settings.budgets or (() if conditions else BUDGETS)
    tables = {
        "recommendations": recommendation_table(rows, conditions, budgets, seed=settings.seed),
        "curves": _curves(rows),
        "bd_rates": bd_table(rows, repeats=settings.repeats, seed=settings.seed),
        "correlations": correlation_table(rows, repeats=max(100, settings.repeats // 5), seed=settings.seed),
        "distributions": distribution_table(rows),
        "costs": cost_table(rows),
        "errors": rows.errors(),
    }
    return Content(rows, settings, tables, notes=tuple(_notes(rows)))


def _curves(rows: SweepRows) -> pl.DataFrame:
    schema = {
        "number": pl.String,
        "codec": pl.String,
        "quality": pl.Int64,
        "images": pl.Int64,
        "bits_per_pixel": pl.Float64,
        "value": pl.Float64,
    }
    parts = [
        analysis.mean_curves(rows.cells, number.column).select(
            pl.lit(number.column).alias("number"), pl.col("*").exclude(number.column), value=number.column
        )
        for number in rows.numbers
    ]
    typed = [part.select(pl.col(name).cast(kind) for name, kind in schema.items()) for part in parts]
    return pl.concat([pl.DataFrame(schema=schema), *typed])


def _notes(rows: SweepRows) -> list[str]:
    notes = []
    if rows.cells.is_empty():
        notes.append("Every cell failed: there is nothing to compare. See the errors.")
    if rows.failed.height:
        notes.append(f"{rows.failed.height} cells failed and are left out; they are counted below, by reason.")
    if len(rows.codecs) == 1:
        notes.append("There is one codec: nothing that it could be compared with, so no BD-rates and no distances.")
    images = rows.cells["source_id"].n_unique()
    if images == 1:
        notes.append("There is one source image: no intervals, and recommendations cannot be checked on another.")
    if not any(number.is_task for number in rows.numbers):
        notes.append(
            "No machine task was run in this sweep: metrics only, and no correlations. Add --tasks to the sweep."
        )
    for number in rows.numbers:
        absent = rows.cells[number.column].null_count()
        if number.main and absent:
            notes.append(f"{number.column}: {absent} of {rows.cells.height} cells have no value and do not count.")
    return notes
