"""Rows of the sample table: brought to its columns, and found by their ids."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from sensorium.catalog.fields import storable_type
from sensorium.catalog.table import Table, TableFile
from sensorium.platform.errors import InvalidSample
from sensorium.platform.storage import Storage

__all__ = ["aligned", "find_ids", "plain_type"]

#: id columns of so many immutable files are kept, so that a writer does not read them again for each commit
_KEPT_ID_COLUMNS = 256


def find_ids(table: Table, files: Iterable[TableFile], ids: pa.ChunkedArray | pa.Array) -> set[str]:
    """Those of ``ids`` that are in ``files``; files whose range of ids cannot hold one are not opened."""
    if len(ids) == 0:
        return set()
    bounds = pc.min_max(ids).as_py()
    value_set = pa.array(ids.to_pylist(), pa.string())
    found: set[str] = set()
    for file in files:
        if file.may_hold(bounds["min"], bounds["max"]):
            column = _id_column(table.storage, table.name, file)
            found.update(column.filter(pc.is_in(column, value_set)).to_pylist())
    return found


@functools.lru_cache(maxsize=_KEPT_ID_COLUMNS)
def _id_column(storage: Storage, name: str, file: TableFile) -> pa.Array:
    column = Table(storage, name).read_file(file, ["id"]).column("id").combine_chunks()
    return column.cast(pa.string())


def aligned(rows: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """``rows`` with exactly the columns and types of the table's schema."""
    columns = []
    for column in schema:
        kind = plain_type(column.type)
        if column.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, kind))
            continue
        try:
            columns.append(rows.column(column.name).cast(kind))
        except (pa.ArrowException, ValueError) as error:
            raise InvalidSample(
                f"data set {name!r}, field {column.name!r}: values of type {rows.column(column.name).type} cannot be stored "
                f"as {kind} ({error}). Convert them, or use another field."
            ) from error
    return pa.table(dict(zip(schema.names, columns, strict=True)))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The usual type for the view types that Delta's schema reports."""
    return storable_type(kind) or kind
