"""Rows of Arrow tables as samples: files in cells, plain values, lists that are arrays.

A cell of ``struct<bytes, path>``, or of bytes, that begins like a picture, sound, a video or a NumPy file is decoded: its
bytes say what it is. A column that is called like an array of the modality, or said to be one, is an array, however its lists
are nested. All else are scalars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ScalarField
from sensorium.catalog.importer import Item, Source
from sensorium.catalog.importers import _embedded, _modalities
from sensorium.catalog.importers._files import places, unreadable

__all__ = [
    "OPTIONS",
    "Columns",
    "Part",
    "bare",
    "columns",
    "features",
    "holds_files",
    "items",
    "sample",
    "scalar_fields",
    "split_of",
]

Array = npt.NDArray[Any]

OPTIONS = {
    "modality": "of the samples (default: the one whose arrays the columns hold)",
    "id": "column of the samples' ids (default: the number of the row within its split, or file)",
}
_REMEDY = "Export the table anew."
_NUMBERS = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
_FILES = {"image": "image", "audio": "audio", "video": "encoded"}


@dataclass(frozen=True)
class Columns:
    """How the columns of a source become fields.

    Attributes:
        modality: of the samples.
        files: column -> the field that its files are.
        arrays: column -> the field that its lists are.
        labels: column -> names of its classes, by index.
        shapes: column -> shape and dtype of its arrays, where the source says them.
    """

    modality: str
    files: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, list[str]] = field(default_factory=dict)
    shapes: Mapping[str, list[Any]] = field(default_factory=dict)

    def place(self) -> dict[str, Any]:
        """As what an item can carry."""
        return {name: value if isinstance(value, str) else dict(value) for name, value in vars(self).items()}


def holds_files(kind: pa.DataType) -> bool:
    """Whether cells may be files: bytes, or the form of ``datasets`` for pictures and sound."""
    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {child.name for child in kind}
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def content_of(cell: Any) -> bytes | None:
    """The bytes of a cell; None where it has none."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else None


def columns(
    source: Source,
    first: Mapping[str, Any],
    schema: pa.Schema,
    labels: Mapping[str, list[str]],
    shapes: Mapping[str, Any],
) -> Columns:
    """What the columns of a source are, by their types and the cells of its ``first`` row that has files.

    Raises:
        UnreadableFile: the modality cannot be known.
    """
    kinds = {}
    for column in schema:
        content = content_of(first.get(column.name)) if holds_files(column.type) else None
        if content is not None and (kind := _embedded.kind_of(content)):
            kinds[column.name] = kind
    asked = source.options.get("modality")
    if asked is None:
        alone = [kind for kind in kinds.values() if kind in _FILES]
        guessed = {*kinds, *shapes} | ({_FILES[alone[0]]} if len(alone) == 1 else set())
        found = _modalities.guessed(guessed)
        if len(found) != 1:
            says = f"columns: {', '.join(schema.names)}"
            raise unreadable(source.path, f"which modality is it? ({says})", "Say modality=NAME.")
        asked = found[0]
    known = modalities.get(asked).arrays
    files: dict[str, str] = {}
    for name, kind in kinds.items():
        main = _embedded.main_field(asked, kind)
        files[name] = name if name in known or main in files.values() or main in kinds else main
    files = {name: _embedded.field_name(text) for name, text in files.items()}
    lists = [column.name for column in schema if _is_list(column.type) and column.name not in files]
    arrays = {name: _embedded.field_name(name) for name in lists if name in known or name in shapes}
    return Columns(asked, files, arrays, labels, shapes)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def fields(of: Columns, schema: pa.Schema) -> tuple[ScalarField, ...]:
    """The declarations of the columns that are scalars, as far as the table can hold their types."""
    found = []
    for column in schema:
        plain = column.name not in (*of.files, *of.arrays) and not holds_files(column.type)
        if plain and not pa.types.is_null(column.type) and not pa.types.is_struct(column.type):
            kind = column.type
            if column.name in of.labels:
                kind = pa.list_(pa.string()) if _is_list(kind) else pa.string()
            found.append(ScalarField(_embedded.field_name(column.name), kind))
    return tuple(one for one in found if one.name not in modalities.get(of.modality).scalars)


