"""Column statistics of a Parquet file for the Delta log, by which readers skip files."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["column_statistics"]

#: Delta readers expect statistics of the leading columns only
_COLUMNS = 32
_LONGEST_TEXT = 256


def column_statistics(rows: pa.Table) -> dict[str, Any]:
    """Statistics in the form of the Delta protocol: ``numRecords``, ``minValues``, ``maxValues``, ``nullCount``.

    A column whose bounds would be unsafe (NaN among the values, very long text, nested types) gets none: a reader then
    opens the file, which is always right.
    """
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in rows.column_names[:_COLUMNS]:
        column = rows.column(name)
        if pa.types.is_nested(column.type):
            continue
        nulls[name] = column.null_count
        if column.null_count == len(column) or not _ordered(column.type):
            continue
        bounds = pc.min_max(column).as_py()
        low, high = _json(bounds["min"]), _json(bounds["max"])
        if low is None or high is None or (pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py()):
            continue
        least[name], greatest[name] = low, high
    return {"numRecords": rows.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _ordered(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
    )


def _json(value: Any) -> Any:
    """``value`` as the protocol writes it in JSON, or None where it cannot."""
    if isinstance(value, datetime):
        # the protocol keeps milliseconds: a bound cut to them may not exclude its own value, so leave fine ones out
        if value.microsecond % 1000:
            return None
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return None
    return value
