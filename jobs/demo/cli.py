"""``sensorium demo``: the main job, on any machine, without a network or a GPU."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

import typer

from sensorium.platform.cli import main, state
from sensorium.platform.tables import print_table

if TYPE_CHECKING:
    from sensorium.jobs.training.fit import FitReport

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="Build a lake of real photographs and small data sets, and sweep it.")


@app.command()
def demo(
    context: typer.Context,
    serve: bool = typer.Option(True, "--serve/--no-serve", help="Serve the application afterwards, until Ctrl-C."),
    port: int = typer.Option(8000, help="Of the application; 0 takes one that is free."),
) -> None:
    """Build the lake, sweep its photographs through codecs, say where everything is, and serve it."""
    from sensorium.catalog.cli import open_catalog
    from sensorium.jobs.demo import steps
    from sensorium.jobs.machine_quality import analysis
    from sensorium.jobs.machine_quality.cli import readable
    from sensorium.jobs.machine_quality.sweep import sweep_rows

    started = time.monotonic()
    catalog = open_catalog(context)
    typer.echo(f"1/4 filling {catalog.storage.url}")
    for name, (added, skipped, seconds) in steps.build_lake(catalog).items():
        label = f"{name} (simulated)" if steps.DATASETS[name].simulated else name
        typer.echo(f"    {label}: {added} samples added, {skipped} there already ({seconds:.1f} s)")
    config = steps.sweep_config()
    typer.echo(f"2/4 sweeping photographs through {', '.join(config.qualities)} on Ray")
    report, figure = steps.sweep_photographs(catalog, state(context).settings)
    typer.echo(f"    {report.computed} cells computed, {report.present} there already, {report.errors} errors")
    typer.echo("3/4 fitting two small systems, on simulated data")
    for chosen in steps.FITS:
        _tell_fit(chosen.system, steps.fit_small(catalog, state(context).settings, chosen))
    typer.echo("4/4 drawing contact sheets")
    sheets = steps.draw_sheets(catalog)
    typer.echo()
    print_table(catalog.datasets().select("name", "modality", "samples", "bytes", "version"), as_json=False)
    typer.echo()
    print_table(readable(analysis.summary_table(sweep_rows(catalog, config), reference="jpeg")), as_json=False)
    typer.echo(f"\nDone in {time.monotonic() - started:.0f} s. Everything is in {catalog.storage.root}:")
    typer.echo(f"  rate–distortion figure  {figure}")
    for place in sheets:
        typer.echo(f"  contact sheet           {place}")
    typer.echo("Go on with:")
    program = "sensorium" if shutil.which("sensorium") else os.path.relpath(sys.argv[0])
    lake = f"--lake {catalog.storage.url} " if catalog.storage.url != "./lake" else ""
    typer.echo(f"  {program} {lake}catalog show photographs")
    typer.echo(f"  {program} {lake}catalog show {steps.SWEEP}")
    typer.echo(f"  {program} {lake}models list")
    if report.errors:
        raise typer.Exit(1)
    if serve:
        typer.echo()
        # through the command line: what serves is a floor above, and may not be installed
        main(["--lake", catalog.storage.url, "serve", "--port", str(port)])


def _tell_fit(system: str, report: FitReport | None) -> None:
    """What a fit of the demo came to."""
    if report is None:
        typer.echo(f"    {system}: its model is there already")
        return
    name, figure = next(iter(report.figures.items()))
    typer.echo(
        f"    {report.model.reference}: {report.outcome.steps} steps in {report.outcome.seconds:.1f} s; {name} {figure} on the "
        f"test part of simulated data; run {report.run}"
    )
