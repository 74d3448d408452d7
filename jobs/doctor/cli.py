"""``sensorium doctor``."""

from __future__ import annotations

import typer

from sensorium.platform.cli import state
from sensorium.platform.tables import json_text, print_rows

__all__ = ["app"]

app = typer.Typer(add_completion=False, help="Say what this machine can do, and what is missing for which feature.")


@app.command()
def doctor(context: typer.Context) -> None:
    """Check Python, packages, Ray, the lake, codecs, accelerators and caches; exit with 1 if something fails.

    What is optional and not installed is no failure. Ray is not started, and nothing is left behind.
    """
    from sensorium.jobs.doctor import machine, packages, parts
    from sensorium.jobs.doctor.report import FAILED

    settings = state(context).settings
    findings = [
        *packages.package_findings(),
        *machine.ray_findings(settings),
        *parts.storage_findings(settings),
        *parts.codec_findings(),
        *machine.accelerator_findings(),
        *machine.cache_findings(),
        *machine.tracking_findings(),
    ]
    failed = sum(finding.state == FAILED for finding in findings)
    if state(context).json:
        typer.echo(json_text({"ok": not failed, "findings": [vars(finding) for finding in findings]}))
    else:
        print_rows(
            ["", "what", "state", "found", "remedy"],
            [[one.area, one.subject, one.state, one.found, one.remedy] for one in findings],
        )
    if failed:
        raise typer.Exit(1)
