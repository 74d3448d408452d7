"""What each worker of a fit does, alone or among others: data, preprocessing, networks, phases, test part."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl
import torch

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.lake import Catalog
from sensorium.catalog.selection import Selection
from sensorium.jobs.training import checkpoints as stored
from sensorium.jobs.training import configuration
from sensorium.jobs.training.checkpoints import Checkpoints
from sensorium.jobs.training.context import Context, alone
from sensorium.jobs.training.folds import Split
from sensorium.jobs.training.loop import Curves, NoCurves, PhaseResult, run_phase
from sensorium.jobs.training.method import Fitted, Method, method_of, ready, samples_of
from sensorium.jobs.training.recipe import Recipe, Workspace
from sensorium.platform.storage import Storage

__all__ = [
    "Finished",
    "Job",
    "Outcome",
    "finished",
    "put_split",
    "read_final",
    "read_outcome",
    "read_scores",
    "read_split",
    "score_selection",
    "train",
    "with_groups",
]

logger = logging.getLogger(__name__)

_SPLIT, _PREPROCESSING, _SCORES, _OUTCOME = "split.parquet", "preprocessing.json", "scores.parquet", "outcome.json"
_FINAL = "final"
#: samples that are predicted at a time
_BATCH = 64


@dataclass(frozen=True)
class Job:
    """One fit, as it is sent to workers.

    Attributes:
        lake: with the data; checkpoints go there.
        system: whose method is fitted.
        configuration: of the system, as JSON types.
        data, version: the data set.
        run: names the folder of checkpoints (``RUN``, or ``RUN-fold-3``); its split is there already.
        measure: whether the test part is scored in the end.
    """

    lake: Storage
    system: str
    configuration: Mapping[str, Any]
    data: str
    version: int
    run: str
    measure: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a fit went.

    Attributes:
        steps, examples: that were done in all.
        seconds: from the start of the worker's part to its end; ``first_step_s`` until the first step.
        history: validation figures by phase and epoch.
        best: of the last phase.
        parameters: number of fitted numbers.
    """

    steps: int
    seconds: float
    first_step_s: float
    examples_per_s: float
    history: list[list[dict[str, float]]]
    best: dict[str, float]
    parameters: int


@dataclass
class _Clock:
    """When things happened, seconds since the start."""

    started: float = field(default_factory=time.monotonic)
    first_step: float = 0.0

    def now(self) -> float:
        return time.monotonic() - self.started


def put_split(lake: Storage, run: str, split: Split) -> None:
    """Keep the parts of a run where its workers, and a resumed run, find them."""
    buffer = io.BytesIO()
    split.frame().write_parquet(buffer)
    lake.write(buffer.getvalue(), stored.FOLDER, run, _SPLIT)


def read_split(lake: Storage, run: str) -> Split:
    """The parts of a run.

    Raises:
        FileNotFoundError: the run has none (any more).
    """
    return Split.read(pl.read_parquet(io.BytesIO(lake.read(stored.FOLDER, run, _SPLIT))))


