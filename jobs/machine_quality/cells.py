"""One cell of a sweep: an image, coded by a codec at a quality, decoded, and compared with itself.

Pure functions on one image, without files, tables or a cluster. A cell becomes one row (see :func:`schema`). Its key
says everything that decides the row but time: two cells with one key have the same bytes and the same values, so a
sweep that is run again has only the keys to do that its table lacks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.jobs import codecs
from sensorium.jobs.codecs import Codec, Picture
from sensorium.jobs.image_metrics import Metric, Values
from sensorium.platform.errors import BrokenPlugin, InvalidSample, MissingDependency, SensoriumError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Cell", "content_hash", "error_rows", "evaluate_image", "key", "schema", "to_rgb8"]

_log = logging.getLogger(__name__)

#: Bytes of the hashes that go into rows and keys.
_DIGEST = 16

#: Columns that every cell knows beforehand, and those that coding measures; Arrow types. Metrics have a float64 each.
_KNOWN = {
    "id": "string",
    "image_id": "string",
    "image_hash": "string",
    "codec": "string",
    "quality": "int64",
    "encoder_arguments": "string",
    "codec_version": "string",
    "metric_definitions": "string",
    "error": "string",
}
_MEASURED = {
    "height": "int64",
    "width": "int64",
    "bytes_total": "int64",
    "bytes_payload": "int64",
    "bits_per_pixel": "float64",
    "bitstream_hash": "string",
    "encode_cpu_s": "float64",
    "decode_cpu_s": "float64",
    "metric_cpu_s": "float64",
}


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        image_hash: of the image's content; :func:`content_hash`, or any other that changes with the pixels.
        codec: its name.
        quality: on the codec's own scale.
    """

    image_hash: str
    codec: str
    quality: int


def key(cell: Cell, metrics: Iterable[Metric], lookup: Callable[[str], Codec] = codecs.get) -> str:
    """What identifies a cell's row: 32 hexadecimal digits, the same on every machine.

    A hash of the image's content, codec, quality, encoder settings, versions of encoder and decoder, and the
    definitions of the metrics in any order.
    """
    codec = lookup(cell.codec)
    parts = [cell.image_hash, cell.codec, cell.quality, codec.arguments, codec.version(), _definitions(metrics)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=_DIGEST).hexdigest()


