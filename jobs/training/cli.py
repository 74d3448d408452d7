"""``sensorium fit``, ``evaluate``, ``predict``, ``reproduce`` and ``models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sensorium.catalog.cli import open_catalog
from sensorium.platform import plugins
from sensorium.platform.cli import state
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.systems import GROUP, get
from sensorium.platform.tables import human_bytes, json_text, print_rows, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sensorium.catalog.lake import Catalog
    from sensorium.jobs.training.fit import CrossValidation, FitReport, FitRequest
    from sensorium.jobs.training.measures import Figure
    from sensorium.jobs.training.search import SearchReport
    from sensorium.platform.settings import Settings

__all__ = ["evaluate", "fit", "models", "predict", "reproduce"]


def _offering(operation: str) -> Any:
    """Completes names of systems that offer an operation."""

    def names(incomplete: str) -> list[str]:
        return [
            name for name in plugins.names(GROUP) if name.startswith(incomplete) and operation in get(name).operations
        ]

    return names


_DATA = typer.Option("", "--data", metavar="NAME[@VERSION]", help="The data set.")
_WHERE = typer.Option("", "--where", "-w", metavar="SQL", help="Only samples for which this holds.")
_MODEL = typer.Option(..., "--model", metavar="MODEL", help="NAME, NAME@VERSION or NAME@STAGE.")
_WORKERS = typer.Option(0, "--workers", min=0, help="Replicas of the model on Ray; 0: as the command sees fit.")

fit = typer.Typer(add_completion=False, help="Fit a system on a data set: one fit, folds, or a search.")


@fit.command("fit")
def fit_command(
    context: typer.Context,
    system: str = typer.Argument(
        metavar="SYSTEM", help="As listed by sensorium systems.", autocompletion=_offering("fit")
    ),
    data: str = _DATA,
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A field of the configuration; may come again."
    ),
    workers: int = typer.Option(0, "--workers", min=0, help="Workers of Ray Train; 0 fits in this process."),
    run: str = typer.Option("", "--resume", metavar="RUN", help="Go on with a fit that was stopped or lost."),
    name: str = typer.Option(
        "", "--name", metavar="MODEL", help="Name of the model that is saved; the system's without."
    ),
    where: str = _WHERE,
    folds: int = typer.Option(
        0, "--folds", min=0, help="Cross-validate in so many folds, side by side; saves no model."
    ),
    space: list[str] = typer.Option(
        [], "--search", metavar="KEY=RANGE", help='Search first: "lr=log(1e-4,1e-2)", int(), uniform(), choice().'
    ),
    trials: int = typer.Option(20, "--trials", min=1, help="Trials of the search."),
    halving: bool = typer.Option(False, "--halving", help="Stop trials that are behind early (ASHA)."),
    track: str = typer.Option("auto", "--track", help="Weights & Biases: auto, online, offline or off."),
    once: bool = typer.Option(
        False,
        "--once/--anew",
        envvar="SENSORIUM_ONCE",
        help="A single fit that was finished before is told, one that was stopped goes on.",
    ),
) -> None:
    """Fit SYSTEM; the best model by the validation part is measured on the test part and saved in the lake."""
    from sensorium.jobs.training import fit as fitting
    from sensorium.platform.tracking import resolve_mode

    resolve_mode(track)
    catalog, own = open_catalog(context), state(context).settings
    as_json = state(context).json
    if run:
        if data or settings or space or folds:
            raise InvalidSetting("--resume goes on with what the run was told: leave the other options out.")
        _tell_fit(fitting.resume(catalog, run, own, track), as_json=as_json)
        return
    request = _request(system, data, settings, workers, name, where, track)
    if space:
        if folds:
            raise InvalidSetting("--search and --folds cannot go together: search first, then cross-validate the best.")
        request = _searched(catalog, request, own, space, trials, halving=halving, as_json=as_json)
    if folds:
        if name:
            raise InvalidSetting("--folds measures and saves no model: leave --name out, or --folds.")
        _tell_folds(fitting.cross_validate(catalog, request, own, folds=folds), as_json=as_json)
        return
    if once:
        _tell_once(catalog, request, own, as_json=as_json)
        return
    _tell_fit(fitting.fit(catalog, request, own), as_json=as_json)


def _tell_once(catalog: Catalog, request: FitRequest, settings: Settings, *, as_json: bool) -> None:
    from sensorium.jobs.training.once import FinishedFit, fit_once

    report = fit_once(catalog, request, settings)
    if not isinstance(report, FinishedFit):
        _tell_fit(report, as_json=as_json)
    elif as_json:
        typer.echo(json_text({**vars(report), "finished_before": True}))
    else:
        typer.echo(f"{report.model} was fitted before, by run {report.run}; fit it again with --anew")


def _request(
    system: str, data: str, settings: list[str], workers: int, name: str, where: str, track: str
) -> FitRequest:
    from sensorium.jobs.training.configuration import overridden
    from sensorium.jobs.training.fit import FitRequest
    from sensorium.jobs.training.method import method_of

    method = method_of(system)
    if not data:
        raise InvalidSetting("--data NAME says what to fit on. See: sensorium catalog list.")
    return FitRequest(system, data, overridden(method.config(), settings), where, name, workers, track)


def _searched(
    catalog: Catalog,
    request: FitRequest,
    settings: Settings,
    space: list[str],
    trials: int,
    *,
    halving: bool,
    as_json: bool,
) -> FitRequest:
    """The request with the best configuration of a search."""
    from dataclasses import replace

    from sensorium.jobs.training.search import parse_space, search

    report = search(catalog, request, parse_space(space), settings, trials=trials, halving=halving)
    _tell_search(report, as_json=as_json)
    return replace(request, config=report.config)


def _tell_search(report: SearchReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json_text({"run": report.run, "best": report.best, "trials": report.trials.to_dicts()}))
        return
    typer.echo(f"search {report.run}: {report.trials.height} trials, by the validation part")
    print_table(report.trials, as_json=False, limit=10)
    typer.echo("best: " + " ".join(f"--set {key}={value}" for key, value in report.best.items()))


def _tell_fit(report: FitReport, *, as_json: bool) -> None:
    figures = {name: vars(figure) for name, figure in report.figures.items()}
    if as_json:
        content = {
            "run": report.run,
            "model": report.model.reference,
            "figures": figures,
            "steps": report.outcome.steps,
            "seconds": report.outcome.seconds,
            "examples_per_s": report.outcome.examples_per_s,
            "files": list(report.files),
        }
        typer.echo(json_text(content))
        return
    outcome = report.outcome
    typer.echo(
        f"{report.model.reference} ({report.model.parameters:,} parameters, {human_bytes(report.model.nbytes)}): "
        f"{outcome.steps} steps in {outcome.seconds:.1f} s, {outcome.examples_per_s:.0f} examples/s; run {report.run}"
    )
    _print_figures(report.figures, "on the test part")
    for file in report.files:
        typer.echo(f"picture: {file}")


def _print_figures(figures: Mapping[str, Figure], where: str) -> None:
    rows = [
        [name, f"{figure.value:.4g}", f"{figure.low:.4g} – {figure.high:.4g}", str(figure.units)]
        for name, figure in figures.items()
    ]
    print_rows([where, "value", "95 % interval", "units"], rows)


def _tell_folds(report: CrossValidation, *, as_json: bool) -> None:
    if as_json:
        typer.echo(
            json_text({"run": report.run, "folds": report.folds.to_dicts(), "summary": report.summary().to_dicts()})
        )
        return
    print_table(report.folds, as_json=False)
    print_table(report.summary(), as_json=False)
    typer.echo(f"run {report.run}; mean and deviation over folds, pooled with a 95 % interval over the units")
    for file in report.files:
        typer.echo(f"picture: {file}")


evaluate = typer.Typer(add_completion=False, help="Measure a model on data that it was not fitted on.")


@evaluate.command("evaluate")
def evaluate_command(
    context: typer.Context,
    system: str = typer.Argument(metavar="SYSTEM", autocompletion=_offering("evaluate")),
    model: str = _MODEL,
    data: str = typer.Option(..., "--data", metavar="NAME[@VERSION]", help="The data set."),
    where: str = _WHERE,
    workers: int = _WORKERS,
) -> None:
    """Measure MODEL on a data set; samples that it was fitted on are left out."""
    from sensorium.jobs.training.prediction import evaluate as run

    _require_method(system, "evaluate")
    report = run(
        open_catalog(context), model, data, state(context).settings, where=where, system=system, workers=workers
    )
    if state(context).json:
        content = {"run": report.run, "model": report.model, "left_out": report.left_out}
        typer.echo(json_text({**content, "figures": {name: vars(figure) for name, figure in report.figures.items()}}))
        return
    typer.echo(
        f"{report.model}: {report.rows.height} samples measured, {report.left_out} left out that it was fitted on; "
        f"run {report.run}"
    )
    _print_figures(report.figures, f"on {data}")


predict = typer.Typer(add_completion=False, help="Predict a data set into another, in bulk on Ray Data.")


@predict.command("predict")
def predict_command(
    context: typer.Context,
    system: str = typer.Argument(metavar="SYSTEM", autocompletion=_offering("predict")),
    model: str = typer.Option(
        "", "--model", metavar="MODEL", help="NAME, NAME@VERSION or NAME@STAGE; an operator has none."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A setting of an operator; may come again. A model has its own."
    ),
    data: str = typer.Option(..., "--data", metavar="NAME[@VERSION]", help="The data set."),
    into: str = typer.Option(
        ..., "--into", metavar="NAME2", help="Data set of results; a prediction goes on where it stopped."
    ),
    where: str = _WHERE,
    workers: int = _WORKERS,
) -> None:
    """Predict every sample that has no result yet."""
    from sensorium.jobs.training import prediction
    from sensorium.jobs.training.operators import configured, is_operator

    own = state(context).settings
    if is_operator(get(system)):
        if model:
            raise InvalidSetting(f"system {system!r} has no models: leave --model out; --set configures it.")
        subject = configured(system, settings)
        report = prediction.operate(open_catalog(context), subject, data, into, own, where=where, workers=workers)
    else:
        _require_method(system, "predict")
        if not model or settings:
            raise InvalidSetting(
                f"system {system!r} predicts with a fitted model, which holds its settings: give --model and no --set. "
                "See: sensorium models list."
            )
        report = prediction.predict(
            open_catalog(context), model, data, into, own, where=where, system=system, workers=workers
        )
    if state(context).json:
        typer.echo(json_text(vars(report)))
    else:
        typer.echo(
            f"{report.into}@{report.version}: {report.computed} samples predicted, {report.present} were there already, "
            f"{report.errors} errors; run {report.run}"
        )
    if report.errors:
        raise typer.Exit(1)


def _require_method(system: str, operation: str) -> None:
    """Refuse an unknown system before anything else."""
    from sensorium.jobs.training.method import method_of

    method_of(system, operation)


reproduce = typer.Typer(add_completion=False, help="Run the experiment behind a system's claim.")


@reproduce.command("reproduce")
def reproduce_command(
    context: typer.Context,
    system: str = typer.Argument(metavar="SYSTEM", autocompletion=_offering("reproduce")),
    quick: bool = typer.Option(False, "--quick", help="Minutes instead of hours; the report says what was left out."),
    data: str = typer.Option(
        "", "--data", metavar="NAME[@VERSION]", help="Data set; the experiment's own choice without."
    ),
    seeds: int = typer.Option(0, "--seeds", min=0, help="Repetitions; the experiment's own choice without."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A setting of all that is fitted; the report says it."
    ),
    folds: int = typer.Option(0, "--folds", min=0, help="Only the first so many folds of each cross-validation."),
    protocol: str = typer.Option(
        "", "--protocol", metavar="NAME", help="An experiment of the paper on public data that you bring with --data."
    ),
) -> None:
    """The claim's experiment: table as Markdown and Parquet, figures, seeds and spread."""
    from sensorium.jobs.training import reproduction

    request = reproduction.Reproduction(
        open_catalog(context), state(context).settings, quick, data, seeds, tuple(settings), folds, protocol
    )
    report = reproduction.reproduce(system, request)
    typer.echo(reproduction.json_of(report) if state(context).json else f"{report.markdown}\nreport: {report.folder}")


