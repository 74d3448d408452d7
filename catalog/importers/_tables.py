"""Small tables of CSV, JSON lines or Parquet: columns as text, types found by one rule, errors that name the place."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sensorium.catalog.importer import suffix
from sensorium.catalog.importers._files import unreadable
from sensorium.catalog.importers._text import lines
from sensorium.platform.errors import UnreadableFile

__all__ = ["MISSING", "ROW", "SUFFIXES", "header", "infer", "is_parquet", "numbers", "read"]

SUFFIXES = frozenset((".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".ndjson", ".parquet"))
_JSON = (".jsonl", ".ndjson")
#: column of row numbers that :func:`read` adds
ROW = "\0row"
#: how tables write that a number is missing
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "."))

_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
#: no leading zeros and not too many digits: "007" and "12345678901234567890" are names, not numbers
_DECIMAL = re.compile(r"[+-]?(0|[1-9]\d{0,15}|(?=\.\d))(\.\d*)?([eE][+-]?\d+)?")
_FAULTS = (pl.exceptions.PolarsError, pa.ArrowException, OSError, EOFError, ValueError)
_MAX_JSON = 1 << 31
_CSV_REMEDY = "Save it as UTF-8 text with one header line and as many fields in every row."


def is_parquet(path: Path) -> bool:
    """Whether ``path`` is called a Parquet file."""
    return suffix(path) == ".parquet"


def header(path: Path) -> list[str]:
    """Names of the columns of a table.

    Raises:
        UnreadableFile: it is no table.
    """
    if is_parquet(path):
        try:
            return list(pq.read_schema(path).names)
        except _FAULTS as error:
            raise unreadable(path, f"is no Parquet file ({error})", "Export it anew.") from error
    return list(_objects(path)) if suffix(path) in _JSON else _text(path, None, rows=0).columns


def read(path: Path, columns: Sequence[str] | None = None, rows: int | None = None) -> pl.DataFrame:
    """A table, or some of its columns and first rows: text for CSV (empty is null) and JSON (null and what
    an object lacks are null), the file's own types for Parquet.

    Rows without any value are left out; the column ``ROW`` holds the number of each row, the first below the header
    being 1.

    Raises:
        UnreadableFile: it is no table, or lacks one of the columns.
    """
    if suffix(path) in _JSON:
        frame = _json(path, columns, rows)
    else:
        frame = _parquet(path, columns, rows) if is_parquet(path) else _text(path, columns, rows)
    filled = pl.any_horizontal(pl.col(frame.columns).is_not_null()) if frame.width else pl.lit(value=True)
    return frame.with_columns(pl.int_range(1, pl.len() + 1).alias(ROW)).filter(filled)


def _parquet(path: Path, columns: Sequence[str] | None, rows: int | None) -> pl.DataFrame:
    """Read through Arrow: on a damaged file its reader raises, where that of Polars panics."""
    try:
        with pq.ParquetFile(path) as file:
            wanted = list(columns) if columns is not None else None
            if rows is None:
                table = file.read(columns=wanted)
            else:
                batches = list(itertools.islice(file.iter_batches(batch_size=rows, columns=wanted), 1))
                table = pa.Table.from_batches(batches, None if batches else file.schema_arrow)
            return pl.DataFrame(pl.from_arrow(table))
    except _FAULTS as error:
        raise unreadable(path, f"cannot be read as Parquet ({error})", "Export it anew.") from error


def _json(path: Path, columns: Sequence[str] | None, rows: int | None) -> pl.DataFrame:
    found = _objects(path)
    missing = [name for name in columns or () if name not in found]
    if missing:
        raise unreadable(
            path, f"no object has an entry {missing[0]!r} (entries: {', '.join(found)})", "Mend the table."
        )
    chosen = {name: found[name] for name in (found if columns is None else columns)}
    return pl.DataFrame(chosen, schema=dict.fromkeys(chosen, pl.String)).head(
        len(next(iter(chosen.values()), [])) if rows is None else rows
    )


def _objects(path: Path) -> dict[str, list[str | None]]:
    """Entry -> its text in each object of JSON lines; numbers as they are written, so that none is rounded."""
    found: dict[str, list[str | None]] = {}
    count = 0
    for number, line in enumerate(lines(path, _MAX_JSON), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            raise unreadable(path, f"line {number}: is no JSON ({error})", "Give one object per line.") from error
        nested = (
            [name for name, cell in row.items() if isinstance(cell, dict | list)] if isinstance(row, dict) else [""]
        )
        if nested:
            what = f"entry {nested[0]!r} is nested" if isinstance(row, dict) else "is no object"
            raise unreadable(path, f"line {number}: {what}", "Give one object of plain numbers and texts per line.")
        for name, cell in row.items():
            text = str(cell).lower() if isinstance(cell, bool) else cell
            found.setdefault(name, []).extend([None] * (count - len(found[name])))
            found[name].append(text)
        count += 1
    if not found:
        raise unreadable(path, "is empty", "Leave it out, or export it anew.")
    return {name: cells + [None] * (count - len(cells)) for name, cells in found.items()}


def _text(path: Path, columns: Sequence[str] | None, rows: int | None = None) -> pl.DataFrame:
    try:
        with gzip.open(path, "rb") if suffix(path).endswith(".gz") else path.open("rb") as stream:
            first = stream.readline(1 << 20)
        if not first.strip():
            raise unreadable(path, "is empty", "Leave it out, or export it anew.")
        if b"\0" in first:
            raise unreadable(path, "is no UTF-8 text (it has zero bytes)", _CSV_REMEDY)
        separator = max(",;\t", key=lambda mark: first.count(mark.encode()))
        return pl.read_csv(
            path,
            separator=separator,
            infer_schema=False,
            columns=list(columns) if columns is not None else None,
            n_rows=rows,
        )
    except UnreadableFile:
        raise
    except _FAULTS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise unreadable(path, f"cannot be read as CSV ({reason})", _CSV_REMEDY) from error


def numbers(path: Path, frame: pl.DataFrame, column: str, remedy: str, *, gaps: bool = False) -> pl.Series:
    """A column of ``frame`` as float64, or in its own type where that is numeric.

    ``gaps`` lets missing numbers through as null.

    Raises:
        UnreadableFile: a cell is no finite number; the message names file, column, row and value.
    """
    cells = frame[column]
    if cells.dtype == pl.Boolean or not (cells.dtype.is_numeric() or cells.dtype == pl.String):
        raise unreadable(path, f"column {column!r} has type {cells.dtype}, not a number", remedy)
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        text = text.set(text.str.to_lowercase().is_in(list(MISSING)), None)
        values = text.cast(pl.Float64, strict=False)
        wrong = values.is_null() & text.is_not_null()
    else:
        cells = cells.cast(pl.Float64) if cells.dtype.is_decimal() else cells
        values = cells.fill_nan(None) if cells.dtype.is_float() else cells
        wrong = pl.Series([False] * len(values), dtype=pl.Boolean)
    if values.dtype.is_float():
        wrong = wrong | ~values.is_finite().fill_null(value=True)
    if not gaps:
        wrong = wrong | values.is_null()
    if wrong.any():
        index = wrong.arg_max() or 0
        shown = frame[column][index]
        what = "is missing" if shown is None else f"is {shown!r}, which is no finite number"
        raise unreadable(path, f"column {column!r}, row {frame[ROW][index]}: the value {what}", remedy)
    return values


def infer(values: Sequence[str | None]) -> tuple[pa.DataType, list[Any]]:
    """The Arrow type of a column of text, and its values in that type.

    Whole numbers are int64, other numbers float64, true and false bool, all else is text; text with leading zeros stays
    text, for it is a name. Marks of missing numbers (such as NA) are null in a column that is numeric otherwise. A
    column without any value has type null.
    """
    present = [value.strip() for value in values if value is not None and value.strip().lower() not in MISSING]
    if not any(value is not None for value in values):
        return pa.null(), list(values)
    if present and all(_WHOLE.fullmatch(value) for value in present):
        return pa.int64(), [_convert(value, int) for value in values]
    if present and all(_DECIMAL.fullmatch(value) for value in present):
        return pa.float64(), [_convert(value, float) for value in values]
    if present and all(value.lower() in ("true", "false") for value in present):
        return pa.bool_(), [_convert(value, lambda text: text.lower() == "true") for value in values]
    return pa.string(), list(values)


def _convert(value: str | None, kind: Any) -> Any:
    return None if value is None or value.strip().lower() in MISSING else kind(value.strip())
