"""Fitting a system on a data set: one fit with a test part, or a cross-validation."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sensorium.actors.recorder import Recorder, RunRecords
from sensorium.catalog.declaration import Source
from sensorium.catalog.lineage import Run, environment
from sensorium.catalog.models import Model, ModelDraft
from sensorium.jobs.training import configuration, drawing, launch, worker
from sensorium.jobs.training.checkpoints import FOLDER, Checkpoints, from_bytes, restore_modules
from sensorium.jobs.training.folds import k_folds, single, split_frame
from sensorium.jobs.training.measures import Figure, plain, plain_figures
from sensorium.jobs.training.method import Fitted, Method, check_data, method_of, png, ready
from sensorium.jobs.training.worker import Job, Outcome
from sensorium.platform.errors import (
    FitStopped,
    InvalidSample,
    InvalidSetting,
    UnknownRun,
    UserError,
    WorkerFailed,
    close_matches,
)
from sensorium.platform.progress import progress
from sensorium.platform.session import ray_session
from sensorium.platform.tracking import Tracked

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog
    from sensorium.platform.settings import Settings

__all__ = ["CrossValidation", "FitReport", "FitRequest", "cross_validate", "fit", "forget", "prepared", "resume"]

logger = logging.getLogger(__name__)

#: of this process, for what no other process may take up
_PROCESS = secrets.token_hex(4)


@dataclass(frozen=True)
class FitRequest:
    """A fit that is asked for.

    Attributes:
        system: whose method is fitted.
        data: NAME or NAME@VERSION.
        config: of the system.
        where: SQL; only samples for which it holds.
        name: of the model that is saved; the system's own without one.
        workers: of Ray Train; 0 fits in this process.
        track: mode of the tracker: ``auto``, ``online``, ``offline``, ``off``.
    """

    system: str
    data: str
    config: Any
    where: str = ""
    name: str = ""
    workers: int = 0
    track: str = "off"

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InvalidSetting(f"workers must be 0 (in this process) or more; got {self.workers}.")

    def record(self) -> dict[str, Any]:
        """The request as JSON types, from which :func:`resume` makes it again."""
        plain = {name: value for name, value in vars(self).items() if name != "config"}
        return {**plain, "config": configuration.to_json(self.config)}


@dataclass(frozen=True)
class FitReport:
    """How a fit ended.

    Attributes:
        run: its id.
        model: that was saved.
        figures: of the test part, with 95 % intervals over groups.
        outcome: steps, seconds, history.
        files: pictures in the lake.
    """

    run: str
    model: Model
    figures: dict[str, Figure]
    outcome: Outcome
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class CrossValidation:
    """Figures of each fold, and of all together.

    Attributes:
        run: its id.
        folds: a row per fold: ``fold`` and its figures.
        rows: scores of all samples, each as a test sample once, with ``fold``.
        figures: over all rows, with 95 % intervals over groups.
        extras: what was asked for besides, by fold.
        files: pictures in the lake.
    """

    run: str
    folds: pl.DataFrame
    rows: pl.DataFrame
    figures: dict[str, Figure] = field(default_factory=dict)
    extras: dict[int, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def summary(self) -> pl.DataFrame:
        """Per figure: mean and (population) standard deviation over the folds, and the interval over groups."""
        lines = []
        for name, figure in self.figures.items():
            values = self.folds[name].drop_nans().to_numpy()
            lines.append(
                {
                    "figure": name,
                    "mean": float(np.mean(values)) if len(values) else float("nan"),
                    "deviation": float(np.std(values)) if len(values) else float("nan"),
                    "pooled": figure.value,
                    "low": figure.low,
                    "high": figure.high,
                    "units": figure.units,
                }
            )
        return pl.DataFrame(lines)


def fit(catalog: Catalog, request: FitRequest, settings: Settings, *, identity: str = "") -> FitReport:
    """Fit on the training part, choose by the validation part, measure on the test part, save the model.

    ``identity``: of the run; a new one without.

    Raises:
        UserError: the data or the configuration does not suit; which, and the remedy.
        FitStopped: Ctrl-C; the message says how to go on.
    """
    method, dataset, rows = prepared(catalog, request)
    split = single(rows, request.config.split)
    source = Source(dataset.name, dataset.version)
    run = Run("fit", request.system, {**request.record(), "data": str(source)}, inputs=(source,))
    run = replace(run, id=identity or run.id)
    worker.put_split(catalog.storage, run.id, split)
    return _run(catalog, request, settings, method, run)


def resume(catalog: Catalog, run_id: str, settings: Settings, track: str = "") -> FitReport:
    """Go on with a fit that was stopped or lost, from its newest checkpoint.

    Raises:
        UnknownRun: there is none of that id.
        UserError: it is finished, or is no single fit.
    """
    runs = catalog.runs()
    found = runs.filter(pl.col("run") == run_id)
    if found.is_empty():
        fits = runs.filter(pl.col("kind") == "fit")["run"].to_list()
        raise UnknownRun(f"{catalog.storage.url} has no run {run_id!r}. {close_matches(run_id, fits)}".rstrip())
    row = found.row(0, named=True)
    if row["kind"] != "fit":
        raise UserError(f"run {run_id} is of kind {row['kind']}: only a fit can be resumed. Run its command again.")
    if row["state"] == "finished":
        raise UserError(f"run {run_id} is finished: its model is {_outputs(row)}. Start a new fit to change it.")
    record = json.loads(row["configuration"])
    method = method_of(row["name"])
    record["config"] = configuration.from_json(method.config, record["config"])
    request = FitRequest(**{**record, **({"track": track} if track else {})})
    try:
        worker.read_split(catalog.storage, run_id)
    except FileNotFoundError as error:
        raise UserError(f"run {run_id} has no checkpoints in the lake any more. Start a new fit.") from error
    inputs = tuple(Source(part["dataset"], part["version"]) for part in row["inputs"])
    run = Run("fit", row["name"], json.loads(row["configuration"]), inputs=inputs, id=run_id)
    return _run(catalog, request, settings, method, run)


def _outputs(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{part['dataset']}@{part['version']}" for part in row["outputs"]) or "not saved"


def prepared(catalog: Catalog, request: FitRequest) -> tuple[Method, Dataset, pl.DataFrame]:
    """The method, the data set at its version, and the scalars of the samples that are chosen."""
    method = method_of(request.system)
    dataset = catalog.dataset(request.data)
    dataset = catalog.dataset(dataset.name, dataset.version)
    config, target = request.config, method.target(request.config)
    check_data(method, dataset, config, labelled=True)
    named = [target, config.split.group, config.split.stratify, config.split.part]
    names = list(dict.fromkeys(name for name in named if name and name != "id"))
    for name in names:
        dataset.declaration.require(name)
    rows = dataset.select(
        request.where or None, fields=names
    ).rows  # a target may be an array: its reference tells whether it is there
    if method.eligible is not None:
        rows = rows.filter(method.eligible(config).fill_null(value=True))
    if rows.is_empty():
        raise InvalidSetting(f"data set {dataset.name!r}: no samples are chosen. Look at --where.")
    if target:
        missing = rows.filter(pl.col(target).is_null())
        if missing.height:
            more = f", nor have {missing.height - 1} more" if missing.height > 1 else ""
            raise InvalidSample(
                f"data set {dataset.name!r}: sample {missing['id'][0]!r} has no {target!r}{more}. Label it, or leave such "
                f'samples out with --where "{target} IS NOT NULL".'
            )
    return method, dataset, rows


def _run(catalog: Catalog, request: FitRequest, settings: Settings, method: Method, run: Run) -> FitReport:
    """Run a fit whose split is written, and record how it ends."""
    source = run.inputs[0]
    job = Job(
        catalog.storage, request.system, configuration.to_json(request.config), source.dataset, source.version, run.id
    )
    records = RunRecords(catalog.storage, run, request.track, _tracked(request, run))
    if request.workers == 0:
        recorder: Any = Recorder(records)
        return _recorded(catalog, request, method, run, job, recorder)
    launch.prepare_workers()
    with ray_session(settings):
        from sensorium.actors import run_tracker

        recorder = run_tracker.start(records)
        return _recorded(catalog, request, method, run, job, recorder)


def _tracked(request: FitRequest, run: Run) -> Tracked:
    content = {
        **configuration.to_json(request.config),
        "data": str(run.inputs[0]),
        "where": request.where,
        "workers": request.workers,
        "environment": environment(),
    }
    name = request.name or request.system
    return Tracked(run.id, f"{name} {run.id}", run.kind, tags=(request.system,), configuration=content)


def _recorded(catalog: Catalog, request: FitRequest, method: Method, run: Run, job: Job, recorder: Any) -> FitReport:
    how = f"sensorium fit {request.system} --resume {run.id}"
    try:
        if request.workers:
            launch.on_workers(job, request.workers, recorder)
        else:
            launch.in_process(job, recorder)
        report = _concluded(catalog, request, method, run, recorder)
    except (FitStopped, KeyboardInterrupt) as error:
        told = str(error) or "stopped."
        recorder.finish(run.ended("stopped", message=told))
        raise FitStopped(f"run {run.id} {told.removesuffix('.')}; go on with: {how}") from error
    except BaseException as error:
        recorder.finish(run.ended("failed", message=f"{type(error).__name__}: {error}"))
        raise
    Checkpoints(catalog.storage, run.id).remove()
    return report


def _concluded(catalog: Catalog, request: FitRequest, method: Method, run: Run, recorder: Any) -> FitReport:
    """Figures, pictures, model and record of a fit that is done."""
    storage = catalog.storage
    outcome = worker.read_outcome(storage, run.id)
    if outcome is None:
        raise WorkerFailed(f"run {run.id} ended without an outcome. Look at the logs of its workers, and resume it.")
    weights, preprocessing = worker.read_final(storage, run.id)
    fitted = _fitted(method, request.config, preprocessing, weights)
    rows = _grouped(catalog, run.inputs[0], request.config, worker.read_scores(storage, run.id))
    figures = method.summarise(rows, request.config) if rows is not None else {}
    metrics = _metrics(figures, outcome)
    pictures = _pictures(method, fitted, rows, recorder)
    recorder.flush()
    records = catalog.records(run.id)
    if not records.is_empty():
        recorder.picture("loss", png(lambda axes: drawing.curves(axes, records)))
    model = catalog.save_model(
        ModelDraft(
            name=request.name or request.system,
            system=request.system,
            weights=weights,
            configuration=configuration.to_json(request.config),
            preprocessing=preprocessing,
            metrics=metrics,
            environment=environment(),
            sources=run.inputs,
            run=run.id,
            parameters=outcome.parameters,
            files={"split.parquet": storage.read("checkpoints", run.id, "split.parquet"), **pictures},
        )
    )
    recorder.artifact(
        model.name, "model", {"weights.safetensors": weights}, {"system": request.system, "version": model.version}
    )
    recorder.finish(run.ended("finished", outputs=[model.source], metrics=metrics))
    return FitReport(run.id, model, figures, outcome, tuple(_files(catalog, run.id)))


def _fitted(method: Method, config: Any, preprocessing: Mapping[str, Any], weights: bytes) -> Fitted:
    from sensorium.jobs.training.context import alone

    modules = method.build(config, preprocessing)
    restore_modules(modules, from_bytes(weights, "the fitted weights")[0], "the fitted weights")
    return ready(config, preprocessing, modules, alone().device)


def _grouped(catalog: Catalog, source: Source, config: Any, rows: pl.DataFrame | None) -> pl.DataFrame | None:
    """Rows of scores with the group of each sample."""
    if rows is None or rows.is_empty():
        return None
    return worker.with_groups(rows, catalog.dataset(source.dataset, source.version), config)


def _metrics(figures: Mapping[str, Figure], outcome: Outcome) -> dict[str, Any]:
    """Figures as JSON types; NaN becomes None, which JSON has."""
    best = {name: plain(value) for name, value in outcome.best.items()}
    spent = {"steps": outcome.steps, "seconds": outcome.seconds, "examples_per_s": outcome.examples_per_s}
    return {**plain_figures(figures), "validation": best, **spent}


def _pictures(method: Method, fitted: Fitted, rows: pl.DataFrame | None, recorder: Any) -> dict[str, bytes]:
    """The pictures of a fit as files for its model; recorded too."""
    if rows is None:
        return {}
    drawn = {name: png(draw) for name, draw in method.pictures(rows, fitted).items()}
    if method.confusion is not None:
        classes = method.confusion(fitted)
        matrix = confusion_matrix(rows, classes)
        drawn["confusion"] = png(lambda axes: drawing.confusion(axes, matrix, classes))
        recorder.confusion("confusion_matrix", matrix.tolist(), classes)
    for name, content in drawn.items():
        recorder.picture(name, content)
    return {f"{name}.png": content for name, content in drawn.items()}


def confusion_matrix(rows: pl.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Counts [true, predicted] of rows with ``label`` (index) and ``confusion`` (counts by predicted class)."""
    matrix = np.zeros((len(classes), len(classes)))
    for label, counts in rows.select("label", "confusion").iter_rows():
        matrix[int(label)] += np.asarray(counts, np.float64)
    return matrix


