"""A selection as Dask arrays: one task per stretch of samples that lie together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import dask
import dask.array as da
import numpy as np
import polars as pl

from sensorium.catalog import fragments
from sensorium.catalog.fields import ArrayField
from sensorium.catalog.payload import Payload, uniform_kind
from sensorium.platform.errors import InvalidQuery
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.fragments import Reference

__all__ = ["arrays"]

#: payload of one task
_TASK_BYTES = 64 << 20


def arrays(storage: Storage, field: ArrayField, rows: pl.DataFrame) -> da.Array | list[da.Array]:
    """The arrays of ``field`` [sample, ...], or a list of them where shapes differ.

    Raises:
        InvalidQuery: a sample has no such array.
    """
    column = rows[field.name]
    if column.null_count():
        missing = rows.filter(pl.col(field.name).is_null())["id"][0]
        raise InvalidQuery(
            f"sample {missing!r} has no {field.name!r}, and {column.null_count() - 1} more have none. "
            f"Select those that have: {field.name} is not null."
        )
    kind = uniform_kind(column)
    if kind is None:
        return [
            da.from_delayed(_read_one(storage, reference), shape=tuple(reference["shape"]), dtype=reference["dtype"])
            for reference in column.to_list()
        ]
    shape, dtype = kind
    per_task = max(1, _TASK_BYTES // max(1, math.prod(shape) * dtype.itemsize))
    places = column.struct.unnest().select(pl.struct("fragment", "array").rle_id().alias("run"))["run"]
    pieces = []
    for begin, end in _stretches(places.to_numpy(), per_task):
        part = column.slice(begin, end - begin)
        pieces.append(da.from_delayed(_read_stack(storage, part), shape=(end - begin, *shape), dtype=dtype))
    return da.concatenate(pieces)


def _stretches(runs: np.ndarray, longest: int) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches of one fragment, none longer than ``longest``."""
    edges = [0, *(np.flatnonzero(np.diff(runs)) + 1).tolist(), len(runs)]
    for first, last in pairwise(edges):
        for begin in range(first, last, longest):
            yield begin, min(begin + longest, last)


@dask.delayed(pure=True, traverse=False)  # type: ignore[untyped-decorator]
def _read_one(storage: Storage, reference: Reference) -> np.ndarray:
    return fragments.read(storage, reference)


@dask.delayed(pure=True, traverse=False)  # type: ignore[untyped-decorator]
def _read_stack(storage: Storage, references: pl.Series) -> np.ndarray:
    return np.asarray(Payload(storage, references).batch(range(len(references)), check=True))
