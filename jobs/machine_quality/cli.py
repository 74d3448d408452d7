"""``sensorium sweep machine_quality``."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sensorium.catalog.cli import open_catalog
from sensorium.platform.cli import state
from sensorium.platform.tables import print_table

if TYPE_CHECKING:
    import polars as pl

    from sensorium.catalog.lake import Catalog
    from sensorium.jobs.machine_quality.config import SweepConfig
    from sensorium.jobs.machine_quality.sweep import SweepReport
    from sensorium.platform.settings import Settings

__all__ = ["readable", "save_figure", "show_report", "sweep", "sweep_on_ray"]


_LABELS = {
    "bits_per_pixel": "bits per pixel",
    "encode_ms_per_megapixel": "encoding, CPU ms a megapixel",
    "decode_ms_per_megapixel": "decoding, CPU ms a megapixel",
}


def sweep(
    context: typer.Context,
    data: str = typer.Option(..., metavar="NAME[@VERSION]", help="Data set of images."),
    into: str = typer.Option(..., metavar="NAME", help="Data set for the rows; a sweep goes on where it stopped."),
    codecs: str = typer.Option("jpeg,x264", metavar="LIST", help="Codecs, by comma."),
    qualities: str = typer.Option(
        "auto:8", metavar="GRID", help="auto:N per codec; 10,50,90 for all; or jpeg=10,50,90;x264=40,30."
    ),
    metrics: str = typer.Option("psnr,ssim", metavar="LIST", help="Metrics, by comma."),
    where: str = typer.Option("", metavar="SQL", help="Only images for which this holds."),
    field: str = typer.Option("image", metavar="NAME", help="The array field that holds the image."),
    block_seconds: float = typer.Option(5.0, help="Work per Ray block, in CPU seconds."),
    retry_errors: bool = typer.Option(False, "--retry-errors", help="Run cells again whose row is an error."),
) -> None:
    """Images × codecs × qualities: bytes, PSNR, SSIM; rows, table and rate–distortion figure."""
    from sensorium.jobs.machine_quality.config import SweepConfig, parse_qualities

    names = [name.strip() for name in codecs.split(",") if name.strip()]
    config = SweepConfig(
        data=data,
        into=into,
        qualities=parse_qualities(qualities, names),
        metrics=tuple(name.strip() for name in metrics.split(",") if name.strip()),
        where=where,
        field=field,
        block_seconds=block_seconds,
        retry_errors=retry_errors,
    )
    catalog = open_catalog(context)
    report = sweep_on_ray(catalog, config, state(context).settings)
    show_report(catalog, config, report, as_json=state(context).json)
    if report.errors:
        raise typer.Exit(1)


def sweep_on_ray(catalog: Catalog, config: SweepConfig, settings: Settings) -> SweepReport:
    """Run a sweep in a Ray session of its own; where nothing is missing, Ray is not even started."""
    from sensorium.jobs.machine_quality.sweep import plan_sweep, run_sweep
    from sensorium.platform.session import ray_session

    plan = plan_sweep(catalog, config)
    with ray_session(settings) if plan.missing.height else contextlib.nullcontext():
        return run_sweep(catalog, plan)


def show_report(catalog: Catalog, config: SweepConfig, report: SweepReport, *, as_json: bool) -> None:
    """Print what a sweep did and its table, and draw its figure into the lake."""
    from sensorium.jobs.machine_quality import analysis
    from sensorium.jobs.machine_quality.sweep import sweep_rows

    rows = sweep_rows(catalog, config)
    table = analysis.summary_table(rows)
    figure = save_figure(catalog, rows, report.into)
    if as_json:
        typer.echo(json.dumps({**vars(report), "figure": figure, "codecs": table.to_dicts()}))
        return
    typer.echo(
        f"{report.into}@{report.version}: {report.computed} cells computed, {report.present} were there already, "
        f"{report.errors} errors, {report.cpu_seconds:.1f} CPU s of coding and metrics; run {report.run}"
    )
    print_table(readable(table), as_json=False)
    typer.echo(f"figure: {figure}")


def readable(table: pl.DataFrame) -> pl.DataFrame:
    """The summary for people: a column per codec, since there are more measures than a terminal holds columns."""
    import polars as pl

    lines: dict[str, list[str]] = {}
    for name in table.columns:
        values = table[name].to_list()
        base = name.removesuffix("_min")
        if base != name:
            upper = table[f"{base}_max"].to_list()
            lines[_LABELS.get(base, base)] = [
                f"{low:.3g} – {high:.3g}" for low, high in zip(values, upper, strict=True)
            ]
        elif name.startswith("bd_rate_"):
            metric = name.removeprefix("bd_rate_")
            lines[f"BD-rate by {metric}, %"] = ["" if value is None else f"{value:.1f}" for value in values]
        elif name != "codec" and not name.endswith("_max"):
            lines[_LABELS.get(name, name)] = ["" if value is None else f"{value:.4g}" for value in values]
    columns = {codec: [line[index] for line in lines.values()] for index, codec in enumerate(table["codec"])}
    return pl.DataFrame({"": list(lines), **columns})


def save_figure(catalog: Catalog, rows: pl.DataFrame, name: str) -> str:
    """Draw the rate–distortion figure of ``rows`` into the lake's folder of reports; returns where it is."""
    from sensorium.jobs.machine_quality import analysis

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / f"{name}.png"
        analysis.plot(rows, picture)
        catalog.storage.write(picture.read_bytes(), "reports", picture.name)
    return catalog.storage.at_path("reports", f"{name}.png")
