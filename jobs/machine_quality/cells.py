"""One cell of a sweep: a picture or clip, coded at a quality, decoded, and compared with itself.

Pure functions on pictures, without files, tables or a cluster. A cell becomes one row (see :func:`schema`). Its key
says everything that decides the row but time: two cells with one key have the same bytes and the same values, so a
sweep that is run again has only the keys to do that its table lacks.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.jobs import codecs, image_metrics, machine_tasks
from sensorium.jobs.codecs import Codec, Encoded, Picture
from sensorium.jobs.image_metrics import Metric, Values
from sensorium.jobs.machine_quality.material import WHOLE, Extent
from sensorium.jobs.machine_tasks import Scorer, Task
from sensorium.jobs.subprocesses import cpu_seconds
from sensorium.platform.errors import BrokenPlugin, InvalidSetting, MissingDependency, SensoriumError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Cell",
    "Measures",
    "Result",
    "Subject",
    "blank",
    "content_hash",
    "decode",
    "encode",
    "evaluate",
    "failed",
    "key",
    "object_columns",
    "schema",
]

_log = logging.getLogger(__name__)

#: Bytes of the hashes that go into rows and keys.
_DIGEST = 16
#: decoded pictures that are held at a time, so that metrics can look at several together
_HELD_BYTES = 256 << 20

#: Columns that every cell knows beforehand, and those that coding measures; Arrow types. Metrics have a float64 each.
_KNOWN = {
    "id": "string",
    "image_id": "string",
    "image_hash": "string",
    "extent": "string",
    "codec": "string",
    "quality": "int64",
    "gop": "int64",
    "encoder_arguments": "string",
    "codec_version": "string",
    "metric_definitions": "string",
    "error": "string",
}
_MEASURED = {
    "height": "int64",
    "width": "int64",
    "frames": "int64",
    "bytes_total": "int64",
    "bytes_payload": "int64",
    "bits_per_pixel": "float64",
    "bitstream_hash": "string",
    "encode_cpu_s": "float64",
    "decode_cpu_s": "float64",
    "metric_cpu_s": "float64",
    "task_cpu_s": "float64",
}


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        image_hash: of the sample's content; :func:`content_hash`, or any other that changes with the pixels.
        codec: its name.
        quality: on the codec's own scale.
        gop: a key frame every so many frames, 1 for intra coding; 0 for stills.
        extent: the part of the sample that is coded.
    """

    image_hash: str
    codec: str
    quality: int
    gop: int = 0
    extent: Extent = WHOLE