models = typer.Typer(no_args_is_help=True, add_completion=False, help="Fitted models: list, show, promote, export.")


@models.command("list")
def list_(context: typer.Context) -> None:
    """Every version of every model of the lake."""
    catalog = open_catalog(context)
    frame = catalog.models()
    empty = f"{catalog.storage.url} has no models yet. Begin with: sensorium fit SYSTEM --data NAME"
    if not state(context).json:
        frame = frame.select("name", "version", "stages", "system", "created", "parameters", "bytes", _headline())
    print_table(frame, as_json=state(context).json, empty=empty)


def _headline() -> Any:
    """The first figure of a model, for the listing."""
    import polars as pl

    def first(text: str) -> str:
        for name, value in json.loads(text).items():
            if isinstance(value, dict) and value.get("value") is not None:
                return f"{name} {value['value']:.3f}"
        return ""

    return pl.col("metrics").map_elements(first, return_dtype=pl.String).alias("test figure")


_REFERENCE = typer.Argument(metavar="MODEL", help="NAME, NAME@VERSION or NAME@STAGE.")


@models.command()
def show(context: typer.Context, model: str = _REFERENCE) -> None:
    """One model: configuration, preprocessing, figures, where it came from."""
    found = open_catalog(context).model(model)
    content = {
        "model": found.reference,
        "system": found.system,
        "stages": list(found.stages),
        "created": found.created.isoformat(),
        "run": found.run,
        "parameters": found.parameters,
        "bytes": found.nbytes,
        "checksum": found.checksum,
        "made from": [str(source) for source in found.sources],
        "files": list(found.files),
        "metrics": dict(found.metrics),
        "configuration": dict(found.configuration),
        "preprocessing": dict(found.preprocessing),
        "environment": dict(found.environment),
    }
    if state(context).json:
        typer.echo(json_text(content))
        return
    print_rows(["", ""], [row for key, value in content.items() for row in _lines(key, value)])