def _files(catalog: Catalog, run: str) -> list[str]:
    found = catalog.runs().filter(pl.col("run") == run)
    return list(found["files"][0]) if found.height and found["files"][0] is not None else []


# -- cross-validation -------------------------------------------------------------------------------------------------


def cross_validate(
    catalog: Catalog,
    request: FitRequest,
    settings: Settings,
    *,
    folds: int = 0,
    only: Sequence[int] = (),
    after: Callable[[Job], Any] | None = None,
    parallel: bool = True,
    keep: str = "",
) -> CrossValidation:
    """Fit and measure once per fold, folds side by side as Ray tasks; saves no model.

    Args:
        catalog: the lake.
        request: what is fitted; ``workers`` must be 0, since each fold is a task of its own.
        settings: of the session.
        folds: how many; those of the configuration without.
        only: numbers of the folds to run; all of them without.
        after: called where a fold was fitted, with its job: for what an experiment wants to know besides. An importable
            function; see :func:`.worker.finished`.
        parallel: False runs them one after another in this process.
        keep: a name under which the folds' checkpoints stay in the lake when this is over, however it ended: the same call
            of the same code, with the same name, goes on where it was. :func:`forget` removes them.
    """
    if request.workers:
        raise InvalidSetting("folds run side by side, each in a task of its own: leave --workers out.")
    if folds:
        request = replace(request, config=replace(request.config, split=replace(request.config.split, folds=folds)))
    if request.config.split.part:
        raise InvalidSetting(
            f"folds are made here, and split.part={request.config.split.part} names parts that are given: leave one out."
        )
    method, dataset, rows = prepared(catalog, request)
    source = Source(dataset.name, dataset.version)
    run = Run("cross_validation", request.system, {**request.record(), "data": str(source)}, inputs=(source,))
    splits = k_folds(split_frame(rows, request.config.split), request.config.split)
    plain = configuration.to_json(request.config)
    unknown = [number for number in only if number not in range(len(splits))]
    if unknown:
        raise InvalidSetting(f"there are {len(splits)} folds, counted from 0; got {', '.join(map(str, unknown))}.")
    jobs = []
    chosen = {number: splits[number] for number in only or range(len(splits))}
    for number, split in chosen.items():
        name = f"{_kept_name(keep, request, source) if keep else run.id}-fold-{number}"
        worker.put_split(catalog.storage, name, split)
        jobs.append(Job(catalog.storage, request.system, plain, dataset.name, dataset.version, name))
    recorder = Recorder(RunRecords(catalog.storage, run, request.track, _tracked(request, run)))
    try:
        done = _outcomes(jobs, settings, after, parallel=parallel)
        result = _folds_done(catalog, request, method, run, list(chosen), jobs, recorder, done)
    except BaseException as error:
        state = "stopped" if isinstance(error, KeyboardInterrupt | FitStopped) else "failed"
        recorder.finish(run.ended(state, message=f"{type(error).__name__}: {error}"))
        raise
    finally:
        for job in jobs if not keep else ():
            Checkpoints(catalog.storage, job.run).remove()
    return result