@dataclass(frozen=True)
class Measures:
    """What is measured on every cell.

    Attributes:
        metrics: of decoded pictures.
        tasks: with their scorers.
    """

    metrics: tuple[Metric, ...]
    tasks: tuple[tuple[Task, Scorer], ...] = ()

    @classmethod
    def open(cls, metrics: Iterable[str], tasks: Iterable[str] = ()) -> Measures:
        """The installed metrics and tasks of these names."""
        opened = tuple(machine_tasks.open_task(text) for text in tasks)
        return cls(tuple(image_metrics.get(name) for name in metrics), opened)

    @functools.cached_property
    def definitions(self) -> str:
        """JSON object, name of each metric and task to its definition."""
        found = {metric.name: metric.definition for metric in self.metrics}
        found |= {task.name: scorer.definition for task, scorer in self.tasks}
        return json.dumps(found, sort_keys=True)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers of a cell."""
        of_tasks = (f"{task.name}_{name}" for task, scorer in self.tasks for name in scorer.summary)
        return (*(name for metric in self.metrics for name in metric.names), *of_tasks)


@dataclass(frozen=True)
class Subject:
    """What cells are run on.

    Attributes:
        image_id: of the sample, for the rows.
        pictures: one of a still, or the frames of a clip, all of one size.
        labels: fields of the sample that tasks look at.
        temporal: the pictures follow each other in time; bands of a cube do not.
    """

    image_id: str
    pictures: Sequence[Picture]
    labels: Mapping[str, Any]
    temporal: bool = False


@dataclass(frozen=True)
class Result:
    """What a cell gave.

    Attributes:
        row: by :func:`schema`.
        objects: rows of each task's objects, by the task's name.
    """

    row: dict[str, Any]
    objects: dict[str, list[dict[str, Any]]]


Lookup = Callable[[str], Codec]


def key(cell: Cell, measures: Measures, lookup: Lookup = codecs.get) -> str:
    """What identifies a cell's row: 32 hexadecimal digits, the same on every machine.

    A hash of the sample's content, the part that is coded, codec, quality, encoder settings, versions of encoder and
    decoder, and the definitions of metrics and tasks in any order.
    """
    return keyed(cell.codec, cell.quality, cell.gop, measures, lookup)(cell.image_hash, cell.extent.text)


def keyed(
    codec_name: str, quality: int, gop: int, measures: Measures, lookup: Lookup = codecs.get
) -> Callable[[str, str], str]:
    """:func:`key` of one point of the grid, for millions of samples: a function of a sample's hash and its extent's text."""
    codec = lookup(codec_name)
    point = json.dumps([codec_name, quality, gop, _arguments(codec, gop), codec.version(), measures.definitions])

    def of(image_hash: str, extent: str) -> str:
        text = f"{json.dumps([image_hash, extent])[:-1]}, {point[1:]}"
        return hashlib.blake2b(text.encode(), digest_size=_DIGEST).hexdigest()

    return of


def content_hash(image: np.ndarray) -> str:
    """Hash of an image's shape, type and samples: 32 hexadecimal digits."""
    digest = hashlib.blake2b(f"{image.shape} {image.dtype.newbyteorder('<').str}".encode(), digest_size=_DIGEST)
    digest.update(np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def schema(measures: Measures) -> pa.Schema:
    """Arrow schema of a row.

    =====================  ==================================================================================
    ``id``                 the key
    ``image_id``           of the sample in its data set
    ``image_hash``         of the sample's content
    ``extent``             tile (top, left, height, width) and frames that were coded; empty for a whole still
    ``codec, quality``     as asked for; with ``gop``, ``encoder_arguments``, ``codec_version`` all that makes the bytes
    ``metric_definitions`` JSON object, name of each metric and task to its definition
    ``height, width``      pixels; ``frames`` that were coded
    ``bytes_total``        the whole bitstream; ``bytes_payload`` without parameter sets and headers
    ``bits_per_pixel``     of the payload: headers of several hundred bytes would decide comparisons of small images
    ``bitstream_hash``     of the whole bitstream; the same whenever the cell is run again
    ``encode_cpu_s``       CPU seconds of this thread and of programs it ran; also ``decode_cpu_s`` (conversion to RGB
                           included), ``metric_cpu_s`` and ``task_cpu_s`` for all metrics, and all tasks, together.
                           Pictures are converted to the codecs' planes once for all cells, which no cell counts
    one for each metric    its value; null where it is not a finite number. Also each number of a task
    ``error``              null, or why the cell failed; then everything measured is null
    =====================  ==================================================================================

    Raises:
        BrokenPlugin: a metric has the name of another column.
    """
    import pyarrow as pa

    columns = {**_KNOWN, **_MEASURED}
    for name in measures.columns:
        if name in columns:
            raise BrokenPlugin(f"a metric has the name of another column of the table, {name!r}. Rename the metric.")
        columns[name] = "float64"
    return pa.schema([(name, pa.type_for_alias(alias)) for name, alias in columns.items()])


def evaluate(
    subject: Subject, cells: Iterable[Cell], measures: Measures, *, lookup: Lookup = codecs.get
) -> Iterator[Result]:
    """Code, decode and compare one subject; one result per cell, in the order of ``cells``.

    Whatever goes wrong in a cell becomes that row's ``error`` and does not touch the others. Faults that are not of
    Sensorium's own kinds are also logged with their traceback.

    Raises:
        UnknownPlugin: there is no such codec.
        MissingDependency: a codec or metric is not installed completely: that is no property of a cell.
    """
    cells = list(cells)
    size = sum(picture.rgb.nbytes for picture in subject.pictures)
    at_once = max(1, _HELD_BYTES // max(1, size))
    prepared = _Prepared(subject, measures)
    for start in range(0, len(cells), at_once):
        yield from _evaluate_some(subject, cells[start : start + at_once], measures, prepared, lookup)


def failed(cell: Cell, measures: Measures, error: Exception, *, image_id: str, lookup: Lookup = codecs.get) -> Result:
    """The result of a cell that could not even be begun: everything measured is null."""
    return Result(blank(cell, measures, image_id, lookup) | {"error": _describe(error)}, {})


def blank(cell: Cell, measures: Measures, image_id: str, lookup: Lookup = codecs.get) -> dict[str, Any]:
    """The row of a cell before anything is measured."""
    codec = lookup(cell.codec)
    known = {
        "id": key(cell, measures, lookup),
        "image_id": image_id,
        "image_hash": cell.image_hash,
        "extent": cell.extent.text,
        "codec": cell.codec,
        "quality": cell.quality,
        "gop": cell.gop,
        "encoder_arguments": _arguments(codec, cell.gop),
        "codec_version": codec.version(),
        "metric_definitions": measures.definitions,
        "error": None,
    }
    return known | dict.fromkeys((*_MEASURED, *measures.columns))


# -- one cell after the other ------------------------------------------------------------------------------------------


class _Prepared:
    """What each task prepares of the references: once for all cells, and only where one gets so far."""

    def __init__(self, subject: Subject, measures: Measures) -> None:
        self._subject, self._measures = subject, measures
        self._found: dict[str, list[Any]] = {}

    def of(self, task: Task, scorer: Scorer) -> list[Any]:
        """What ``scorer`` prepared, by frame."""
        if task.name not in self._found:
            labels = {name: self._subject.labels.get(name) for name in task.fields}
            self._found[task.name] = [scorer.prepare(picture.rgb, labels) for picture in self._subject.pictures]
        return self._found[task.name]


def _evaluate_some(
    subject: Subject, cells: Sequence[Cell], measures: Measures, prepared: _Prepared, lookup: Lookup
) -> Iterator[Result]:
    """Cells whose decoded pictures are held at once."""
    height, width = subject.pictures[0].size
    size = {"height": height, "width": width, "frames": len(subject.pictures)}
    rows = [blank(cell, measures, subject.image_id, lookup) | size for cell in cells]
    decoded: dict[int, list[np.ndarray]] = {}
    for index, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        with _caught(row, subject.image_id):
            measured, pictures = _coded(subject.pictures, cell, lookup(cell.codec))
            row |= measured
            decoded[index] = pictures
    _measure(subject, rows, decoded, measures.metrics)
    for index, row in enumerate(rows):
        objects: dict[str, list[dict[str, Any]]] = {}
        if row["error"] is None and measures.tasks:
            with _caught(row, subject.image_id):
                objects = _tasks(row, decoded[index], measures, prepared)
        if row["error"] is not None:
            row |= dict.fromkeys(name for name in (*_MEASURED, *measures.columns) if name not in size)
            objects = {}
        decoded.pop(index, None)
        yield Result(row, objects)


class _caught:  # noqa: N801 - reads as a statement
    """Whatever goes wrong inside becomes the row's error."""

    def __init__(self, row: dict[str, Any], image_id: str) -> None:
        self._row, self._image = row, image_id

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        """Keep what a cell can be blamed for."""
        if error is None:
            return False
        if isinstance(error, MissingDependency) or not isinstance(error, Exception):
            return False
        if not isinstance(error, SensoriumError):
            _log.error(
                "%s at %s failed on image %r", self._row["codec"], self._row["quality"], self._image, exc_info=error
            )
        self._row["error"] = _describe(error)
        return True


def _coded(pictures: Sequence[Picture], cell: Cell, codec: Codec) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What coding and decoding one cell yields, and the decoded pictures [H, W, 3]."""
    height, width = pictures[0].size
    started = cpu_seconds()
    encoded = encode(pictures, codec, cell.quality, cell.gop)
    encoded_at = cpu_seconds()
    decoded = decode([one.data for one in encoded], (height, width), codec, cell.gop, len(pictures))
    decoded_at = cpu_seconds()
    for picture in decoded:
        if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
            raise BrokenPlugin(
                f"codec {codec.name!r} decodes an image of shape {(height, width, 3)}, uint8, "
                f"to {picture.shape}, {picture.dtype}. Repair the codec."
            )
    total = sum(len(one.data) for one in encoded)
    payload = sum(one.payload for one in encoded)
    digest = hashlib.blake2b(b"".join(one.data for one in encoded), digest_size=_DIGEST)
    measured = {
        "bytes_total": total,
        "bytes_payload": payload,
        "bits_per_pixel": 8 * payload / (height * width * len(pictures)),
        "bitstream_hash": digest.hexdigest(),
        "encode_cpu_s": encoded_at - started,
        "decode_cpu_s": decoded_at - encoded_at,
        "metric_cpu_s": 0.0,
        "task_cpu_s": 0.0,
    }
    return measured, decoded


def encode(pictures: Sequence[Picture], codec: Codec, quality: int, gop: int) -> list[Encoded]:
    """One stream of a still or a clip; of a codec without clips, one for each frame.

    Raises:
        InvalidSetting: frames are to be predicted from each other by a codec that cannot.
    """
    if gop and codec.clips is not None:
        return [codec.clips.encode(pictures, quality, gop)]
    if gop > 1:
        raise InvalidSetting(f"codec {codec.name!r} codes single pictures only: leave it out, or ask for --gop 1.")
    return [codec.encode(picture, quality) for picture in pictures]


def decode(streams: Sequence[bytes], size: tuple[int, int], codec: Codec, gop: int, count: int) -> list[np.ndarray]:
    """The ``count`` pictures [H, W, 3], RGB, uint8, of what :func:`encode` made of them."""
    if gop and codec.clips is not None:
        decoded = codec.clips.decode(streams[0], size, count)
        if len(decoded) != count:
            raise BrokenPlugin(f"codec {codec.name!r} decodes {count} frames to {len(decoded)}. Repair the codec.")
        return decoded
    return [codec.decode(stream, size) for stream in streams]


def _measure(
    subject: Subject, rows: Sequence[dict[str, Any]], decoded: Mapping[int, list[np.ndarray]], metrics: Sequence[Metric]
) -> None:
    """Fill in the metrics of the cells that were coded."""
    references = [picture.rgb for picture in subject.pictures]
    for metric in metrics:
        good = [index for index in decoded if rows[index]["error"] is None]
        together = _together(metric, references, [decoded[index] for index in good])
        for place, index in enumerate(good):
            row = rows[index]
            with _caught(row, subject.image_id):
                if together is None:
                    started = cpu_seconds()
                    values = _compared(metric, references, decoded[index], temporal=subject.temporal)
                    spent = cpu_seconds() - started
                else:
                    values, spent = together[0][place], together[1]
                row |= _named(metric, values)
                row["metric_cpu_s"] += spent


def _together(
    metric: Metric, references: Sequence[np.ndarray], decoded: Sequence[Sequence[np.ndarray]]
) -> tuple[list[Values], float] | None:
    """Values of all cells at once and the CPU seconds of each; None where they have to be computed one by one."""
    if metric.many is None or len(references) != 1 or len(decoded) < 2:
        return None
    started = cpu_seconds()
    try:
        values = metric.many(references[0], [pictures[0] for pictures in decoded])
    except MissingDependency:
        raise
    except Exception:  # noqa: BLE001 - one bad picture must not cost the others: each is tried by itself
        return None
    if len(values) != len(decoded):
        raise BrokenPlugin(f"metric {metric.name!r} gave {len(values)} values for {len(decoded)} pictures. Repair it.")
    return values, (cpu_seconds() - started) / len(decoded)


def _compared(
    metric: Metric, references: Sequence[np.ndarray], decoded: Sequence[np.ndarray], *, temporal: bool
) -> Values:
    """A metric's numbers of one cell; of a clip, the mean over its frames where the metric does not look at time."""
    if len(references) == 1:
        return metric.compute(references[0], decoded[0])
    if temporal and metric.clip is not None:
        return metric.clip(references, decoded)
    found = [metric.compute(one, other) for one, other in zip(references, decoded, strict=True)]
    return [float(value) for value in np.mean(np.atleast_2d(np.array(found, np.float64).reshape(len(found), -1)), 0)]


def _tasks(
    row: dict[str, Any], decoded: Sequence[np.ndarray], measures: Measures, prepared: _Prepared
) -> dict[str, list[dict[str, Any]]]:
    """Fill in the numbers of the tasks; the rows of their objects."""
    started = cpu_seconds()
    objects: dict[str, list[dict[str, Any]]] = {}
    for task, scorer in measures.tasks:
        found = [
            {"frame": frame, **scored}
            for frame, (truth, picture) in enumerate(zip(prepared.of(task, scorer), decoded, strict=True))
            for scored in scorer.score(truth, picture)
        ]
        summary = scorer.summarise(found)
        row |= {f"{task.name}_{name}": _finite(summary[name]) for name in scorer.summary}
        known = {name: row[name] for name in ("image_id", "extent", "codec", "quality", "gop")}
        objects[task.name] = [
            {"id": f"{row['id']}-{number}", "cell": row["id"], **known, "object": number, **scored}
            for number, scored in enumerate(found)
        ]
    row["task_cpu_s"] = cpu_seconds() - started
    return objects


def object_columns(scorer: Scorer) -> dict[str, str]:
    """Arrow types of the columns of a task's objects, by name; the task's own last."""
    known = {"id": "string", "cell": "string", "image_id": "string", "extent": "string", "codec": "string"}
    return {**known, "quality": "int64", "gop": "int64", "object": "int64", "frame": "int64", **scorer.columns}


def _named(metric: Metric, values: Values) -> dict[str, float | None]:
    """A metric's numbers with the names of their columns."""
    several = list(values) if isinstance(values, Sequence) else [values]
    if len(several) != len(metric.names):
        raise BrokenPlugin(
            f"metric {metric.name!r} promises {len(metric.names)} numbers and gave {len(several)}. Repair the metric."
        )
    return dict(zip(metric.names, map(_finite, several), strict=True))


def _finite(value: float) -> float | None:
    """``value`` as a plain number; None for NaN and infinity, which JSON cannot hold and means cannot survive."""
    return float(value) if math.isfinite(value) else None


def _arguments(codec: Codec, gop: int) -> str:
    return codec.clips.arguments if gop and codec.clips is not None else codec.arguments


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
