"""Using fitted models in bulk: measuring one on a data set, and predicting a data set into another."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from sensorium.catalog.declaration import Source
from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.lineage import Run
from sensorium.catalog.validation import check_sample
from sensorium.catalog.writing import payload_rows
from sensorium.jobs.training.configuration import to_json
from sensorium.jobs.training.folds import Split
from sensorium.jobs.training.measures import Figure, plain_figures
from sensorium.jobs.training.method import Fitted, Method, check_data, load_model, method_of
from sensorium.jobs.training.operators import Configured, Operator
from sensorium.jobs.training.samples import Sample, samples_of
from sensorium.jobs.training.worker import score_selection, with_groups
from sensorium.platform.errors import DataLeak, InvalidSetting, SensoriumError
from sensorium.platform.optional import require
from sensorium.platform.progress import progress
from sensorium.platform.session import ray_session

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog
    from sensorium.catalog.models import Model
    from sensorium.catalog.selection import Selection
    from sensorium.platform.settings import Settings
    from sensorium.platform.storage import Storage

__all__ = ["Evaluation", "Prediction", "evaluate", "operate", "predict"]

logger = logging.getLogger(__name__)

#: samples that a model replica takes at a time
_BATCH = 64
#: a replica that dies is started so often again, and its batch tried so often
_RESTARTS = 3


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a data set.

    Attributes:
        run: its id.
        model: its reference.
        figures: with 95 % intervals over groups.
        rows: scores of the samples.
        left_out: samples that the model was fitted on, which were not looked at.
    """

    run: str
    model: str
    figures: dict[str, Figure]
    rows: pl.DataFrame
    left_out: int


@dataclass(frozen=True)
class Prediction:
    """What a bulk prediction did.

    Attributes:
        run: its id.
        into, version: the data set of results.
        computed, present: samples predicted now, and before.
        errors: of those computed now, samples that could not be predicted; their rows say why.
    """

    run: str
    into: str
    version: int
    computed: int
    present: int
    errors: int


def evaluate(
    catalog: Catalog,
    reference: str,
    data: str,
    settings: Settings,
    *,
    where: str = "",
    system: str = "",
    workers: int = 0,
) -> Evaluation:
    """Measure a model on the samples of a data set that it was not fitted on.

    Args:
        catalog: the lake.
        reference: of the model.
        data: NAME or NAME@VERSION.
        settings: of the session, where workers are asked for.
        where: SQL; only samples for which it holds.
        system: that the model must be of; any without.
        workers: replicas of the model on Ray; 0 measures in this process.

    Raises:
        DataLeak: the model was fitted on all of them.
    """
    model, method, dataset, config = _opened(catalog, reference, data, system)
    check_data(method, dataset, config, labelled=True)
    names = _names(method, dataset, config, labelled=True)
    learnt = _learnt(model, dataset.name)
    chosen = dataset.select(where or None, fields=names)
    ids = chosen.frame().select("id")
    kept = ids.filter(~pl.col("id").is_in(learnt))
    if ids.is_empty():
        raise InvalidSetting(f"data set {dataset.name!r}: no samples are chosen. Look at --where.")
    if kept.is_empty():
        raise DataLeak(
            f"model {model.reference} was fitted on all {ids.height} samples that are chosen of {dataset.name!r}: "
            "figures on them would say nothing. Choose other data."
        )
    run = Run("evaluate", model.system, {"model": model.reference, "data": str(Source(dataset.name, dataset.version)),
              "where": where}, inputs=(Source(dataset.name, dataset.version), model.source))  # fmt: skip
    with catalog.running(run):
        selection = dataset.select(pl.col("id").is_in(kept["id"].to_list()), fields=names)
        if workers:
            with ray_session(settings):
                rows = _scored_on_ray(model, selection, dataset.storage, workers)
        else:
            from sensorium.jobs.training.context import alone

            _, fitted = load_model(model)
            rows = score_selection(method, fitted, selection, alone())
        if rows.is_empty():
            raise InvalidSetting(
                f"data set {dataset.name!r}: no chosen sample has a truth to compare with. Label some."
            )
        rows = with_groups(rows, dataset, config)
        figures = method.summarise(rows, config)
    catalog.record(run.ended("finished", metrics=plain_figures(figures)))
    return Evaluation(run.id, model.reference, figures, rows, ids.height - kept.height)


