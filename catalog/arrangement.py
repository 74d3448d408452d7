"""In which order the rows of a table file lie: by id, or so that a filter on some columns can pass over most files."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from sensorium.catalog.declaration import Declaration
from sensorium.platform.errors import InvalidSetting

__all__ = ["PROPERTY", "arranged", "check_columns", "declared_columns", "parts"]

#: of a sample table: the columns that a compaction sorts by
PROPERTY = "sensorium.cluster"
#: rows of a file; files that shall be passed over are smaller
_ROWS, _CLUSTERED_ROWS = 262_144, 65_536
#: bits of each column in the place on the curve; four columns fill 64 bits
_BITS = 16
_MOST_COLUMNS = 4


def declared_columns(table: DeltaTable) -> list[str]:
    """The columns that this version of the table is to be sorted by; none for the id."""
    return list(json.loads(table.metadata().configuration.get(PROPERTY) or "[]"))


def check_columns(declaration: Declaration, columns: Sequence[str]) -> None:
    """Refuse columns that rows cannot be sorted by.

    Raises:
        UnknownField: there is no such field.
        InvalidSetting: it is an array, a list or a structure, comes twice, or there are too many.
    """
    if len(columns) > _MOST_COLUMNS or len(set(columns)) < len(columns):
        raise InvalidSetting(
            f"data set {declaration.name!r}: cluster takes up to {_MOST_COLUMNS} different fields; got {', '.join(columns)}."
        )
    for name in columns:
        declaration.require(name) if name != "id" else None
        field = declaration.scalars.get(name)
        if name != "id" and (field is None or pa.types.is_nested(field.type)):
            raise InvalidSetting(
                f"data set {declaration.name!r}: rows cannot be clustered by field {name!r}, which is no plain value. "
                "Name fields that hold numbers, texts or times."
            )


def arranged(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """``rows`` by id; by one column; or, for several, along a Z-order curve, near in each of them."""
    if not columns:
        return rows.sort_by("id")
    keys = pl.DataFrame({name: pl.Series(rows.column(name)) for name in {*columns, "id"}})
    if len(columns) == 1:
        order = keys.with_row_index("row").sort([columns[0], "id"], nulls_last=True)["row"]
    else:
        order = keys.with_columns(place=_places(keys, columns)).with_row_index("row").sort(["place", "id"])["row"]
    return rows.take(pa.array(order.to_numpy()))


def parts(rows: pa.Table, columns: Sequence[str]) -> list[pa.Table]:
    """``rows``, arranged, in parts that are a file each."""
    most = _CLUSTERED_ROWS if columns else _ROWS
    ordered = arranged(rows, columns)
    return [ordered.slice(begin, most) for begin in range(0, ordered.num_rows, most)]


def _places(keys: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Place of each row on the Z-order curve: the bits of the columns' ranks, interleaved."""
    codes = np.zeros(keys.height, np.uint64)
    for position, name in enumerate(columns):
        ranks = keys[name].rank("dense").fill_null(0).cast(pl.Float64)
        last = ranks.max()
        highest = float(last) if isinstance(last, (int, float)) and last else 1.0
        scaled = (ranks / highest * (2**_BITS - 1)).cast(pl.UInt64).to_numpy()
        for bit in range(_BITS):
            moved = ((scaled >> np.uint64(bit)) & np.uint64(1)) << np.uint64(bit * len(columns) + position)
            codes |= moved
    return pl.Series(codes)