def _kept_name(keep: str, request: FitRequest, source: Source) -> str:
    """A folder's name that is the same for the same call of the same code on the same data, and for no other."""
    made = environment()
    code = made.get("commit") or made["sensorium"]
    if code.endswith("+"):  # changed code that has no name: of use to this process only
        code = f"{code}{_PROCESS}"
    text = json.dumps([request.record(), str(source), code], sort_keys=True)
    return f"{keep}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def forget(catalog: Catalog, keep: str) -> None:
    """Remove what cross-validations kept under a name."""
    for run in catalog.storage.folders(FOLDER):
        if run.startswith(f"{keep}-"):
            Checkpoints(catalog.storage, run).remove()


def _folds_done(
    catalog: Catalog,
    request: FitRequest,
    method: Method,
    run: Run,
    numbers: Sequence[int],
    jobs: Sequence[Job],
    recorder: Recorder,
    done: Iterable[tuple[int, Outcome, Any]],
) -> CrossValidation:
    lines: dict[int, dict[str, Any]] = {}
    parts: dict[int, pl.DataFrame] = {}
    extras: dict[int, Any] = {}
    with progress("folds", total=len(jobs), unit="folds") as bar:
        for index, outcome, extra in done:
            number = numbers[index]
            scored = _grouped(
                catalog, run.inputs[0], request.config, worker.read_scores(catalog.storage, jobs[index].run)
            )
            if scored is None:
                raise InvalidSetting(f"fold {number} has no labelled test samples. Use fewer folds.")
            found = {name: figure.value for name, figure in method.summarise(scored, request.config).items()}
            lines[number] = {"fold": number, **found, "seconds": outcome.seconds}
            parts[number] = scored.with_columns(fold=pl.lit(number))
            extras[number] = extra
            recorder.log(number, {f"fold/{name}": value for name, value in found.items()})
            bar.advance()
    rows = pl.concat([parts[number] for number in sorted(parts)], how="diagonal_relaxed")
    figures = method.summarise(rows, request.config)
    folds = pl.DataFrame([lines[number] for number in sorted(lines)])
    report = CrossValidation(run.id, folds, rows, figures, extras)
    if method.confusion is not None:
        weights, preprocessing = worker.read_final(catalog.storage, jobs[0].run)
        classes = method.confusion(_fitted(method, request.config, preprocessing, weights))
        matrix = confusion_matrix(rows, classes)
        recorder.picture("confusion", png(lambda axes: drawing.confusion(axes, matrix, classes)))
        recorder.confusion("confusion_matrix", matrix.tolist(), classes)
    metrics = {
        line["figure"]: {k: plain(v) for k, v in line.items() if k != "figure"} for line in report.summary().to_dicts()
    }
    recorder.finish(run.ended("finished", metrics=metrics))
    return replace(report, files=tuple(_files(catalog, run.id)))


def _outcomes(
    jobs: Sequence[Job], settings: Settings, after: Callable[[Job], Any] | None, *, parallel: bool
) -> Iterator[tuple[int, Outcome, Any]]:
    if not parallel:
        for number, job in enumerate(jobs):
            outcome = launch.in_process(job)
            yield number, outcome, None if after is None else after(job)
        return
    with ray_session(settings):
        yield from launch.on_tasks(jobs, after)