def predict(
    catalog: Catalog,
    reference: str,
    data: str,
    into: str,
    settings: Settings,
    *,
    where: str = "",
    system: str = "",
    workers: int = 0,
) -> Prediction:
    """Predict every sample of a data set that has no result yet; each batch is durable as soon as it is done.

    Args:
        catalog: the lake.
        reference: of the model.
        data: NAME or NAME@VERSION.
        into: the data set of results, made if need be; a sample's result has its id.
        settings: of the session.
        where: SQL; only samples for which it holds.
        system: that the model must be of; any without.
        workers: replicas of the model; as many as there are cores, or accelerators, without.

    Raises:
        InvalidSetting: ``into`` holds results of another model.
    """  # fmt: skip
    model, method, dataset, config = _opened(catalog, reference, data, system)
    maker = _Maker(model, model.system, model.reference, method, config, {"model": model.reference}, (model.source,))
    return _predicted(catalog, maker, dataset, into, settings, where, workers)


def operate(
    catalog: Catalog,
    subject: Configured,
    data: str,
    into: str,
    settings: Settings,
    *,
    where: str = "",
    workers: int = 0,
) -> Prediction:
    """Run an operator on every sample of a data set that has no result yet; otherwise as :func:`predict`.

    Raises:
        InvalidSetting: ``into`` holds results of another operator, or of another configuration.
    """
    dataset = catalog.dataset(data)
    pinned = catalog.dataset(dataset.name, dataset.version)
    marks = {"system": subject.system, "configuration": to_json(subject.config)}
    maker = _Maker(subject, subject.system, subject.reference, subject.load(), subject.config, marks)
    return _predicted(catalog, maker, pinned, into, settings, where, workers)


@dataclass(frozen=True)
class _Maker:
    """What makes results.

    Attributes:
        subject: what a worker loads.
        system: its system.
        reference: what it is called.
        method: declares fields and results.
        config: of the method.
        marks: attributes of its data sets of results, by which they are known again.
        sources: that its results come from, besides the data.
    """

    subject: Model | Configured
    system: str
    reference: str
    method: Method | Operator
    config: Any
    marks: Mapping[str, Any]
    sources: tuple[Source, ...] = ()


def _predicted(
    catalog: Catalog, maker: _Maker, dataset: Dataset, into: str, settings: Settings, where: str, workers: int
) -> Prediction:
    check_data(maker.method, dataset, maker.config, labelled=False)
    source = Source(dataset.name, dataset.version)
    target = _target(catalog, maker, source, into)
    chosen = dataset.select(where or None, fields=_names(maker.method, dataset, maker.config, labelled=False))
    ids = chosen.frame().select("id")
    missing = ids.join(target.select(fields=[]).frame().select("id"), on="id", how="anti")
    sources = (source, *maker.sources)
    told = {**maker.marks, "data": str(source), "into": into, "where": where}
    run = Run("predict", maker.system, told, inputs=sources)
    with catalog.running(run):
        if missing.height:
            from sensorium.jobs.retries import through_losses

            def left() -> list[str]:
                there = target.select(fields=[]).frame().select("id")
                return missing.join(there, on="id", how="anti")["id"].to_list()

            def work() -> None:
                selection = dataset.select(pl.col("id").is_in(left()), fields=list(chosen.fields))
                if len(selection):
                    _predicted_on_ray(maker.subject, selection, dataset.storage, target, sources, run.id, workers)

            with ray_session(settings):
                through_losses(work, lambda: len(left()))
    failed = target.select("error IS NOT NULL", fields=[]).frame().join(missing, on="id", how="semi")
    version = target.version
    catalog.record(run.ended("finished", outputs=[Source(into, version)]))
    return Prediction(run.id, into, version, missing.height, ids.height - missing.height, failed.height)


