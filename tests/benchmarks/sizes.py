"""Codecs and chunks, measured on real samples: what the defaults of the modalities rest on.

``SAMPLE_LAKE=path python -m tests.benchmarks sizes``, on a lake made by ``make sample-lake DATA=…``.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sensorium.catalog import Catalog, fragments
from sensorium.catalog.fields import ArrayField
from sensorium.platform.storage import Storage
from sensorium.platform.tables import markdown

ROUNDS = 5
_MOST_BYTES = 128 << 20
_CODECS = ("none", "zstd", "blosc")
_LIMITS = (256 << 10, 1 << 20, 4 << 20, 16 << 20)
#: a part of a sample as somebody would want it: along each axis at most so much
_PART = {
    "image": (224, 224, 3),
    "cube": (16, 16, 10_000),
    "volume": (64, 64, 64),
    "audio": (16_000,),
    "signal": (64, 1000),
}


def cut(shape: Sequence[int], itemsize: int, limit: int) -> tuple[int, ...]:
    """The longest axes halved until a chunk has ``limit`` bytes at most."""
    chunk = list(shape)
    while math.prod(chunk) * itemsize > limit:
        longest = chunk.index(max(chunk))
        chunk[longest] = math.ceil(chunk[longest] / 2)
    return tuple(chunk)


def median_seconds(action: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measured(folder: Path, field: ArrayField, arrays: Sequence[np.ndarray], part: Sequence[int]) -> list[str]:
    """Size on disk, speeds of writing and of reading at random, and the time for a part."""
    storage = Storage.at(folder)
    nbytes = sum(array.nbytes for array in arrays)
    begun = time.perf_counter()
    references = [
        row[field.name] for row in fragments.write(storage, [{field.name: a} for a in arrays], {field.name: field})
    ]
    written = time.perf_counter() - begun
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    random = np.random.default_rng(0)
    order = random.permutation(len(arrays))
    read = median_seconds(lambda: [fragments.read_many(storage, [references[i]], check=False) for i in order])

    def parts() -> None:
        for index in order[:20]:
            shape = arrays[index].shape
            begin = [int(random.integers(0, max(1, size - want + 1))) for size, want in zip(shape, part, strict=True)]
            key = tuple(slice(low, low + want) for low, want in zip(begin, part, strict=True))
            fragments.read_part(storage, references[index], key)

    each = median_seconds(parts) / min(20, len(order))
    speeds = [f"{nbytes / seconds / 1e6:,.0f}" for seconds in (written, read)]
    return [f"{stored / nbytes:.2f}", *speeds, f"{1e3 * each:.2f}"]


def sizes(folder: Path) -> None:
    """A table per field of the sample lake that has parts worth reading."""
    place = os.environ.get("SAMPLE_LAKE")
    if not place:
        sys.stdout.write("sizes: name a lake of real samples in SAMPLE_LAKE\n")
        return
    catalog = Catalog(place)
    for name in catalog.datasets()["name"]:
        dataset = catalog[name]
        for field in dataset.declaration.arrays.values():
            if field.name not in _PART:
                continue
            arrays: list[np.ndarray] = []
            for sample in dataset.select(fields=[field.name]):
                if sum(array.nbytes for array in arrays) < _MOST_BYTES and field.name in sample:
                    arrays.append(sample[field.name])
            if arrays and arrays[0].ndim == len(_PART[field.name]):
                show(folder, name, field, arrays)


def show(folder: Path, name: str, field: ArrayField, arrays: Sequence[np.ndarray]) -> None:
    """Measure and print one field."""
    part = _PART[field.name]
    rows = []
    largest = max(arrays, key=lambda array: array.nbytes)
    limits = [limit for limit in _LIMITS if limit < largest.nbytes]
    for codec in _CODECS:
        for limit in (*limits, 0):
            chunk = cut(largest.shape, largest.itemsize, limit) if limit else largest.shape
            axes = dict(zip(field.axes(largest.ndim), chunk, strict=True))
            tried = replace(field, codec=codec, chunk=axes)
            label = "sample" if not limit else " × ".join(map(str, chunk))
            rows.append([codec, label, *measured(folder / f"{name}-{codec}-{limit}", tried, arrays, part)])
    nbytes = sum(array.nbytes for array in arrays)
    wanted = " × ".join(map(str, part))
    sys.stdout.write(f"\n{name}, {field.name}: {len(arrays)} samples, {nbytes / 1e6:.0f} MB, parts of {wanted}\n\n")
    header = ["codec", "chunk", "stored", "write, MB/s", "samples at random, MB/s", "a part, ms"]
    sys.stdout.write(markdown(header, rows) + "\n")
    sys.stdout.flush()
