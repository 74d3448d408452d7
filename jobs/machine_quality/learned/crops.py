"""A data set to learn from: every object of a sweep, cut out of the reference and of what the sweep decoded.

A sweep keeps numbers, not pictures. They are coded once more, which gives the same bytes wherever the encoder is the same;
the hash of each bitstream is compared with the sweep's row, so that no score is ever put beside other pixels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from sensorium.catalog import fragments
from sensorium.catalog.declaration import Source
from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs import codecs, image_metrics, machine_tasks
from sensorium.jobs.codecs import Codec, Picture
from sensorium.jobs.machine_quality.material import WHOLE, pictures
from sensorium.jobs.machine_tasks import _boxes
from sensorium.platform.errors import CorruptData, InvalidSample, InvalidSetting, ours
from sensorium.platform.optional import require
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog
    from sensorium.platform.storage import Storage

__all__ = ["METRICS", "CropRequest", "make_crops", "make_subsets"]

#: of those installed, the metrics that are cheap on a crop
METRICS = (
    "psnr", "psnr_y", "ssim", "gmsd", "mdsi", "vsi", "haarpsi", "fsim", "nlpd", "sam", "sre", "edge_f1",
    "total_variation", "blockiness", "brightness", "colourfulness",
)  # fmt: skip
#: columns of an object's row that say which and where it is; the others are the task's scores
_PLACES = ("id", "cell", "image_id", "extent", "codec", "quality", "gop", "object", "frame", *_boxes.COLUMNS)
#: crops that are committed together
_BATCH = 256


@dataclass(frozen=True)
class CropRequest:
    """What crops are made of.

    Attributes:
        data: data set of the pictures, NAME or NAME@VERSION.
        rows: data set with the rows of the sweep; the objects of a task lie in ``ROWS_TASK``.
        tasks: that the sweep was run with, as it was told them.
        into: data set that the crops go into.
        size: height and width of the crops, pixels.
        margin: around each object's true box, as a share of its width and height.
        metrics: computed on each pair of crops before they are scaled.
    """

    data: str
    rows: str
    tasks: tuple[str, ...]
    into: str
    size: tuple[int, int] = (64, 64)
    margin: float = 0.15
    metrics: tuple[str, ...] = METRICS

    def __post_init__(self) -> None:
        if not all(8 <= side <= 1024 for side in self.size):
            raise InvalidSetting(f"crops must have 8 to 1024 pixels a side; got {self.size}.")
        if not 0 <= self.margin <= 2:
            raise InvalidSetting(f"margin must be from 0 to 2; got {self.margin}.")
        if not self.tasks:
            raise InvalidSetting("crops need at least one task, whose objects they show.")


def make_crops(catalog: Catalog, request: CropRequest) -> Source:
    """Make the crops that are not there yet; Ray must be running.

    They are committed as they come, so that a run that is stopped can be gone on with.
    Objects of which the task says nothing (its main number of that object alone is NaN) are left out.

    Fields: ``reference`` and ``compressed`` [H, W, 3], ``score`` (the main number of the object's task), ``task``, ``codec``,
    ``quality``, ``bits_per_pixel`` of the whole picture, ``image_id``, a column for each metric (null where it cannot be
    computed), and ``TASK_COLUMN`` for each score of a task.

    Raises:
        InvalidSetting: the sweep coded tiles or clips, or with another version of an encoder.
        CorruptData: an encoder gives other bytes than in the sweep.
    """
    ray = require("ray", "make crops")
    dataset = catalog.dataset(request.data)
    source = Source(dataset.name, dataset.version)
    objects = _objects(catalog, request)
    target = catalog.create(
        request.into,
        modality="table",
        fields=_fields(request, objects),
        description=f"objects in pictures of {source} as the sweep {request.rows} left them",
        sources=[source, Source(request.rows, catalog[request.rows].version)],
        exist_ok=True,
    )
    done = target.select(fields=[]).frame()["id"]
    objects = objects.filter(pl.col("id").is_in(done.implode()).not_())
    field = next(iter(dataset.declaration.arrays))
    images = dataset.select(pl.col("id").is_in(objects["image_id"].unique().implode()), fields=[field]).rows
    work = ray.remote(num_cpus=1)(_cut_picture)
    parts = objects.partition_by("image_id", as_dict=True)
    waiting = [
        (row[field], parts[(row["id"],)].to_dicts()) for row in images.iter_rows(named=True) if (row["id"],) in parts
    ]
    with progress("crops", total=len(waiting), unit="pictures") as bar, target.writer(batch=_BATCH) as writer:
        for found in _in_turn(ray, work, dataset.storage, waiting, request):
            for sample in found:
                writer.add(sample)
            bar.advance(1)
    return Source(request.into, catalog[request.into].version)


def _in_turn(
    ray: Any, work: Any, storage: Storage, waiting: Sequence[tuple[Any, Any]], request: CropRequest
) -> Iterator[list[dict[str, Any]]]:
    """What the workers give, some pictures ahead of the writer and no more: crops are large."""
    ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: list[Any] = []
    for reference, rows in [*waiting, *[(None, None)] * ahead]:
        if rows is not None:
            running.append(work.remote(storage, reference, rows, request))
        if running and (rows is None or len(running) >= ahead):
            (ready,), running = ray.wait(running, num_returns=1)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                raise ours(error) or error from error


def _objects(catalog: Catalog, request: CropRequest) -> pl.DataFrame:
    """Objects of all tasks with what their cells were coded with: columns of the rows, ``task``, ``score``, ``object_id``."""
    cells = catalog[request.rows].select(
        pl.col("error").is_null(),
        fields=["codec", "quality", "gop", "extent", "codec_version", "encoder_arguments", "bitstream_hash",
                "bits_per_pixel"],
    ).frame()  # fmt: skip
    if cells.filter((pl.col("extent") != "") | (pl.col("gop") != 0)).height:
        raise InvalidSetting(f"the sweep {request.rows!r} coded tiles or clips; crops are cut from whole stills only.")
    known = cells.select(
        cell="id",
        version="codec_version",
        arguments="encoder_arguments",
        hash="bitstream_hash",
        bits_per_pixel="bits_per_pixel",
    )
    found = []
    for text in request.tasks:
        task, scorer = machine_tasks.open_task(text)
        frame = catalog[f"{request.rows}_{task.name}"].select().frame()
        scores = [scorer.summarise([row])[task.main] for row in frame.iter_rows(named=True)]
        own = {name: f"{task.name}_{name}" for name in frame.columns if name not in _PLACES}
        marked = frame.rename(own).with_columns(score=pl.Series(scores, dtype=pl.Float64), task=pl.lit(task.name))
        found.append(marked.filter(pl.col("score").is_finite()))
    objects = pl.concat(found, how="diagonal").join(known, on="cell", how="inner")
    if objects.is_empty():
        raise InvalidSetting(
            f"the sweep {request.rows!r} has no objects of {', '.join(request.tasks)} that say anything."
        )
    return objects.with_columns(id=pl.concat_str("task", "id", separator="-"))


def _fields(request: CropRequest, objects: pl.DataFrame) -> list[Field]:
    arrays = [ArrayField(name, "H W C", dtypes=("uint8",), required=True) for name in ("reference", "compressed")]
    scalars = {"score": pa.float64(), "task": pa.string(), "codec": pa.string(), "quality": pa.int64()}
    scalars |= {"bits_per_pixel": pa.float64(), "image_id": pa.string()}
    scalars |= {name: pa.float64() for name in _metric_columns(request.metrics)}
    scalars |= {name: pa.float64() for name in _scores(objects.schema)}
    return [*arrays, *(ScalarField(name, kind) for name, kind in scalars.items())]


def _scores(schema: Mapping[str, Any]) -> list[str]:
    """Names of the numbers that tasks gave their objects."""
    return [
        name
        for name, kind in schema.items()
        if kind == pl.Float64 and name not in (*_PLACES, "score", "bits_per_pixel")
    ]


def _metric_columns(metrics: Sequence[str]) -> list[str]:
    return [column for name in metrics for column in image_metrics.get(name).names]


# -- in a worker -------------------------------------------------------------------------------------------------------


def _cut_picture(
    storage: Storage, reference: fragments.Reference, rows: Sequence[Mapping[str, Any]], request: CropRequest
) -> list[dict[str, Any]]:
    """Samples of all objects of a picture, each cell coded once."""
    (picture,) = pictures(fragments.read(storage, reference), "still", WHOLE)
    samples = []
    # rows are sorted by cell, and tasks mostly look at the same boxes: one cell and its crops are held at a time
    decoded: dict[str, np.ndarray] = {}
    seen: dict[tuple[float, ...], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["codec"], row["quality"])):
        if row["cell"] not in decoded:
            decoded, seen = {row["cell"]: _decoded(picture, row)}, {}
        box = tuple(row[name] for name in _boxes.COLUMNS)
        if box not in seen:
            seen[box] = _crops(picture.rgb, decoded[row["cell"]], box, request)
        samples.append({**_known(row), **seen[box]})
    return samples


def _decoded(picture: Picture, row: Mapping[str, Any]) -> np.ndarray:
    codec: Codec = codecs.get(row["codec"])
    if (codec.version(), codec.arguments) != (row["version"], row["arguments"]):
        raise InvalidSetting(
            f"the sweep used {row['codec']} {row['version']} ({row['arguments']}), and here is {codec.version()} "
            f"({codec.arguments}). Run the sweep again into another data set."
        )
    encoded = codec.encode(picture, row["quality"])
    digest = hashlib.blake2b(encoded.data, digest_size=len(row["hash"]) // 2).hexdigest()
    if digest != row["hash"]:
        raise CorruptData(
            f"image {row['image_id']!r}, {row['codec']} at {row['quality']}: the bitstream has hash {digest}, in the sweep it "
            f"had {row['hash']}. The picture or the encoder is another; run the sweep again."
        )
    return codec.decode(encoded.data, picture.size)


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a sample has from the sweep."""
    kept = ("id", "score", "task", "codec", "quality", "bits_per_pixel", "image_id")
    scores = {name: row[name] for name in row if name.startswith(f"{row['task']}_") and isinstance(row[name], float)}
    return {**{name: row[name] for name in kept}, **scores}


def _crops(reference: np.ndarray, decoded: np.ndarray, box: tuple[float, ...], request: CropRequest) -> dict[str, Any]:
    """A pair of crops and its metrics."""
    before, after = (np.ascontiguousarray(_boxes.cut(one, box, request.margin)) for one in (reference, decoded))
    return {
        **_measured(before, after, request.metrics),
        "reference": _scaled(before, request.size),
        "compressed": _scaled(after, request.size),
    }


def _measured(before: np.ndarray, after: np.ndarray, metrics: Sequence[str]) -> dict[str, float | None]:
    """Metrics of a pair of crops; null where a crop is too small for one, or its value is not finite."""
    found: dict[str, float | None] = {}
    for name in metrics:
        metric = image_metrics.get(name)
        try:
            values = np.atleast_1d(metric.compute(before, after))
        except InvalidSample:
            values = np.full(len(metric.names), np.nan)
        numbers = (float(value) if math.isfinite(value) else None for value in values)
        found |= dict(zip(metric.names, numbers, strict=True))
    return found


def _scaled(crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    cv2 = require("cv2", "scale crops")
    height, width = size
    # averaging where it shrinks, so that artefacts are not turned into others by skipping pixels
    how = cv2.INTER_AREA if crop.shape[0] > height and crop.shape[1] > width else cv2.INTER_LINEAR
    scaled: np.ndarray = cv2.resize(crop, (width, height), interpolation=how)
    return scaled


# -- subsets -----------------------------------------------------------------------------------------------------------


def make_subsets(catalog: Catalog, crops: str, into: str, *, task: str, count: int = 4, seed: int = 0) -> Source:
    """Small subsets of crops that are judged together (paper 18, Fig. 8).

    Source images are dealt into sets of ``count`` once. A sample is one crop from each image of a set, all coded by one
    codec at one quality: ``reference`` and ``compressed`` [N, H, W, 3], ``score`` and the metrics are means over them.
    ``image_id`` names the set, so that a split by it never parts an image; the paper does not say how it draws subsets.

    Args:
        catalog: the lake.
        crops: data set that :func:`make_crops` made.
        into: data set to make.
        task: whose crops.
        count: images in a subset, 2 or more.
        seed: of the dealing.

    Raises:
        InvalidSetting: there are fewer images than ``count``.
    """
    if count < 2:
        raise InvalidSetting(f"a subset has 2 crops or more; got {count}.")
    dataset = catalog[crops]
    selection = dataset.select(pl.col("task") == task)
    frame = selection.frame().with_row_index("position")
    images = np.random.default_rng(seed).permutation(frame["image_id"].unique().sort().to_list())
    if len(images) < count:
        raise InvalidSetting(f"data set {crops!r} has {len(images)} images of task {task!r}; a subset needs {count}.")
    # what is left over after the last whole set is not used: subsets of other sizes are other problems
    sets = {str(image): place // count for place, image in enumerate(images[: len(images) // count * count])}
    dealt = frame.filter(pl.col("image_id").is_in(list(sets))).with_columns(
        set=pl.col("image_id").replace_strict(sets, return_dtype=pl.Int64)
    )
    numbers = [name for name, kind in dealt.schema.items() if kind == pl.Float64]
    source = Source(crops, dataset.version)
    arrays = [ArrayField(name, "N H W C", dtypes=("uint8",), required=True) for name in ("reference", "compressed")]
    scalars = {**dict.fromkeys(("task", "codec", "image_id"), pa.string()), "quality": pa.int64()}
    scalars |= dict.fromkeys(numbers, pa.float64())
    fields: list[Field] = [*arrays, *(ScalarField(name, kind) for name, kind in scalars.items())]
    made = catalog.create(into, modality="table", fields=fields, sources=[source], description=f"subsets of {source}")

    def samples() -> Iterator[dict[str, Any]]:
        for (number, codec, quality), group in dealt.group_by("set", "codec", "quality", maintain_order=True):
            one_each = group.unique("image_id", keep="first", maintain_order=True).sort("image_id")
            if one_each.height < count:
                continue
            read = selection.read(one_each["position"].to_list())
            yield {
                "id": f"{task}-{number}-{codec}-{quality}",
                **{"task": task, "codec": codec, "quality": quality, "image_id": f"set-{number}"},
                **{name: one_each[name].mean() for name in numbers},
                **{name: np.stack(read[name]) for name in ("reference", "compressed")},
            }

    made.append(samples(), sources=[source])
    return Source(into, catalog[into].version)