def _target(catalog: Catalog, maker: _Maker, source: Source, into: str) -> Dataset:
    """The data set of results, made if need be.

    Raises:
        InvalidSetting: it holds results of something else.
    """
    fields: list[Field] = [
        *maker.method.results(maker.config),
        ScalarField("error", pa.string(), description="why there is no result"),
    ]
    target = catalog.create(
        into,
        modality="table",
        fields=fields,
        description=f"predictions of {maker.reference} for {source}",
        attributes=maker.marks,
        sources=[source, *maker.sources],
        exist_ok=True,
    )
    held = {name: target.attributes.get(name) for name in maker.marks}
    if held != maker.marks:
        known = ", ".join(f"{name} {value}" for name, value in held.items() if value is not None)
        raise InvalidSetting(
            f"data set {into!r} holds results of {known or 'something else'}, not of {maker.reference}. "
            "Give another name with --into."
        )
    return target


def _opened(catalog: Catalog, reference: str, data: str, system: str) -> tuple[Model, Method, Dataset, Any]:
    from sensorium.jobs.training import configuration

    model = catalog.model(reference)
    if system and model.system != system:
        raise InvalidSetting(
            f"model {model.reference} is of the system {model.system!r}, not {system!r}. Name that system, or another model."
        )
    method = method_of(model.system, "predict")
    dataset = catalog.dataset(data)
    pinned = catalog.dataset(dataset.name, dataset.version)
    return model, method, pinned, configuration.from_json(method.config, model.configuration)


def _names(method: Method | Operator, dataset: Dataset, config: Any, *, labelled: bool) -> list[str]:
    truth = [method.target(config)] if labelled and isinstance(method, Method) else []
    further = method.optional(config) if isinstance(method, Operator) else ()
    wanted = [*method.fields(config), *further, *truth]
    return [name for name in dict.fromkeys(wanted) if name in dataset.fields]


def _learnt(model: Model, dataset: str) -> list[str]:
    """Ids of ``dataset`` that the model was fitted or chosen on."""
    if "split.parquet" not in model.files or dataset not in {source.dataset for source in model.sources}:
        return []
    split = Split.read(pl.read_parquet(io.BytesIO(model.read("split.parquet"))))
    return [*split.train, *split.validation]


# -- on Ray -----------------------------------------------------------------------------------------------------------


def _replicas(workers: int) -> tuple[int, float]:
    """How many replicas, and the accelerators of each."""
    ray = require("ray", "predict in bulk")
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    return workers or max(1, gpus or int(resources.get("CPU", 1))), 1.0 if gpus else 0.0


def _on_replicas(
    selection: Selection, storage: Storage, replica: type[Any], arguments: tuple[Any, ...], workers: int
) -> Iterator[Any]:
    """Batches of the samples through replicas of a model.

    Replicas read the payload themselves: tasks of their own for reading would wait for ever for a core where the replicas
    hold all of them.
    """
    ray = require("ray.data", "predict in bulk")
    from sensorium.catalog import to_ray
    from sensorium.jobs.retries import map_batches

    parts = [{"part": part} for part in to_ray.packed(selection, _BATCH)]
    count, gpus = _replicas(workers)
    arrays = [name for name in selection.fields if name in selection.declaration.arrays]
    own = _Source(storage, tuple(arrays), dict(selection.declaration.attributes))
    done = map_batches(
        ray.from_items(parts, override_num_blocks=len(parts)),
        replica,
        retries=_RESTARTS,
        fn_constructor_args=(own, *arguments),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.ActorPoolStrategy(size=max(1, min(count, len(parts)))),
        num_cpus=0 if gpus else 1,
        num_gpus=gpus,
    )
    yield from done.iter_batches(batch_size=None, prefetch_batches=0)


