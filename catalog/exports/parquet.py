"""Parquet shards that hold everything: scalars as columns, arrays as the bytes of files.

An array is ``struct<bytes, path>``, the form that Hugging Face's ``datasets`` knows for pictures and sound; the suffix of
``path`` says what the bytes are (PNG, WAV, NPY …). The schema names the columns' features, so that ``datasets`` decodes
pictures and sound by itself. With ``card``, the folder is laid out as a repository of a data set: ``data/`` and a README.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensorium.catalog.exports.members import encoded, file_name
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection

__all__ = ["write"]

#: samples are written out when their files have so many bytes, and a shard is closed when it has
_GROUP_BYTES, _SHARD_BYTES = 32 << 20, 256 << 20
_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_PLAIN = {pa.string(): "string", pa.bool_(): "bool", pa.large_string(): "large_string"}


def write(selection: Selection, folder: Path, *, card: bool = False) -> int:
    """Write ``selection`` as Parquet shards into ``folder``; the number of samples."""
    declaration = selection.declaration
    arrays = [name for name in selection.fields if name in declaration.arrays]
    scalars = pa.schema(selection.frame().select(pl_scalars(selection)).clear().to_arrow().schema)
    writer = _Shards(folder / "data" if card else folder, selection.name)
    taken: set[str] = set()
    count = 0
    first: dict[str, str] = {}  # suffix of each array's files
    with progress(f"export {selection.name}", total=len(selection), unit="samples") as bar:
        for sample in selection:
            row = _row(sample, arrays, file_name(sample.id, taken), first)
            writer.add(row, _schema(declaration, scalars, arrays, first))
            count += 1
            bar.advance()
    writer.close()
    if card:
        (folder / "README.md").write_text(_card(declaration, selection.version, count), encoding="utf-8")
    return count


def pl_scalars(selection: Selection) -> list[str]:
    """The id and the names of the selection's scalars."""
    return ["id", *(name for name in selection.fields if name in selection.declaration.scalars)]


def _row(sample: Sample, arrays: Sequence[str], name: str, first: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"id": sample.id}
    for field in sample:
        value = sample[field]
        if isinstance(value, np.ndarray):
            suffix, content = encoded(field, value, sample)
            first.setdefault(field, suffix)
            row[field] = {"bytes": content, "path": f"{name}.{field}.{suffix}"}
        elif field not in arrays:
            row[field] = value
    return row


def _schema(declaration: Declaration, scalars: pa.Schema, arrays: Sequence[str], first: Mapping[str, str]) -> pa.Schema:
    columns = [*scalars, *(pa.field(name, _FILE) for name in arrays)]
    features = {column.name: _feature(column, first.get(column.name, "")) for column in columns}
    known = {"info": {"features": features, "description": declaration.description, "license": declaration.licence}}
    return pa.schema(columns, metadata={"huggingface": json.dumps(known)})


def _feature(column: pa.Field, suffix: str) -> dict[str, Any]:
    """How ``datasets`` writes the feature of a column."""
    if suffix == "png":
        return {"_type": "Image"}
    if suffix == "wav":
        return {"_type": "Audio"}
    return _value(column.type)


def _value(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {child.name: _value(child.type) for child in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {"feature": _value(kind.value_type), "_type": "List"}
    if pa.types.is_timestamp(kind):
        zone = f", tz={kind.tz}" if kind.tz else ""
        return {"dtype": f"timestamp[{kind.unit}{zone}]", "_type": "Value"}
    names = {"double": "float64", "float": "float32", "halffloat": "float16", "date32[day]": "date32"}
    return {"dtype": _PLAIN.get(kind, names.get(str(kind), str(kind))), "_type": "Value"}


class _Shards:
    """Parquet files of a bounded size, written as rows come."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._number = folder, name, 0
        self._rows: list[dict[str, Any]] = []
        self._bytes = self._shard_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None

    def add(self, row: dict[str, Any], schema: pa.Schema) -> None:
        self._rows.append(row)
        self._schema = schema
        self._bytes += sum(
            len(value["bytes"]) for value in row.values() if isinstance(value, dict) and "bytes" in value
        )
        if self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._rows or self._schema is None:
            return
        if self._writer is None:
            path = self._folder / f"{self._name}-{self._number:05d}.parquet"
            # what is compressed already is not compressed again
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)
            self._number += 1
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._writer.schema))
        self._shard_bytes += self._bytes
        self._rows, self._bytes = [], 0
        if self._shard_bytes >= _SHARD_BYTES:
            self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._shard_bytes = None, 0

    def close(self) -> None:
        self._flush()
        self._end()


def _card(declaration: Declaration, version: int, count: int) -> str:
    """A README that ``datasets`` reads the place of the shards from."""
    return (
        "---\n"
        f"pretty_name: {json.dumps(declaration.name)}\n"
        f"license_name: {json.dumps(declaration.licence or 'not stated')}\n"
        "configs:\n- config_name: default\n  data_files: data/*.parquet\n"
        "---\n\n"
        f"# {declaration.name}\n\n{declaration.description}\n\n"
        f"{count} samples of modality {declaration.modality_name}, version {version}. "
        f"Licence: {declaration.licence or 'not stated'}.\n"
    )
