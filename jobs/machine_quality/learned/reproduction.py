"""The claim's experiment: a sweep of real photographs, crops of its objects, learned and classical metrics on the same crops.

Photographs with plates (labels ``boxes`` and ``texts``) are looked at by a detector of plates, a reader and an encoder at
the plates' true places; others by a detector of faces, which labels them itself, and by an encoder as a whole.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Source
from sensorium.jobs import codecs, image_metrics, machine_tasks
from sensorium.jobs.machine_quality.config import SweepConfig
from sensorium.jobs.machine_quality.correlations import srcc
from sensorium.jobs.machine_quality.learned.config import NETWORKS, LearnedConfig
from sensorium.jobs.machine_quality.learned.correlations import correlations
from sensorium.jobs.machine_quality.learned.crops import METRICS, CropRequest, make_crops, make_subsets
from sensorium.jobs.machine_quality.learned.network import build
from sensorium.jobs.machine_quality.material import to_rgb8
from sensorium.jobs.machine_quality.sweep import plan_sweep, run_sweep
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import FitRequest
from sensorium.jobs.training.measures import Figure, with_intervals
from sensorium.jobs.training.method import png
from sensorium.jobs.training.reproduction import Finding, Reproduction, Section
from sensorium.platform.errors import InvalidSetting, MissingDependency
from sensorium.platform.session import ray_session

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["reproduce"]

_CLAIM = (
    "a learned metric of reference and compressed crops predicts the loss of detection and recognition far better than any "
    "classical metric; one general model loses little"
)
_CODECS = ("jpeg", "x264", "x265", "rav1e", "vvenc")
_DEFAULTS = ("plates_eu", "photographs")
#: with plates the labels say where they are; without, a detector has to
_WITH_PLATES = ("detect=cascade:russian_plate_number", "plates", "recognise")
_WITHOUT = ("detect", "recognise")
#: paper, Table 3 (detection of plates, separate and general) and the text of 4.4 and 4.6; Table 2 for the best classical one
_PAPER = {"detect": "0.81 (classical 0.31, general 0.81)", "plates": "0.85", "recognise": "0.59, in subsets 0.85"}
#: crops in a subset, and one part of so many of the sets that are learnt from is kept for validation
_SUBSET, _SUBSET_PARTS = 4, 4
_TIMED = 12
#: few crops make few steps: smaller batches than a configuration's own
_BATCH = 32


@dataclass(frozen=True)
class _Scale:
    """How much is computed.

    Attributes:
        images: at most so many, the first by id.
        qualities: of each codec, spread over its scale.
        width, epochs, folds: of the networks and their fits.
    """

    images: int
    qualities: int
    width: float
    epochs: int
    folds: int


_QUICK = _Scale(images=60, qualities=3, width=0.5, epochs=15, folds=4)
_FULL = _Scale(images=100_000, qualities=20, width=1.0, epochs=30, folds=5)


@dataclass(frozen=True)
class _Judged:
    """A metric on one task's crops.

    Attributes:
        name: for people.
        frame: id, image_id, codec, value, true.
        learned: fitted here, by cross-validation.
        comparable: its true scores are those of the task's other metrics.
    """

    name: str
    frame: pl.DataFrame
    learned: bool
    comparable: bool = True


def reproduce(request: Reproduction) -> Finding:
    """Sweep, cut, fit, compare."""
    scale = _QUICK if request.quick else _FULL
    dataset = _photographs(request)
    tasks = _tasks(dataset)
    name = f"{dataset.name}_{'quick' if request.quick else 'full'}"
    with ray_session(request.settings):
        config = _sweep(request, dataset, tasks, scale, name)
        crops = make_crops(request.catalog, _crop_request(dataset, config, tasks))
        results, general = _fitted(request, crops, tasks, scale)
    speed = _speed(dataset, tasks, scale)
    sections, figures = [], {}
    for task, judged in results.items():
        table = _overall(judged)
        sections += [
            Section(f"Task {task}: correlation with the score, by metric", table, _note(task, judged, crops, scale)),
            Section(f"Task {task}: SRCC by codec", _by_codec(judged)),
        ]
        figures[f"srcc_{task}"] = png(functools.partial(_draw, table), 6.4, 8.0)
    sections += [Section("One general model", general, _GENERAL), Section("Speed", speed, _SPEED)]
    inputs = (Source(dataset.name, dataset.version), crops)
    return Finding(_CLAIM, _verdict(results), tuple(sections), figures, inputs)


# -- data --------------------------------------------------------------------------------------------------------------


def _photographs(request: Reproduction) -> Dataset:
    catalog = request.catalog
    name = request.data or next((name for name in _DEFAULTS if name in catalog), "")
    if not name:
        raise InvalidSetting(
            f"the lake has none of {', '.join(_DEFAULTS)}. Import photographs (sensorium catalog ingest) and name them with "
            "--data."
        )
    return catalog.dataset(name)


def _tasks(dataset: Dataset) -> tuple[str, ...]:
    """The tasks that the data set has labels for and this machine the programs."""
    wanted = _WITH_PLATES if {"boxes", "texts"} <= set(dataset.fields) else _WITHOUT
    found = []
    for text in wanted:
        try:
            machine_tasks.open_task(text)
        except MissingDependency:
            continue  # the report has no section of it
        found.append(text)
    if not found:
        raise InvalidSetting("no task can be run here: install sensorium[codecs,fit].")
    return tuple(found)


def _sweep(request: Reproduction, dataset: Dataset, tasks: tuple[str, ...], scale: _Scale, name: str) -> SweepConfig:
    images = dataset.select(fields=[], limit=scale.images).frame()["id"].to_list()
    quoted = ", ".join("'" + image.replace("'", "''") + "'" for image in images)
    config = SweepConfig(
        data=f"{dataset.name}@{dataset.version}",
        into=f"{name}_sweep",
        qualities={codec: _qualities(codec, scale.qualities) for codec in _CODECS},
        metrics=("psnr",),
        tasks=tasks,
        where="" if len(images) < scale.images else f"id IN ({quoted})",
    )
    run_sweep(request.catalog, plan_sweep(request.catalog, config))
    return config


def _qualities(codec: str, count: int) -> tuple[int, ...]:
    """From a tenth of the way above the worst to nine tenths: at the ends of a scale all is lost, or nothing."""
    known = codecs.get(codec)
    shares = np.linspace(0.1, 0.8, count)
    return tuple(dict.fromkeys(round(known.worst + (known.best - known.worst) * float(share)) for share in shares))


def _crop_request(dataset: Dataset, config: SweepConfig, tasks: tuple[str, ...]) -> CropRequest:
    # plates are wide
    size = (32, 128) if "texts" in dataset.fields else (96, 96)
    into = config.into.removesuffix("_sweep") + "_crops"
    return CropRequest(data=config.data, rows=config.into, tasks=tasks, into=into, size=size)


# -- fits --------------------------------------------------------------------------------------------------------------


def _fitted(
    request: Reproduction, crops: Source, tasks: Sequence[str], scale: _Scale
) -> tuple[dict[str, list[_Judged]], pl.DataFrame]:
    """All metrics by task, and how the general model compares."""
    frame = request.catalog.dataset(crops.dataset, crops.version).select().frame()
    general = _predictions(request, str(crops), "", {"network": "mobilenet_pair"}, scale)
    results: dict[str, list[_Judged]] = {}
    lines = [_general_line("all tasks", frame, general, None)]
    for text in tasks:
        task = machine_tasks.open_task(text)[0].name
        own = frame.filter(pl.col("task") == task)
        pair = _predictions(request, str(crops), f"task = '{task}'", {"network": "mobilenet_pair"}, scale)
        judged = [_judged(NETWORKS["mobilenet_pair"], own, pair)]
        lines.append(_general_line(task, own, general, pair))
        judged += _special(request, crops, task, own, scale)
        judged += [_judged("general model", own, general), *_classical(own)]
        results[task] = judged
    return results, pl.DataFrame(lines, infer_schema_length=None)


def _predictions(
    request: Reproduction, data: str, where: str, settings: Mapping[str, Any], scale: _Scale
) -> pl.DataFrame:
    """``id``, ``predicted``, ``true`` of crops that the network of their fold has not seen."""
    own = {"width": scale.width, "epochs": scale.epochs, "folds": scale.folds, "batch_size": _BATCH}
    config = overridden(overridden(LearnedConfig(), {**own, **settings}), request.changes)
    wanted = FitRequest("machine_quality", data, config, where=where)
    found = request.cross_validate(wanted)
    return found.rows.select("id", "predicted", "true")


def _judged(name: str, own: pl.DataFrame, predicted: pl.DataFrame, *, comparable: bool = True) -> _Judged:
    joined = own.select("id", "image_id", "codec").join(predicted, on="id", how="inner")
    return _Judged(name, joined.rename({"predicted": "value"}), learned=True, comparable=comparable)


def _special(request: Reproduction, crops: Source, task: str, own: pl.DataFrame, scale: _Scale) -> list[_Judged]:
    """The paper's own networks for plates and for faces."""
    if task == "recognise":
        return _recognition(request, crops, own, scale)
    if task != "plates":
        return []
    where, grey = f"task = '{task}'", {"network": "grey_cnn"}
    loss = _predictions(request, str(crops), where, grey, scale)
    jaro = _predictions(request, str(crops), where, {**grey, "target": "plates_jaro"}, scale)
    name = NETWORKS["grey_cnn"]
    return [_judged(name, own, loss), _judged(f"{name}, of the similarity itself", own, jaro, comparable=False)]