def sample(path: Path, where: str, row: Mapping[str, Any], of: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one row; ``of`` is :meth:`Columns.place`.

    Raises:
        UnreadableFile: a cell cannot be decoded.
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:
            continue
        if name in of["files"]:
            content = content_of(value)
            if content is None:
                problem = f"{where}, column {name!r} names a file and does not hold it"
                raise unreadable(path, problem, "Embed the files, as datasets' to_parquet does.")
            kind = _embedded.kind_of(content)
            if not kind:
                raise unreadable(path, f"{where}, column {name!r}: is no picture, sound, video or array", _REMEDY)
            found |= _embedded.decoded(path, f"{where}, column {name!r}", content, kind, of["files"][name])
        elif name in of["arrays"]:
            found[of["arrays"][name]] = _array(path, f"{where}, column {name!r}", value, of["shapes"].get(name))
        elif name in of["labels"]:
            found[_embedded.field_name(name)] = _label(value, of["labels"][name])
        else:
            found[_embedded.field_name(name)] = value
    _embedded.check_whole(path, where, of["modality"], found)
    return found


def _array(path: Path, where: str, value: Any, shape: list[Any] | None) -> Array:
    try:
        array = np.array(value, dtype=shape[-1] if shape else None)
    except (ValueError, TypeError, OverflowError) as error:
        raise unreadable(path, f"{where}: its lists are no array ({error})", _REMEDY) from error
    if array.dtype.kind not in "biuf":
        raise unreadable(path, f"{where}: its lists are no array of numbers", _REMEDY)
    return np.ascontiguousarray(array)


def _label(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_label(part, names) for part in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def named(identifier: Any, number: int, prefix: str) -> str:
    """The id of a row: that of its column, else its number after the place of its file."""
    if identifier is not None:
        return str(identifier)
    return f"{prefix}/{number}" if prefix else str(number)


@dataclass(frozen=True)
class Part:
    """Rows that are read together: a row group or a record batch.

    Attributes:
        path: of its file.
        number: of the part in its file.
        rows: how many it has.
        split: of the data; empty where nothing says so.
        name: what the ids of its rows begin with.
    """

    path: Path
    number: int
    rows: int
    split: str
    name: str


def unwrapped(kind: pa.DataType) -> pa.DataType:
    """A type without the name that a library gave it."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def bare(schema: pa.Schema) -> pa.Schema:
    """A schema of plain types."""
    return pa.schema([pa.field(column.name, unwrapped(column.type)) for column in schema])


def features(described: Any) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
    """Names of classes, and shapes and dtypes of arrays, of columns that ``datasets`` describes."""
    labels: dict[str, list[str]] = {}
    shapes: dict[str, list[Any]] = {}
    for name, feature in described.items() if isinstance(described, dict) else ():
        while isinstance(feature, dict) and feature.get("_type") in ("List", "Sequence", "LargeList"):
            feature = feature.get("feature")
        kind = feature.get("_type") if isinstance(feature, dict) else None
        if kind == "ClassLabel" and isinstance(feature.get("names"), list):
            labels[name] = [str(text) for text in feature["names"]]
        elif kind in ("Array2D", "Array3D", "Array4D", "Array5D") and str(feature.get("dtype")) in _NUMBERS:
            shapes[name] = [str(feature["dtype"])]
    return labels, shapes


def items(source: Source, parts: list[Part], of: Columns, ids: list[Any] | None) -> Iterator[Item]:
    """An item for each row of the parts; ``ids`` are those of the column that the option names."""
    counts: dict[str, int] = {}
    every = iter(ids) if ids is not None else None
    place = of.place()
    where = places(source, {part.path for part in parts})
    for part in parts:
        scalars = {"source": where[part.path], **({"split": part.split} if part.split else {})}
        for row in range(part.rows):
            number = counts.get(part.name, 0)
            counts[part.name] = number + 1
            name = named(next(every) if every is not None else None, number, part.name)
            yield Item(name, (part.path,), scalars, {"part": part.number, "row": row, "columns": place})


def scalar_fields(of: Columns, schema: pa.Schema, parts: list[Part]) -> tuple[ScalarField, ...]:
    """The declarations of all scalars of a source."""
    own = [ScalarField("source", pa.string())]
    if any(part.split for part in parts):
        own.append(ScalarField("split", pa.string()))
    names = {field.name for field in own}
    return (*own, *(field for field in fields(of, schema) if field.name not in names))


def split_of(name: str) -> str:
    """The split that the name of a file or folder begins with, as ``datasets`` names them; empty for none."""
    first = name.lower().replace("_", "-").replace(".", "-").split("-")[0]
    return {"train": "train", "test": "test", "validation": "val", "val": "val", "dev": "val"}.get(first, "")
