"""Parquet files whose rows are samples: files in cells (``struct<bytes, path>``, or bytes), plain values and lists.

See :mod:`._rows` for what becomes of the columns. A column of classes, as ``datasets`` describes them in the file, becomes
their names. ``split`` comes from folders and names such as ``train-00000-of-00004.parquet``. Rows are read by row groups, whose
sizes are checked in the footer before one is read; all files must have the same columns.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _folders, _rows
from sensorium.catalog.importers._files import number, once, places, probe, unreadable, visible
from sensorium.platform.errors import UnreadableFile

__all__ = ["importer"]

_SUFFIXES = frozenset((".parquet",))
_MAX_BYTES = 4e9
_FAULTS = (pa.ArrowException, OSError, EOFError, ValueError)
_AGAIN = "Export it anew, or leave it out."


def _is_mine(path: Path) -> float:
    """Surely, where cells hold files or ``datasets`` describes them; a table of values may be another's."""
    try:
        schema = pq.read_schema(path)
    except _FAULTS:
        return 0.0
    described = b"huggingface" in (schema.metadata or {})
    return float(described or any(_rows.holds_files(column.type) for column in schema))


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_mine)


@once
def _parts(source: Source) -> list[_rows.Part]:
    found = []
    where = places(source, visible(source, _SUFFIXES))
    _, splits = _folders.from_folders(where, "none")
    for path, place in where.items():
        footer = _footer(path)
        split = str(splits[path].get("split") or _rows.split_of(path.name))
        for group in range(footer.num_row_groups):
            rows = footer.row_group(group).num_rows
            found.append(_rows.Part(path, group, rows, split, place.removesuffix(".parquet")))
    return found


def _footer(path: Path) -> Any:
    try:
        return pq.read_metadata(path)
    except _FAULTS as error:
        raise unreadable(path, f"is no Parquet file ({error})", _AGAIN) from error


@once
def _schema(source: Source) -> pa.Schema:
    paths = visible(source, _SUFFIXES)
    first = _footer(paths[0]).schema.to_arrow_schema()
    for path in paths[1:]:
        other = _footer(path).schema.to_arrow_schema()
        if _rows.bare(other) != _rows.bare(first):
            differing = sorted(set(_rows.bare(other)) ^ set(_rows.bare(first)), key=str)
            problem = (
                f"its columns differ from those of {paths[0].name} ({differing[0] if differing else 'their order'})"
            )
            raise unreadable(path, problem, "Import them into data sets of their own.")
    return first


@once
def _columns(source: Source) -> _rows.Columns:
    schema = _schema(source)
    plain = _rows.bare(schema)
    wanted = [column.name for column in plain if _rows.holds_files(column.type)]
    path = visible(source, _SUFFIXES)[0]
    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(batch_size=1, columns=wanted), None) if wanted else None
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (*_FAULTS, AttributeError) as error:
        raise unreadable(path, f"cannot be read as Parquet ({error})", _AGAIN) from error
    rows = batch.to_pylist() if batch is not None else []
    return _rows.columns(source, rows[0] if rows else {}, plain, *_rows.features(described))


def _modality(source: Source) -> str:
    return _columns(source).modality


def _ids(source: Source) -> list[Any] | None:
    column = source.options.get("id")
    if column is None:
        return None
    found: list[Any] = []
    for path in visible(source, _SUFFIXES):
        if column not in _schema(source).names:
            raise unreadable(path, f"has no column {column!r} (id=)", "Mend the option id.")
        try:
            found += pq.read_table(path, columns=[column]).column(0).to_pylist()
        except _FAULTS as error:
            raise unreadable(path, f"column {column!r} cannot be read ({error})", _AGAIN) from error
    return found


def _plan(source: Source) -> Iterator[Item]:
    yield from _rows.items(source, _parts(source), _columns(source), _ids(source))


def _fields(source: Source) -> tuple[Field, ...]:
    return _rows.scalar_fields(_columns(source), _rows.bare(_schema(source)), _parts(source))


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path, part, row = item.paths[0], int(item.place["part"]), int(item.place["row"])
    limit = number(options, "max_bytes", _MAX_BYTES)
    try:
        table = _group(path, path.stat().st_mtime_ns, part, limit)
        values = table.slice(row, 1).to_pylist()[0]
    except UnreadableFile:
        raise
    except (*_FAULTS, IndexError) as error:
        raise unreadable(path, f"row group {part} cannot be read ({error})", _AGAIN) from error
    where = f"row {row} of row group {part}"
    return {**_rows.sample(path, where, values, item.place["columns"]), **item.scalars}


@functools.lru_cache(maxsize=1)
def _group(path: Path, changed: int, part: int, limit: float) -> pa.Table:  # noqa: ARG001 - a new file is read anew
    """A row group; the last one is kept, for its rows are asked for one after another."""
    with pq.ParquetFile(path) as file:
        size = file.metadata.row_group(part).total_byte_size
        if size > limit:
            raise unreadable(
                path,
                f"row group {part} has {size} bytes, more than the limit of {limit:g}",
                f"Write smaller row groups, or, if it is real, raise the limit with max_bytes={size}.",
            )
        table = file.read_row_group(part)
    return table.cast(_rows.bare(table.schema))


importer = Importer(
    name="parquet_folder",
    title="Parquet files with pictures, sound or values in their rows",
    modality="image",
    modality_of=_modality,
    matches=_matches,
    plans_guarded=True,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        **_rows.OPTIONS,
        "max_bytes": f"refuse row groups that are larger (default {_MAX_BYTES:.0f})",
    },
)