def _lines(key: str, value: Any) -> list[list[str]]:
    """A value in a line, or a nested one in several."""
    if isinstance(value, dict):
        return [row for name, part in value.items() for row in _lines(f"{key}.{name}", part)]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [[key, text if len(text) <= 100 else text[:99] + "…"]]


@models.command()
def promote(
    context: typer.Context,
    model: str = _REFERENCE,
    stage: str = typer.Argument("production", metavar="STAGE", help="Such as production; names one version at a time."),
) -> None:
    """Let a stage name this version of a model."""
    found = open_catalog(context).promote(model, stage)
    typer.echo(f"{found.name}@{stage} is version {found.version}")


@models.command()
def export(
    context: typer.Context,
    model: str = _REFERENCE,
    output: Path = typer.Option(..., "--output", "-o", metavar="FILE", help="The ONNX file."),
) -> None:
    """Write a model's network as ONNX, checked to give the same output."""
    from sensorium.jobs.training.export import export_onnx

    done = export_onnx(open_catalog(context).model(model), output)
    if state(context).json:
        typer.echo(json_text({**vars(done), "path": str(done.path)}))
        return
    typer.echo(
        f"saved {done.path}: {', '.join(done.inputs)} → {', '.join(done.outputs)}; differs by at most {done.difference:.1e} "
        "of the largest output"
    )
