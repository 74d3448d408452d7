"""A selection as a Ray data set, and a Ray data set as samples.

Only rows (scalars and references) pass the driver. Payload is read, and written, in the workers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import ray
from ray.data import Datasink
from ray.data.block import BlockAccessor

from sensorium.catalog import fragments
from sensorium.catalog.columns import CheckedColumns, check_columns
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import Field
from sensorium.catalog.payload import Payload
from sensorium.catalog.table import CommitNote, Table
from sensorium.catalog.validation import check_sample
from sensorium.catalog.writing import Existing, append_rows, payload_columns, payload_rows
from sensorium.platform.errors import DuplicateSample, ours
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["SampleSink", "dataset", "packed", "read_packed", "write"]

#: payload of one block; Ray costs tens of milliseconds a block
_BLOCK_BYTES = 128 << 20
_BATCH_BYTES = 64 << 20
_BATCH = 256


def dataset(selection: Selection, storage: Storage, batch: int, *, check: bool) -> Any:
    """A ``ray.data.Dataset`` with one row per sample.

    Array fields are tensors, of varying shape where samples differ. Without an explicit order, samples come in the order
    in which they lie in storage.
    """
    arrays = [name for name in selection.fields if name in selection.declaration.arrays]
    rows = selection.rows
    if arrays and not selection.ordered:
        place = pl.col(arrays[0]).struct
        rows = rows.sort(place.field("fragment"), place.field("array"), place.field("start"), "id")
    total = sum(int(rows[name].struct.field("nbytes").sum() or 0) for name in arrays)
    groups = [_pack(rows.slice(begin, batch)) for begin in range(0, rows.height, batch)]
    cores = max(1, int(ray.cluster_resources().get("CPU", 1))) if ray.is_initialized() else 1
    blocks = max(1, min(len(groups), max(2 * cores, math.ceil(total / _BLOCK_BYTES))))
    source = ray.data.from_items([{"rows": group} for group in groups], override_num_blocks=blocks)
    return source.map_batches(
        _Read(storage, arrays, check=check), batch_size=1, batch_format="pyarrow", zero_copy_batch=True
    )


def packed(selection: Selection, batch: int) -> list[bytes]:
    """The rows of a selection, references for arrays, in parts that are cheap to send to a worker.

    A part has up to ``batch`` samples, and no more payload than a worker should hold at a time: large samples are alone.
    """
    rows = selection.rows
    arrays = [pl.col(name).struct.field("nbytes") for name in selection.fields if name in selection.declaration.arrays]
    sizes = rows.select(pl.sum_horizontal(*arrays, pl.lit(0))).to_series().to_list() if arrays else [0] * rows.height
    parts, begin, held = [], 0, 0
    for place, size in enumerate(sizes):
        if place > begin and (place - begin == batch or held + size > _BATCH_BYTES):
            parts.append(_pack(rows.slice(begin, place - begin)))
            begin, held = place, 0
        held += size
    return [*parts, _pack(rows.slice(begin))] if rows.height else parts


def read_packed(storage: Storage, arrays: Sequence[str], part: bytes) -> dict[str, list[Any]]:
    """In a worker: the samples of a part, a list per field; arrays as NumPy arrays, scalars as Python values.

    Args:
        storage: of the data set.
        arrays: names of the array fields.
        part: of :func:`packed`.
    """
    rows = _unpack(part)
    return {
        name: fragments.read_present(storage, rows.column(name).to_pylist())
        if name in arrays
        else rows.column(name).to_pylist()
        for name in rows.column_names
    }


class _Read:
    """Turns packed rows into samples, in a worker."""

    def __init__(self, storage: Storage, arrays: list[str], *, check: bool) -> None:
        self._storage, self._arrays, self._check = storage, arrays, check

    def __call__(self, batch: pa.Table) -> Iterator[dict[str, Any]]:
        for packed in batch.column("rows"):
            rows = _unpack(packed.as_py())
            columns: dict[str, Any] = {}
            for name in rows.column_names:
                if name in self._arrays:
                    references = cast("pl.Series", pl.from_arrow(rows.column(name)))
                    found = Payload(self._storage, references).batch(range(rows.num_rows), check=self._check)
                    columns[name] = found if isinstance(found, np.ndarray) else _stacked(found)
                else:
                    columns[name] = rows.column(name).combine_chunks()
            yield {name: _ray_column(column) for name, column in columns.items()}


def _ray_column(column: Any) -> Any:
    """A column in a form that Ray keeps: numbers as NumPy, everything else as objects."""
    if isinstance(column, np.ndarray):
        return column
    if pa.types.is_primitive(column.type) and column.null_count == 0 and not pa.types.is_temporal(column.type):
        return column.to_numpy(zero_copy_only=False)
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _stacked(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    """One array [sample, ...] where shapes agree, else an object array of arrays, with None where there is none."""
    present = [array for array in arrays if array is not None]
    if len(present) == len(arrays) and len({(array.shape, array.dtype) for array in present}) == 1:
        return np.stack(present)
    ragged = np.empty(len(arrays), dtype=object)
    ragged[:] = arrays
    return ragged


def _pack(rows: pl.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _unpack(content: bytes) -> pa.Table:
    with pa.ipc.open_stream(content) as stream:
        return stream.read_all()


class SampleSink(Datasink[tuple[list[pa.Table], dict[str, Field]]]):  # type: ignore[misc]
    """Appends the rows of a Ray data set as samples: tasks write fragments, the driver commits once.

    A task that is run again writes a fragment again, of which only one is committed; ``vacuum`` removes the other.
    """

    def __init__(
        self,
        storage: Storage,
        declaration: Declaration,
        note: CommitNote,
        *,
        existing: Existing,
        open_to_new: bool,
        durable: bool = True,
    ) -> None:
        self._storage, self._declaration, self._note = storage, declaration, note
        self._existing, self._open_to_new, self._durable = existing, open_to_new, durable
        self.version: int | None = None

    def write(self, blocks: Iterable[Any], ctx: Any) -> tuple[list[pa.Table], dict[str, Field]]:  # noqa: ARG002
        """In a worker: payload to storage, rows back."""
        tables: list[pa.Table] = []
        declared: dict[str, Field] = {}
        pending = []
        size = 0
        for block in blocks:
            columns = BlockAccessor.for_block(block).to_numpy()
            together = check_columns(self._declaration, columns, open_to_new=self._open_to_new) if columns else None
            if together is not None:
                self._write_columns(together, tables, declared)
                continue
            for row in BlockAccessor.for_block(block).iter_rows(public_row_format=True):
                sample = check_sample(self._declaration, row, open_to_new=self._open_to_new)
                pending.append(sample)
                size += sum(array.nbytes for array in sample.arrays.values())
                if len(pending) >= _BATCH or size >= _BATCH_BYTES:
                    self._write_batch(pending, tables, declared)
                    pending, size = [], 0
        if pending:
            self._write_batch(pending, tables, declared)
        return tables, declared

    def _write_columns(self, checked: CheckedColumns, tables: list[pa.Table], declared: dict[str, Field]) -> None:
        each = sum(stack[0].nbytes for stack in checked.arrays.values())
        step = max(1, _BATCH_BYTES // max(1, each))
        for begin in range(0, len(checked.ids), step):
            part = checked.part(slice(begin, begin + step))
            rows, found = payload_columns(self._storage, self._declaration, part, durable=self._durable)
            tables.append(rows)
            for name, field in found.items():
                declared.setdefault(name, field)

    def _write_batch(self, pending: list[Any], tables: list[pa.Table], declared: dict[str, Field]) -> None:
        rows, found = payload_rows(self._storage, self._declaration, pending, durable=self._durable)
        tables.append(rows)
        for name, field in found.items():
            declared.setdefault(name, field)

    def on_write_complete(self, write_result: Any) -> None:
        """On the driver: one commit of all rows."""
        returned = list(write_result.write_returns)
        tables = [table for tables, _ in returned for table in tables]
        declared = {name: field for _, fields in returned for name, field in fields.items()}
        empty = pa.table({"id": pa.array([], pa.string())})
        rows = pa.concat_tables(tables, promote_options="permissive") if tables else empty
        _refuse_repeats(rows, self._declaration.name)
        table = Table(self._storage.below("samples"), self._declaration.name, durable=self._durable)
        self.version = append_rows(table, rows, declared, self._note, self._existing).version


def write(ray_dataset: Any, sink: SampleSink) -> None:
    """Run a Ray write, and raise our own error where one of ours stopped it."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # Ray prints the traceback of a user's mistake; we raise it
    try:
        ray_dataset.write_datasink(sink)
    except Exception as error:
        own = ours(error)
        if own is not None:
            raise own from None
        raise
    finally:
        logger.setLevel(level)


def _refuse_repeats(rows: pa.Table, name: str) -> None:
    ids = pl.Series(rows.column("id").to_pylist(), dtype=pl.String)
    repeated = ids.filter(ids.is_duplicated())
    if len(repeated):
        raise DuplicateSample(
            f"data set {name!r}: sample {repeated.min()!r} comes twice in the Ray data set. "
            "Every id must be unique; nothing was committed."
        )
