"""``sensorium sweep machine_quality``."""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sensorium.catalog.cli import open_catalog
from sensorium.platform.cli import state
from sensorium.platform.errors import InvalidSetting
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
    data: str = typer.Option("", metavar="NAME[@VERSION]", help="Data set of images, videos or cubes."),
    into: str = typer.Option("", metavar="NAME", help="Data set for the rows; a sweep goes on where it stopped."),
    codecs: str = typer.Option("jpeg,x264", metavar="LIST", help="Codecs, by comma; all for every one installed."),
    qualities: str = typer.Option(
        "auto:8", metavar="GRID", help="auto:N per codec; 10,50,90 for all; or jpeg=10,50,90;x264=40,30."
    ),
    match: str = typer.Option(
        "", metavar="METRIC", help="Choose the N qualities so that this metric's distributions agree, such as psnr."
    ),
    metrics: str = typer.Option("psnr,ssim", metavar="LIST", help="Metrics, by comma; all for every one installed."),
    tasks: str = typer.Option("", metavar="LIST", help="Machine tasks, by comma: NAME or NAME=ARGUMENT."),
    where: str = typer.Option("", metavar="SQL", help="Only samples for which this holds."),
    field: str = typer.Option("", metavar="NAME", help="The array field that is coded; the modality's own without."),
    gop: str = typer.Option("", metavar="LIST", help="Video, cubes: a key frame every so many frames; 1 is intra."),
    frames: str = typer.Option("", metavar="FIRST:END", help="Video, cubes: this range of frames or bands."),
    tile: int = typer.Option(0, min=0, help="Cut pictures into tiles of so many pixels a side."),
    block_seconds: float = typer.Option(5.0, help="Work per block, in CPU seconds."),
    cell_seconds: float = typer.Option(600.0, help="A cell that takes longer is given up."),
    retry_errors: bool = typer.Option(False, "--retry-errors", help="Run cells again whose row is an error."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be run and what it would cost."),
    assume: str = typer.Option(
        "", metavar="IMAGESxWIDTHxHEIGHT", help="With --dry-run, instead of --data: images that you do not have yet."
    ),
) -> None:
    """Pictures × codecs × qualities: bytes, metrics, task scores; rows, table and rate–distortion figure."""
    from sensorium.jobs import codecs as coding
    from sensorium.jobs import image_metrics
    from sensorium.jobs.machine_quality.config import SweepConfig, parse_frames, parse_gops, parse_qualities
    from sensorium.platform import plugins

    if not data and not assume:
        raise InvalidSetting("--data NAME says what to sweep over. See: sensorium catalog list.")
    if not into and not dry_run:
        raise InvalidSetting("--into NAME says where the rows go.")
    if assume and not dry_run:
        raise InvalidSetting("--assume is for --dry-run: there is nothing that could be coded.")
    names = plugins.names(coding.GROUP) if codecs == "all" else _list(codecs)
    chosen = plugins.names(image_metrics.GROUP) if metrics == "all" else _list(metrics)
    catalog, settings = open_catalog(context), state(context).settings
    config = SweepConfig(
        data=data,
        into=into,
        qualities=parse_qualities(qualities, names),
        metrics=tuple(chosen),
        tasks=tuple(_list(tasks)),
        where=where,
        field=field,
        gops=parse_gops(gop),
        frames=parse_frames(frames),
        tile=tile,
        block_seconds=block_seconds,
        cell_seconds=cell_seconds,
        retry_errors=retry_errors,
    )
    if match and not assume:
        config = _matched(catalog, config, match, settings)
    if dry_run:
        _tell_cost(catalog, config, assume, settings, as_json=state(context).json)
        return
    report = sweep_on_ray(catalog, config, settings)
    show_report(catalog, config, report, as_json=state(context).json)
    if report.errors:
        raise typer.Exit(1)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _matched(catalog: Catalog, config: SweepConfig, metric: str, settings: Settings) -> SweepConfig:
    """``config`` with qualities at which the codecs are equally good; the figure goes into the lake."""
    from sensorium.jobs.machine_quality import balance
    from sensorium.jobs.machine_quality.cells import Measures
    from sensorium.jobs.machine_quality.plan import subjects
    from sensorium.platform.session import ray_session

    dataset = catalog.dataset(config.data)
    found = subjects(dataset, config, Measures(()))
    count = max(len(values) for values in config.qualities.values())
    with ray_session(settings):
        chosen = balance.balanced(dataset.storage, found, list(config.qualities), count, metric)
    picture = f"{config.into or dataset.name}-balance-{balance.name_of(chosen.qualities)}.png"
    catalog.storage.write(balance.draw(chosen), "reports", picture)
    for miss in chosen.misses():
        typer.echo(f"note: {miss}", err=True)
    typer.echo(
        f"balanced by {metric} on {chosen.values['image'].n_unique()} pictures, greatest distance of two distributions "
        f"{chosen.imbalance:.2f}; figure: {catalog.storage.at_path('reports', picture)}\n--qualities "
        + ";".join(f"{name}={','.join(map(str, values))}" for name, values in chosen.qualities.items()),
        err=True,
    )
    return replace(config, qualities=chosen.qualities)


def _tell_cost(catalog: Catalog, config: SweepConfig, assume: str, settings: Settings, *, as_json: bool) -> None:
    from sensorium.jobs.machine_quality import estimate
    from sensorium.jobs.machine_quality.plan import plan_sweep

    if assume:
        table = estimate.assumed(config, *estimate.parse_assumption(assume))
    else:
        table = estimate.cost_table(plan_sweep(catalog, config))
    print_table(table, as_json=as_json, empty="every cell has its row: there is nothing to do")
    if not as_json and table.height:
        typer.echo(estimate.cost_text(table, config, settings))


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
    if report.quarantined:
        typer.echo(
            f"{report.quarantined} cells are in quarantine: their worker died each time; see their column 'error'"
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