def _classical(own: pl.DataFrame, suffix: str = "", *, comparable: bool = True) -> list[_Judged]:
    """The classical metrics, those that are better higher with their sign turned: scores are losses."""
    found = []
    for name in METRICS:
        metric = image_metrics.get(name)
        for column in metric.names:
            value = -pl.col(column) if metric.higher_is_better else pl.col(column)
            frame = own.select("id", "image_id", "codec", value=value, true="score").drop_nulls()
            if 2 * frame.height >= own.height:  # one that cannot judge most crops cannot be compared on them
                found.append(_Judged(f"{column}{suffix}", frame, learned=False, comparable=comparable))
    return found


def _recognition(request: Reproduction, crops: Source, own: pl.DataFrame, scale: _Scale) -> list[_Judged]:
    """ResNet-18 on single crops, and on subsets (Fig. 8), whose scores are other scores: means."""
    single = _predictions(request, str(crops), "task = 'recognise'", {"network": "resnet_subset"}, scale)
    found = [_judged(f"{NETWORKS['resnet_subset']}, single crops", own, single)]
    into = f"{crops.dataset}_subsets"
    sets = own["image_id"].n_unique() // _SUBSET
    if sets - -(-sets // scale.folds) < _SUBSET_PARTS:
        return found  # too few to part once more for validation
    if into in request.catalog:
        request.catalog.drop(into)  # made anew of the crops that are there now
    subsets = make_subsets(request.catalog, crops.dataset, into, task="recognise", count=_SUBSET)
    settings = {"network": "resnet_subset", "validation": 1 / _SUBSET_PARTS}
    predicted = _predictions(request, str(subsets), "", settings, scale)
    frame = request.catalog[into].select().frame()
    suffix = f", subsets of {_SUBSET}"
    found.append(_judged(f"{NETWORKS['resnet_subset']}{suffix}", frame, predicted, comparable=False))
    return found + _classical(frame, suffix, comparable=False)


# -- tables ------------------------------------------------------------------------------------------------------------


def _figures(frame: pl.DataFrame) -> dict[str, Figure]:
    return correlations(frame["value"], frame["true"], frame["image_id"])


def _overall(judged: Sequence[_Judged]) -> pl.DataFrame:
    lines = []
    for one in judged:
        found = _figures(one.frame)
        low, high = found["srcc"].low, found["srcc"].high
        lines.append(
            {
                "metric": one.name,
                "learned": "yes" if one.learned else "",
                "SRCC": found["srcc"].value,
                "95 % interval": f"{low:.3f}–{high:.3f}",
                "PLCC": found["plcc"].value,
                "KRCC": found["krcc"].value,
                "crops": one.frame.height,
                "images": found["srcc"].units,
            }
        )
    return pl.DataFrame(lines, infer_schema_length=None).sort("SRCC", descending=True, nulls_last=True)


def _by_codec(judged: Sequence[_Judged]) -> pl.DataFrame:
    lines = []
    for one in judged:
        line: dict[str, Any] = {"metric": one.name}
        for codec in _CODECS:
            part = one.frame.filter(pl.col("codec") == codec)
            line[codec] = str(_figures(part)["srcc"]) if part.height else ""
        lines.append(line)
    return pl.DataFrame(lines)


def _general_line(name: str, own: pl.DataFrame, general: pl.DataFrame, separate: pl.DataFrame | None) -> dict[str, Any]:
    """A row of Table 3."""
    one = _figures(_judged("", own, general).frame)["srcc"]
    other = None if separate is None else _figures(_judged("", own, separate).frame)["srcc"]
    return {"task": name, "general model": str(one), "separate models": "" if other is None else str(other)}


_GENERAL = (
    "SRCC, 95 % interval by bootstrap over source images. The general model is fitted on the crops of all tasks here, the "
    "paper's on those of three detectors."
)


def _note(task: str, judged: Sequence[_Judged], crops: Source, scale: _Scale) -> str:
    scores = judged[0].frame["true"].to_numpy()
    values = ", ".join(f"{value:.3f}" for value in np.percentile(scores, [5, 50, 95]))
    zero = float(np.mean(scores == 0))
    return (
        f"Scores: what compression takes from each object; 5th, 50th and 95th percentile {values}, exactly 0 in {zero:.0%}. "
        f"All metrics are of the same crops ({crops}); correlations are signed so that the right sense is positive. Learned: "
        f"{scale.folds} folds by source image, {scale.epochs} epochs, width {scale.width:g}, weights at random in the "
        "beginning; each crop is judged by a network that has not seen its image. A classical metric that cannot be computed "
        f"on a small crop lacks those, and is left out where it lacks more than half. Paper "
        f"(other data, other detectors), SRCC: {_PAPER.get(task, 'none')}."
    )


def _verdict(results: Mapping[str, Sequence[_Judged]]) -> str:
    """Whether the best learned metric lies above the best classical one, with the interval of what lies between."""
    said, wins = [], []
    for task, judged in results.items():
        single = [one for one in judged if one.comparable]
        ranked = {one.name: _figures(one.frame)["srcc"].value for one in single}
        known = {one.name for one in single if one.learned}
        learned = max((name for name in ranked if name in known), key=lambda name: np.nan_to_num(ranked[name]))
        classical = max((name for name in ranked if name not in known), key=lambda name: np.nan_to_num(ranked[name]))
        gain = _gain(*(next(one for one in single if one.name == name) for name in (learned, classical)))
        wins.append(gain.low > 0)
        said.append(
            f"{task}: {learned} {ranked[learned]:.2f}, best classical {classical} {ranked[classical]:.2f}, difference {gain}"
        )
    verdict = "yes" if all(wins) else ("in part" if any(wins) else "no")
    return f"{verdict}. SRCC with the loss, by task: {'; '.join(said)}. Best of several on both sides, chosen on this data."


def _gain(one: _Judged, other: _Judged) -> Figure:
    """Difference of two metrics' SRCC on the crops that both have, by bootstrap over images."""
    joined = one.frame.join(other.frame.select("id", other="value"), on="id", how="inner")
    first, second, true = (joined[name].to_numpy() for name in ("value", "other", "true"))

    def statistic(weights: np.ndarray) -> float:
        times = weights.astype(np.int64)
        drawn = [np.repeat(values, times) for values in (first, second, true)]
        return srcc(drawn[0], drawn[2]) - srcc(drawn[1], drawn[2])

    return with_intervals({"gain": statistic}, joined["image_id"].to_numpy(), repeats=200)["gain"]


def _draw(table: pl.DataFrame, axes: Axes) -> None:
    """SRCC of each metric as a bar, the learned ones in another colour (Figs 4, 7 and 9)."""
    shown = table.reverse()
    colours = ["tab:orange" if learned else "tab:blue" for learned in shown["learned"]]
    axes.barh(range(shown.height), shown["SRCC"].fill_nan(0.0).to_numpy(), color=colours)
    axes.set_yticks(range(shown.height), shown["metric"].to_list(), fontsize=8)
    axes.set_xlabel("SRCC with the loss (orange: learned)")
    axes.grid(axis="x", alpha=0.3)


# -- speed -------------------------------------------------------------------------------------------------------------

_SPEED = (
    "Milliseconds of wall time a picture (median), one thread, side by side in this process: a task on a whole decoded "
    "picture, a learned metric on the crops of its objects (already decoded, cut and scaled). The paper: 3 to 5 times less "
    "than its detectors."
)


def _speed(dataset: Dataset, tasks: Sequence[str], scale: _Scale) -> pl.DataFrame:
    field = next(iter(dataset.declaration.arrays))
    names = dict.fromkeys(name for text in tasks for name in machine_tasks.open_task(text)[0].fields)
    selection = dataset.select(
        fields=[field, *(name for name in names if name in dataset.fields)], limit=min(scale.images, _TIMED)
    )
    samples = [selection[index] for index in range(len(selection))]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lines = [_task_speed(text, field, samples) for text in tasks]
        size = (32, 128) if "texts" in dataset.fields else (96, 96)
        objects = max(1, round(statistics.mean(line["objects a picture"] for line in lines)))
        lines += [_network_speed(name, width, size, objects) for name in NETWORKS for width in {scale.width, 1.0}]
    finally:
        torch.set_num_threads(threads)
    return pl.DataFrame(lines)


def _task_speed(text: str, field: str, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    task, scorer = machine_tasks.open_task(text)
    found, objects = [], []
    for sample in samples:
        picture = to_rgb8(sample[field])
        truth = scorer.prepare(picture, {name: sample.get(name) for name in task.fields})
        found.append(_milliseconds(functools.partial(scorer.score, truth, picture)))
        objects.append(len(scorer.score(truth, picture)))
    return {
        "what": f"task {text}",
        "ms a picture": statistics.median(found),
        "objects a picture": statistics.mean(objects),
    }


def _network_speed(name: str, width: float, size: tuple[int, int], objects: int) -> dict[str, Any]:
    network = build(replace(LearnedConfig(), network=name, width=width)).eval()
    crops = torch.rand(objects, 1, 3, *size)
    with torch.no_grad():
        network(crops, crops)
        spent = [_milliseconds(functools.partial(network, crops, crops)) for _ in itertools.repeat(None, _TIMED)]
    what = f"{NETWORKS[name]}, width {width:g}"
    return {"what": what, "ms a picture": statistics.median(spent), "objects a picture": float(objects)}


def _milliseconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3