def content_hash(image: np.ndarray) -> str:
    """Hash of an image's shape, type and samples: 32 hexadecimal digits."""
    digest = hashlib.blake2b(f"{image.shape} {image.dtype.newbyteorder('<').str}".encode(), digest_size=_DIGEST)
    digest.update(np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def schema(metrics: Iterable[Metric]) -> pa.Schema:
    """Arrow schema of a row.

    =====================  ==================================================================================
    ``id``                 the key
    ``image_id``           of the sample in its data set
    ``image_hash``         of the sample's content
    ``codec, quality``     as asked for; with ``encoder_arguments`` and ``codec_version`` all that makes the bytes
    ``metric_definitions`` JSON object, metric's name to its definition
    ``height, width``      pixels
    ``bytes_total``        the whole bitstream; ``bytes_payload`` without parameter sets and headers
    ``bits_per_pixel``     of the payload: headers of several hundred bytes would decide comparisons of small images
    ``bitstream_hash``     of the whole bitstream; the same whenever the cell is run again
    ``encode_cpu_s``       CPU seconds of this thread, conversion of colour included; also ``decode_cpu_s``, and
                           ``metric_cpu_s`` for all metrics together
    one for each metric    its value; null where it is not a finite number
    ``error``              null, or why the cell failed; then everything measured is null
    =====================  ==================================================================================

    Raises:
        BrokenPlugin: a metric has the name of another column.
    """
    import pyarrow as pa

    columns = {**_KNOWN, **_MEASURED}
    for name in (name for metric in metrics for name in metric.names):
        if name in columns:
            raise BrokenPlugin(f"a metric has the name of another column of the table, {name!r}. Rename the metric.")
        columns[name] = "float64"
    return pa.schema([(name, pa.type_for_alias(alias)) for name, alias in columns.items()])


def to_rgb8(image: np.ndarray) -> np.ndarray:
    """An image of the catalog as codecs take it: [H, W, 3], RGB, uint8, contiguous.

    * samples: uint8 as they are; uint16 divided by 257 and rounded (65535 to 255); floating point, in [0, 1], times 255
      and rounded;
    * channels: grey ([H, W] or [H, W, 1]) is repeated; RGBA is laid over black, so that what no viewer would show does
      not cost bits.

    Raises:
        InvalidSample: anything else, and floating-point samples outside [0, 1].
    """
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise InvalidSample(f"an image to code must be grey, RGB or RGBA and not empty; got shape {image.shape}.")
    samples = _to_8_bits(image)
    channels = samples.shape[2]
    if channels == 1:
        samples = np.repeat(samples, 3, axis=2)
    elif channels == 4:
        covered = samples[..., :3].astype(np.uint16) * samples[..., 3:]
        samples = ((covered + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(samples)


def _to_8_bits(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.uint16:
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if samples.dtype.kind == "f":
        if not (samples.min() >= 0 and samples.max() <= 1):  # so written, NaN is refused too
            raise InvalidSample(
                f"floating-point images must lie in [0, 1]; got {samples.min()} to {samples.max()}. Scale them first."
            )
        return np.rint(samples.astype(np.float64) * 255).astype(np.uint8)
    raise InvalidSample(
        f"an image to code must be uint8, uint16 or floating point; got {samples.dtype}. Convert it first."
    )


def evaluate_image(
    image: np.ndarray,
    cells: Iterable[Cell],
    metrics: Sequence[Metric],
    *,
    image_id: str,
    lookup: Callable[[str], Codec] = codecs.get,
) -> Iterator[dict[str, Any]]:
    """Code, decode and compare one image; one row per cell, in the order of ``cells``.

    Whatever goes wrong in a cell becomes that row's ``error`` and does not touch the others. Faults that are not of
    Sensorium's own kinds are also logged with their traceback.

    Args:
        image: any that :func:`to_rgb8` takes; if it takes it not, all rows are errors.
        cells: of this image.
        metrics: all computed for every cell.
        image_id: of the sample, for the rows.
        lookup: codec of a name.

    Raises:
        UnknownPlugin: there is no such codec.
        MissingDependency: a codec or metric is not installed completely: that is no property of a cell.
    """
    cells = list(cells)
    try:
        picture = Picture.of(to_rgb8(image))
    except InvalidSample as error:
        yield from error_rows(cells, metrics, error, image_id=image_id, lookup=lookup)
        return
    for cell in cells:
        row = _blank(cell, metrics, image_id, lookup)
        row["height"], row["width"] = picture.size
        try:
            row |= _measure(picture, lookup(cell.codec), cell.quality, metrics)
        except MissingDependency:
            raise
        except Exception as error:  # noqa: BLE001 - the row carries it; one bad cell must not cost its neighbours
            if not isinstance(error, SensoriumError):
                _log.exception("%s at %s failed on image %r", cell.codec, cell.quality, image_id)
            row["error"] = _describe(error)
        yield row


def error_rows(
    cells: Iterable[Cell],
    metrics: Sequence[Metric],
    error: Exception,
    *,
    image_id: str,
    lookup: Callable[[str], Codec] = codecs.get,
) -> Iterator[dict[str, Any]]:
    """Rows of an image that could not even be read: each cell with the same error, everything measured null."""
    for cell in cells:
        yield _blank(cell, metrics, image_id, lookup) | {"error": _describe(error)}


def _measure(picture: Picture, codec: Codec, quality: int, metrics: Sequence[Metric]) -> dict[str, Any]:
    """What coding and comparing one image yields."""
    rgb, (height, width) = picture.rgb, picture.size
    started = time.thread_time()
    encoded = codec.encode(picture, quality)
    encoded_at = time.thread_time()
    decoded = codec.decode(encoded.data, (height, width))
    decoded_at = time.thread_time()
    if decoded.shape != rgb.shape or decoded.dtype != rgb.dtype:
        raise BrokenPlugin(
            f"codec {codec.name!r} decodes an image of shape {rgb.shape}, {rgb.dtype}, "
            f"to {decoded.shape}, {decoded.dtype}. Repair the codec."
        )
    values = {name: value for metric in metrics for name, value in _named(metric, metric.compute(rgb, decoded))}
    compared_at = time.thread_time()
    return {
        "bytes_total": len(encoded.data),
        "bytes_payload": encoded.payload,
        "bits_per_pixel": 8 * encoded.payload / (height * width),
        "bitstream_hash": hashlib.blake2b(encoded.data, digest_size=_DIGEST).hexdigest(),
        "encode_cpu_s": encoded_at - started,
        "decode_cpu_s": decoded_at - encoded_at,
        "metric_cpu_s": compared_at - decoded_at,
        **values,
    }


def _blank(cell: Cell, metrics: Sequence[Metric], image_id: str, lookup: Callable[[str], Codec]) -> dict[str, Any]:
    """The row of a cell before anything is measured."""
    codec = lookup(cell.codec)
    known = {
        "id": key(cell, metrics, lookup),
        "image_id": image_id,
        "image_hash": cell.image_hash,
        "codec": cell.codec,
        "quality": cell.quality,
        "encoder_arguments": codec.arguments,
        "codec_version": codec.version(),
        "metric_definitions": _definitions(metrics),
        "error": None,
    }
    return known | dict.fromkeys(_MEASURED) | {name: None for metric in metrics for name in metric.names}


def _named(metric: Metric, values: Values) -> Iterator[tuple[str, float | None]]:
    """A metric's numbers with the names of their columns."""
    several = list(values) if isinstance(values, Sequence) else [values]
    if len(several) != len(metric.names):
        raise BrokenPlugin(
            f"metric {metric.name!r} promises {len(metric.names)} numbers and gave {len(several)}. Repair the metric."
        )
    yield from zip(metric.names, map(_finite, several), strict=True)


def _finite(value: float) -> float | None:
    """``value`` as a plain number; None for NaN and infinity, which JSON cannot hold and means cannot survive."""
    return float(value) if math.isfinite(value) else None


def _definitions(metrics: Iterable[Metric]) -> str:
    return json.dumps({metric.name: metric.definition for metric in metrics}, sort_keys=True)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
