"""A selection as Dask arrays: one task per stretch of samples that lie together."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import dask
import dask.array as da
import numpy as np
import polars as pl

from sensorium.catalog import fragments
from sensorium.catalog.fields import ArrayField
from sensorium.platform.errors import InvalidQuery
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.fragments import Reference

__all__ = ["arrays", "uniform_shape"]

#: payload of one task
_TASK_BYTES = 64 << 20


def uniform_shape(rows: pl.DataFrame, field: str) -> tuple[tuple[int, ...], np.dtype] | None:
    """Shape and dtype that all samples share in ``field``; None where they differ or one has none."""
    column = rows[field]
    if column.null_count() or rows.is_empty():
        return None
    kinds = column.struct.unnest().select("shape", "dtype").unique()
    if kinds.height != 1:
        return None
    return tuple(kinds["shape"][0]), np.dtype(kinds["dtype"][0])


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
    references: list[Reference] = column.to_list()
    kind = uniform_shape(rows, field.name)
    if kind is None:
        return [
            da.from_delayed(_read_one(storage, reference), shape=tuple(reference["shape"]), dtype=reference["dtype"])
            for reference in references
        ]
    shape, dtype = kind
    per_task = max(1, _TASK_BYTES // max(1, references[0]["nbytes"]))
    pieces = []
    for _, members in groupby(references, key=lambda reference: (reference["fragment"], reference["array"])):
        together = list(members)
        for begin in range(0, len(together), per_task):
            part = together[begin : begin + per_task]
            pieces.append(da.from_delayed(_read_stack(storage, part), shape=(len(part), *shape), dtype=dtype))
    return da.concatenate(pieces)


@dask.delayed(pure=True, traverse=False)  # type: ignore[untyped-decorator]
def _read_one(storage: Storage, reference: Reference) -> np.ndarray:
    return fragments.read(storage, reference)


@dask.delayed(pure=True, traverse=False)  # type: ignore[untyped-decorator]
def _read_stack(storage: Storage, references: list[Reference]) -> np.ndarray:
    return np.stack(fragments.read_many(storage, references))