def train(
    job: Job,
    context: Context,
    curves: Curves | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Outcome:
    """Fit, from the newest checkpoint of the run if there is one; weights, scores and outcome lie in the run's folder.

    A run that is done already is left as it is.
    """
    clock = _Clock()
    ended = _read(job.lake.below(stored.FOLDER, job.run), _OUTCOME)
    if ended:
        return Outcome(**json.loads(ended))
    method = method_of(job.system)
    config = configuration.from_json(method.config, job.configuration)
    split = read_split(job.lake, job.run)
    storage = job.lake.below(stored.FOLDER, job.run)
    parts = _parts(job, method, config, split)
    torch.manual_seed(config.fit.seed)
    preprocessing = context.from_first(
        _preprocessing(method, storage, parts["train"], config) if context.first else None
    )
    modules = {name: module.to(context.device) for name, module in method.build(config, preprocessing).items()}
    context.broadcast_modules(modules)
    space = Workspace(
        config, preprocessing, modules, parts["train"], parts["validation"] if split.validation else None, context
    )
    checkpoints = Checkpoints(job.lake, job.run)
    try:
        results = _phases(method, space, checkpoints, curves or NoCurves(), on_epoch, clock)
        fitted = ready(config, preprocessing, modules, context.device)
        if job.measure and split.test:
            rows = score_selection(method, fitted, parts["test"], context)
            if context.first:
                storage.write(_parquet(rows), _SCORES)
        outcome = _outcome(results, modules, clock, config.fit.batch_size)
        if context.first:
            checkpoints.keep(_FINAL, stored.module_tensors(modules))
            storage.write(json.dumps(asdict(outcome)).encode(), _OUTCOME)
    finally:
        checkpoints.close()
    return outcome


def _phases(
    method: Method,
    space: Workspace,
    checkpoints: Checkpoints,
    curves: Curves,
    on_epoch: Callable[[dict[str, float]], None] | None,
    clock: _Clock,
) -> list[PhaseResult]:
    """Run the phases that are not done yet."""
    context = space.context
    resumed = checkpoints.newest()
    done = sorted(label for label in checkpoints.labels() if label.startswith("phase-"))
    finished = json.loads(_read(checkpoints.storage, "phases.json") or "[]")[: len(done)]
    results = [PhaseResult(**entry) for entry in finished]
    if results:
        stored.restore_modules(
            space.modules, checkpoints.kept(done[len(results) - 1]), "the weights of an earlier phase"
        )
    phases = method.phases(space.config)
    for number, phase in enumerate(phases):
        if number < len(results):
            continue
        torch.manual_seed(space.config.fit.seed + number)
        recipe = phase.recipe(space)
        ours = resumed if resumed is not None and resumed[1]["phase"] == number else None
        clock.first_step = clock.first_step or clock.now()
        for module in space.modules.values():
            module.eval()
        for module in recipe.modules.values():
            module.train()
        result = run_phase(
            recipe,
            context,
            number=number,
            before=sum(earlier.steps for earlier in results),
            label=f"{phase.name}/" if len(phases) > 1 else "",
            checkpoints=checkpoints,
            resumed=ours,
            curves=curves,
            on_epoch=on_epoch if number + 1 == len(phases) else None,
        )
        _settle(recipe, context)
        results.append(result)
        if context.first and number + 1 < len(phases):
            checkpoints.keep(f"phase-{number:03}", stored.module_tensors(space.modules))
            checkpoints.wait()
            checkpoints.storage.write(json.dumps([asdict(one) for one in results]).encode(), "phases.json")
    return results


def _settle(recipe: Recipe, context: Context) -> None:
    """Leave a phase's networks as the first worker has them."""
    context.broadcast_modules(recipe.modules, buffers_only=True)


def _parts(job: Job, method: Method, config: Any, split: Split) -> dict[str, Selection]:
    """The parts of the data by name, with the fields that the method looks at."""
    dataset = Catalog(job.lake.url, options=job.lake.options).dataset(job.data, job.version)
    wanted = dict.fromkeys([*method.fields(config), *filter(None, [method.target(config)])])
    names = [name for name in wanted if name in dataset.fields]
    return {part: _selected(dataset, getattr(split, part), names) for part in ("train", "validation", "test")}


def _read(storage: Storage, name: str) -> str:
    try:
        return storage.read(name).decode()
    except FileNotFoundError:
        return ""


def _selected(dataset: Dataset, ids: Iterable[str], fields: list[str]) -> Selection:
    return dataset.select(pl.col("id").is_in(list(ids)), fields=fields)


def _preprocessing(method: Method, storage: Storage, train_part: Selection, config: Any) -> dict[str, Any]:
    """Statistics of the training part; those of the run's beginning where it is resumed."""
    kept = _read(storage, _PREPROCESSING)
    if kept:
        return dict(json.loads(kept))
    found = json.loads(json.dumps(method.preprocess(train_part, config)))
    storage.write(json.dumps(found).encode(), _PREPROCESSING)
    return dict(found)


def score_selection(
    method: Method, fitted: Fitted, selection: Selection, context: Context, batch: int = _BATCH
) -> pl.DataFrame:
    """Predict and score samples: each worker its part, all get all rows, in the order of the selection.

    Returns:
        ``id``, ``group`` (by the configuration's split) and what the method's ``score`` gives.
    """
    own = list(range(context.rank, len(selection), context.world_size))
    rows: list[tuple[int, dict[str, Any]]] = []
    attributes = selection.declaration.attributes
    for begin in range(0, len(own), batch):
        positions = own[begin : begin + batch]
        samples = samples_of(selection.read(positions), attributes)
        for position, sample, result in zip(positions, samples, method.predict(fitted, samples), strict=True):
            scored = method.score(fitted, sample, result)
            if scored is not None:
                rows.append((position, {"id": sample["id"], **scored}))
    everything = sorted((row for part in context.gathered(rows) for row in part), key=lambda row: row[0])
    return pl.DataFrame([row for _, row in everything], infer_schema_length=None)


def with_groups(rows: pl.DataFrame, dataset: Dataset, config: Any) -> pl.DataFrame:
    """Rows of scores with ``group``: the field that the configuration splits by, or the id where the data set has none."""
    group = config.split.group if config.split.group in dataset.fields else "id"
    held = dataset.select(fields=[] if group == "id" else [group]).frame()
    return rows.join(held.select("id", pl.col(group).cast(pl.String).alias("group")), on="id", how="left")


def _outcome(
    results: list[PhaseResult], modules: Mapping[str, torch.nn.Module], clock: _Clock, batch_size: int
) -> Outcome:
    steps = sum(result.steps for result in results)
    seconds = clock.now()
    return Outcome(
        steps=steps,
        seconds=seconds,
        first_step_s=clock.first_step,
        examples_per_s=steps * batch_size / max(1e-9, seconds - clock.first_step),
        history=[result.history for result in results],
        best=dict(results[-1].best or {}) if results else {},
        parameters=sum(parameter.numel() for module in modules.values() for parameter in module.parameters()),
    )


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def read_outcome(lake: Storage, run: str) -> Outcome | None:
    """The outcome of a job that is done; None while it is not."""
    text = _read(lake.below(stored.FOLDER, run), _OUTCOME)
    return Outcome(**json.loads(text)) if text else None


def read_scores(lake: Storage, run: str) -> pl.DataFrame | None:
    """The scores of the test part of a job that is done; None where there was none."""
    try:
        return pl.read_parquet(io.BytesIO(lake.read(stored.FOLDER, run, _SCORES)))
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Finished:
    """A job that is done, for what an experiment does with it besides.

    Attributes:
        fitted: with the final weights.
        parts: selections ``train``, ``validation``, ``test``.
        scores: of the test part.
    """

    fitted: Fitted
    parts: Mapping[str, Selection]
    scores: pl.DataFrame | None


def finished(job: Job) -> Finished:
    """What a job has left."""
    method = method_of(job.system)
    config = configuration.from_json(method.config, job.configuration)
    weights, preprocessing = read_final(job.lake, job.run)
    modules = method.build(config, preprocessing)
    stored.restore_modules(modules, stored.from_bytes(weights, "the final weights")[0], "the final weights")
    parts = _parts(job, method, config, read_split(job.lake, job.run))
    fitted = ready(config, preprocessing, modules, alone().device)
    return Finished(fitted, parts, read_scores(job.lake, job.run))


def read_final(lake: Storage, run: str) -> tuple[bytes, dict[str, Any]]:
    """Weights (a safetensors file) and preprocessing of a job that is done."""
    storage = lake.below(stored.FOLDER, run)
    return storage.read(f"{_FINAL}.safetensors"), json.loads(storage.read(_PREPROCESSING))
