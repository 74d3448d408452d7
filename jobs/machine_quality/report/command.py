"""``sensorium sweep report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sensorium.catalog.cli import open_catalog
from sensorium.platform.cli import state
from sensorium.platform.errors import InvalidSetting, StorageError
from sensorium.platform.tables import json_text, print_table

if TYPE_CHECKING:
    import polars as pl

    from sensorium.jobs.machine_quality.report.content import Content

__all__ = ["report", "write"]


def report(
    context: typer.Context,
    name: str = typer.Argument(metavar="NAME[@VERSION]", help="Data set with the rows of a sweep."),
    output: Path = typer.Option(
        ..., "--output", "-o", metavar="FOLDER", help="Folder for the report; made if need be."
    ),
    where: str = typer.Option("", metavar="SQL", help='Only rows for which this holds, such as "gop = 1".'),
    keep: list[str] = typer.Option(
        [],
        metavar="CONDITION",
        help="Recommend the cheapest setting with psnr_y>=38, or p90:delta_iou<=0.05; repeatable.",
    ),
    budget: list[float] = typer.Option(
        [], metavar="BPP", help="Recommend the best setting within so many bits per pixel; repeatable."
    ),
    worst: int = typer.Option(8, min=0, help="How many of the worst cases to show."),
    worst_by: str = typer.Option(
        "", metavar="NUMBER", help="What they are worst by; the first task or metric without."
    ),
    repeats: int = typer.Option(1000, min=100, help="Draws of the bootstrap."),
    seed: int = typer.Option(0, help="Of the bootstrap, and of the images that recommendations are checked on."),
) -> None:
    """Curves, BD-rates, correlations, worst cases and a recommendation: HTML, Parquet and PNG."""
    from sensorium.jobs.machine_quality.report.content import ReportSettings, build

    if any(bits <= 0 for bits in budget):
        raise InvalidSetting(f"--budget must be above 0 bits per pixel; got {min(budget)}.")
    settings = ReportSettings(where, tuple(keep), tuple(budget), worst, worst_by, repeats, seed)
    content = build(open_catalog(context), name, settings)
    page = write(content, output)
    if state(context).json:
        typer.echo(json_text(_summary(content, page)))
        return
    _tell(content, page)


def write(content: Content, folder: Path) -> Path:
    """Write ``report.html``, ``tables/NAME.parquet`` and ``figures/NAME.png``; returns the page.

    Raises:
        StorageError: the folder cannot be written.
    """
    from sensorium.jobs.machine_quality.report.figures import figures
    from sensorium.jobs.machine_quality.report.page import page

    drawn = figures(content)
    pictures = drawn | {f"worst-{number}": case.picture for number, case in enumerate(content.cases, 1) if case.picture}
    try:
        for part in ("tables", "figures"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for name, table in content.tables.items():
            table.write_parquet(folder / "tables" / f"{name}.parquet")
        for name, picture in pictures.items():
            (folder / "figures" / f"{name}.png").write_bytes(picture)
        target = folder / "report.html"
        target.write_text(page(content, drawn), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the report cannot be written into {str(folder)!r}: {error}. Choose another -o.") from error
    return target


def _summary(content: Content, page: Path) -> dict[str, Any]:
    """The report for programs."""
    return {
        "sweep": content.rows.name,
        "report": str(page),
        "cells": content.rows.cells.height,
        "failed": content.rows.failed.height,
        "notes": list(content.notes),
        **{name: table.to_dicts() for name, table in content.tables.items()},
        "worst": [
            {**{key: case.row[key] for key in ("id", "image_id", "codec", "quality") if key in case.row}}
            | {"number": case.number.column, "value": case.value, "shown": case.picture is not None, "note": case.note}
            for case in content.cases
        ],
    }


def _tell(content: Content, page: Path) -> None:
    rows = content.rows
    typer.echo(f"{rows.name}: {rows.cells.height} cells, {rows.failed.height} failed, codecs {', '.join(rows.codecs)}")
    for note in content.notes:
        typer.echo(f"note: {note}")
    table = content.tables["recommendations"]
    if table.height:
        print_table(_readable(table), as_json=False)
    if rows.main and len(rows.codecs) > 1:
        first = rows.main[0].column
        found = content.tables["bd_rates"].filter(number=first, reference=rows.codecs[0])
        print_table(found.select("number", "codec", "reference", "bd_rate", "low", "high", "reason"), as_json=False)
    typer.echo(f"report: {page}")


def _readable(table: pl.DataFrame) -> pl.DataFrame:
    """The best answer to each question; where there is none, what each codec says."""
    import polars as pl

    answered = pl.col("best").any().over("question")
    shown = table.filter(pl.col("best") | ~answered)
    return shown.select(
        "question", "codec", "quality", "rate", "score", "rate_checked", "score_checked", "holds", "remark"
    )
