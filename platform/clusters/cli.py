"""``sensorium submit`` and ``sensorium jobs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from sensorium.platform.cli import state
from sensorium.platform.tables import json_text, print_table

if TYPE_CHECKING:
    from sensorium.platform.clusters.jobs_api import Jobs, Submitted

__all__ = ["jobs", "submit"]

_INTERRUPTED = 130

submit = typer.Typer(add_completion=False, help="Run a command as a job of a Ray cluster.")


@submit.command("submit")
def submit_command(
    context: typer.Context,
    words: list[str] = typer.Argument(
        ..., metavar="-- COMMAND…", help="A command of sensorium with its options, behind --."
    ),
    working_dir: str = typer.Option(
        "auto",
        "--working-dir",
        metavar="auto|none|FOLDER",
        help="What the job starts in: auto sends sensorium.toml if there is one here, FOLDER all files of it.",
    ),
    wait: bool = typer.Option(True, "--wait/--detach", help="Follow the job, and end with its exit code."),
    env: list[str] = typer.Option(
        [],
        "--env",
        metavar="NAME[=VALUE]",
        help="A variable of the job; without a value, that of here. May come again.",
    ),
    stop_on_interrupt: bool = typer.Option(
        False, "--stop-on-interrupt", help="Ctrl-C stops the job; otherwise it goes on without us."
    ),
) -> None:
    """Package this installation, run COMMAND on the cluster at --address (http://HEAD:8265), and show what it says.

    The same command on the same lake again goes on with the same work: an attempt that runs is followed; after one that
    ended, the next does what is missing.
    """
    from sensorium.platform.clusters.command import parse
    from sensorium.platform.clusters.jobs_api import Jobs, is_elsewhere
    from sensorium.platform.clusters.submission import environment_of, submit

    settings, as_json = state(context).settings, state(context).json
    variables = environment_of(env)
    parse(words, settings.lake, elsewhere=False)  # what is wrong anyway is said before anybody is asked
    cluster = Jobs(settings.address)
    command = parse(words, settings.lake, elsewhere=is_elsewhere(cluster.address))
    if command.warning:
        typer.echo(f"sensorium: {command.warning}", err=True)
    done = submit(cluster, command, working_dir, variables)
    told = "submitted" if done.fresh else "runs already, and is not submitted again"
    if not as_json:
        typer.echo(f"job {done.id} {told}", err=wait)
    if not wait:
        if as_json:
            typer.echo(json_text({"id": done.id, "fresh": done.fresh, "lake": command.lake}))
        return
    ended = _followed(cluster, done.id, stop=stop_on_interrupt, quiet=as_json)
    if as_json:
        typer.echo(json_text({**_row(ended), "fresh": done.fresh, "lake": command.lake}))
    _leave(ended)


def _followed(cluster: Jobs, identity: str, *, stop: bool, quiet: bool) -> Submitted:
    """The job at its end. Its log goes to standard error where the output is for programs."""
    try:
        return cluster.follow(identity, lambda text: typer.echo(text, nl=False, err=quiet))
    except KeyboardInterrupt:
        if stop:
            cluster.stop(identity)
            typer.echo(f"sensorium: job {identity} is being stopped; what was committed stays.", err=True)
        else:
            typer.echo(
                f"sensorium: job {identity} goes on. Follow it: sensorium jobs logs {identity} --follow; stop it: "
                f"sensorium jobs stop {identity}",
                err=True,
            )
        raise SystemExit(_INTERRUPTED) from None  # typer's own end would say besides that we were stopped


def _leave(job: Submitted) -> None:
    """End as the job did."""
    if job.status != "SUCCEEDED":
        typer.echo(f"sensorium: job {job.id} {job.status.lower()}: {job.message}", err=True)
    raise SystemExit(job.code)


jobs = typer.Typer(no_args_is_help=True, add_completion=False, help="Jobs of a Ray cluster: list, logs, stop.")

_JOB = typer.Argument(metavar="JOB", help="As listed by sensorium jobs list.")


@jobs.command("list")
def list_(context: typer.Context) -> None:
    """The jobs that were submitted to the cluster at --address, oldest first."""
    import polars as pl

    schema: dict[str, Any] = {
        "id": pl.String,
        "status": pl.String,
        "started": pl.Datetime("us", "UTC"),
        "ended": pl.Datetime("us", "UTC"),
        "exit_code": pl.Int64,
        "command": pl.String,
        "message": pl.String,
    }
    frame = pl.DataFrame([_row(job) for job in _cluster(context).all()], schema=schema)
    if not state(context).json:
        frame = frame.drop("command", "message")
    print_table(frame, as_json=state(context).json, empty="No jobs were submitted to this cluster.")


@jobs.command()
def logs(
    context: typer.Context,
    job: str = _JOB,
    follow: bool = typer.Option(False, "--follow", "-f", help="Until the job ends; the exit code is the job's."),
) -> None:
    """What a job has said."""
    cluster = _cluster(context)
    if follow:
        cluster.one(job)
        _leave(_followed(cluster, job, stop=False, quiet=state(context).json))
    text = cluster.logs(job)
    typer.echo(json_text({**_row(cluster.one(job)), "log": text}) if state(context).json else text, nl=False)


@jobs.command()
def stop(context: typer.Context, job: str = _JOB) -> None:
    """Stop a job; what it committed stays."""
    cluster = _cluster(context)
    asked = cluster.stop(job)
    if state(context).json:
        typer.echo(json_text({**_row(cluster.one(job)), "asked": asked}))
        return
    typer.echo(f"job {job} is being stopped" if asked else f"job {job} has ended already")


def _cluster(context: typer.Context) -> Jobs:
    from sensorium.platform.clusters.jobs_api import Jobs

    return Jobs(state(context).settings.address)


def _row(job: Submitted) -> dict[str, Any]:
    return dict(vars(job))