def _scored_on_ray(model: Model, selection: Selection, storage: Storage, workers: int) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    with progress("evaluate", total=len(selection), unit="samples") as bar:
        for batch in _on_replicas(selection, storage, _ScoringReplica, (model,), workers):
            found = [json.loads(text) for text in batch["row"]]
            rows += [row for row in found if row]
            bar.advance(len(found))
    return pl.DataFrame(sorted(rows, key=lambda row: str(row["id"])), infer_schema_length=None)


def _predicted_on_ray(
    subject: Model | Configured,
    selection: Selection,
    storage: Storage,
    target: Dataset,
    sources: tuple[Source, ...],
    run: str,
    workers: int,
) -> None:
    from sensorium.actors import committer

    commit = committer.start(target.storage, target.name, sources=sources, run=run)
    errors = 0
    with progress("predict", total=len(selection), unit="samples") as bar:
        for batch in _on_replicas(selection, storage, _PredictingReplica, (subject, target, commit), workers):
            errors += int(batch["errors"].sum())
            bar.advance(int(batch["samples"].sum()))
            if errors:
                bar.note(f"{errors} errors")


@dataclass(frozen=True)
class _Source:
    """Where replicas read: the data set's storage, its array fields, and what holds for all its samples."""

    storage: Storage
    arrays: tuple[str, ...]
    attributes: Mapping[str, Any]


def _fitted(model: Model) -> tuple[Method, Fitted]:
    import torch

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    return load_model(model)


def _loaded(subject: Model | Configured) -> Callable[[Sequence[Sample]], list[dict[str, Any]]]:
    """What predicts samples."""
    if isinstance(subject, Configured):
        return partial(subject.load().predict, subject.config)
    method, fitted = _fitted(subject)
    return partial(method.predict, fitted)


class _Replica:
    """A model, or an operator, in an actor."""

    def __init__(self, source: _Source, subject: Model | Configured) -> None:
        self._predict = _loaded(subject)
        self._source = source

    def _samples(self, batch: pa.Table) -> list[dict[str, Any]]:
        from sensorium.catalog.to_ray import read_packed

        samples = []
        for part in batch.column("part"):
            columns = read_packed(self._source.storage, self._source.arrays, part.as_py())
            samples += samples_of(columns, self._source.attributes)
        return samples

    def _results(self, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Results of all samples; one that cannot be predicted does not spoil the others."""
        try:
            return self._predict(samples)
        except SensoriumError:
            pass
        results = []
        for sample in samples:
            try:
                results += self._predict([sample])
            except SensoriumError as error:
                results.append({"error": str(error)})
        return results


class _ScoringReplica(_Replica):
    """Predicts and scores; only small rows come back."""

    def __init__(self, source: _Source, model: Model) -> None:
        self._method, self._fitted = _fitted(model)
        self._predict = partial(self._method.predict, self._fitted)
        self._source = source

    def __call__(self, batch: pa.Table) -> dict[str, list[str]]:
        samples = self._samples(batch)
        rows = []
        for sample, result in zip(samples, self._results(samples), strict=True):
            if "error" in result:
                logger.warning("left out: %s", result["error"])
                rows.append("{}")
                continue
            scored = self._method.score(self._fitted, sample, result)
            rows.append(json.dumps({"id": sample["id"], **scored}) if scored is not None else "{}")
        return {"row": rows}


class _PredictingReplica(_Replica):
    """Predicts, writes what it found to the lake, and hands the rows to the committer."""

    def __init__(self, source: _Source, subject: Model | Configured, target: Dataset, commit: Any) -> None:
        super().__init__(source, subject)
        self._storage, self._declaration, self._commit = target.storage, target.declaration, commit

    def __call__(self, batch: pa.Table) -> dict[str, list[int]]:
        ray = require("ray", "predict in bulk")
        samples = self._samples(batch)
        results = self._results(samples)
        checked = [
            check_sample(self._declaration, {**result, "id": sample["id"]}, open_to_new=False)
            for sample, result in zip(samples, results, strict=True)
        ]
        rows, declared = payload_rows(self._storage, self._declaration, checked)
        ray.get(self._commit.append.remote(rows, declared))
        return {"samples": [len(samples)], "errors": [sum("error" in result for result in results)]}
