"""Samples of any modality in an existing Zarr store, version 2 or 3, copied into the lake.

The store is a group on the local disk. An array of it whose name is a field's, or that an option names (``image=scans/t1``),
is [N, ...]: its first axis counts samples. A group of that name holds an array a sample instead, in the order of their names,
for samples of differing shapes. A table ``samples.parquet`` beside the store, as an export to Zarr writes it, gives ids and
scalars by row; without one, ids are running numbers. The modality comes from the option, from the group's attribute
``modality``, or from the names of the arrays.

Metadata is read here as JSON. Codecs that may run code or hold objects (pickle, and all that are not listed) are refused by
name before a decoder sees anything. Chunks that are not there are fill values, as Zarr has it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _modalities
from sensorium.catalog.importers._files import number, once, unreadable
from sensorium.platform import plugins

__all__ = ["importer"]

_TABLE = "samples.parquet"
_MAX_BYTES = 4e9
_REMEDY = "Write it anew with numbers and a usual compression."
#: of version 3 and version 2
_CODECS = frozenset(("bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"))
_COMPRESSORS = frozenset(("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma"))
_FILTERS = frozenset(("shuffle", "delta"))
_TYPES = frozenset(
    ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float16", "float32", "float64")
)


@dataclass(frozen=True)
class _Array:
    """What the metadata of an array say.

    Attributes:
        path: its folder.
        shape: of it.
        itemsize: bytes of a value.
        chunk: bytes of a chunk.
        problem: why it is not read; empty where it is.
    """

    path: Path
    shape: tuple[int, ...]
    itemsize: int
    chunk: int
    problem: str = ""


def _described(folder: Path) -> dict[str, Any] | None:
    """The metadata of a node, with ``zarr_format``; None where it is none."""
    for name in ("zarr.json", ".zarray", ".zgroup"):
        try:
            found = json.loads((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {"node_type": "array" if name == ".zarray" else "group", **found}
    return None


def _array(folder: Path) -> _Array | None:
    """The array in ``folder``; None where there is none."""
    found = _described(folder)
    if found is None or found["node_type"] != "array":
        return None
    try:
        if found.get("zarr_format") == 3:
            kind, codecs = str(found["data_type"]), _codec_names(found.get("codecs", []))
            strange = sorted(codecs - _CODECS)
            chunk = found["chunk_grid"]["configuration"]["chunk_shape"]
        else:
            dtype = found["dtype"]
            kind = np.dtype(dtype).name if isinstance(dtype, str) and not dtype.endswith("O") else str(dtype)
            used = [("compressor", found.get("compressor"), _COMPRESSORS)]
            used += [("filter", one, _FILTERS) for one in found.get("filters") or []]
            strange = sorted(str(one["id"]) for _, one, known in used if one is not None and one["id"] not in known)
            chunk = found["chunks"]
        shape = tuple(int(length) for length in found["shape"])
        problem = f"holds values of type {kind}" if kind not in _TYPES else ""
        problem = f"uses the codec {strange[0]!r}" if strange else problem
        size = np.dtype(kind).itemsize if not problem else 1
        if min(shape, default=1) < 0:
            problem = f"has the shape {shape}"
        return _Array(folder, shape, size, size * math.prod(int(length) for length in chunk), problem)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _Array(folder, (), 1, 1, f"its metadata are damaged ({type(error).__name__})")


def _codec_names(codecs: Any) -> set[str]:
    names = set()
    for one in codecs:
        names.add(str(one["name"]))
        inner = one.get("configuration", {}) if one["name"] == "sharding_indexed" else {}
        names |= _codec_names([*inner.get("codecs", []), *inner.get("index_codecs", [])])
    return names


def _store(source: Source) -> Path | None:
    """The group: the source itself, or the only one in it."""
    if not source.path.is_dir():
        return None
    if (_described(source.path) or {}).get("node_type") == "group":
        return source.path
    inner = [path for path in sorted(source.path.glob("*.zarr")) if _described(path) is not None]
    return inner[0] if len(inner) == 1 else None


def _matches(source: Source) -> float:
    store = _store(source)
    if store is None:
        return 0.0
    return 0.95 if "modality" in source.options or _modality_of(source, store) is not None else 0.4


def _modality_of(source: Source, store: Path) -> str | None:
    if "modality" in source.options:
        return modalities.get(source.options["modality"]).name
    described = _described(store) or {}
    attributes = described.get("attributes") or {}
    told = attributes.get("modality") if isinstance(attributes, dict) else None
    if isinstance(told, str) and told in plugins.names(modalities.GROUP):
        return told
    fitting = _modalities.guessed(path.name for path in store.iterdir() if path.is_dir())
    return fitting[0] if len(fitting) == 1 else None


def _modality(source: Source) -> str:
    store = _found(source)
    name = _modality_of(source, store)
    if name is None:
        there = ", ".join(sorted(path.name for path in store.iterdir() if path.is_dir()))
        raise unreadable(store, f"which modality is it? (it holds {there})", "Say modality=NAME.")
    return name


def _found(source: Source) -> Path:
    if not source.path.exists():
        raise unreadable(source.path, "there is no such file or folder", "Check the path.")
    store = _store(source)
    if store is None:
        raise unreadable(source.path, "is no Zarr group, and holds none, or several", "Name the group's folder.")
    return store


@once
def _columns(source: Source) -> dict[str, list[_Array] | _Array]:
    """For each field, its array [N, ...], or an array for each sample."""
    store = _found(source)
    modality = modalities.get(_modality(source))
    found: dict[str, list[_Array] | _Array] = {}
    for name in modality.arrays:
        place = source.options.get(name, name).strip("/")
        folder = (store / place).resolve()
        if not folder.is_relative_to(store.resolve()):
            raise unreadable(store, f"{name}={place} leads out of it", "Name an array of the store.")
        array = _array(folder)
        parts = [_array(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
        if array is not None and array.problem:
            raise unreadable(folder, array.problem, _REMEDY)
        if array is not None:
            found[name] = array
        elif parts and all(part is not None for part in parts):
            found[name] = [part for part in parts if part is not None]
        elif name in source.options:
            raise unreadable(store, f"has no array {place!r} ({name}=)", "Mend the option.")
    if not found:
        raise unreadable(store, f"has no array of modality {modality.name}", "Name one, such as image=PLACE.")
    return found


@once
def _table(source: Source) -> list[dict[str, Any]]:
    """Rows of the table beside the store; none where there is no table."""
    path = _found(source).parent / _TABLE
    if not path.is_file():
        return []
    return [dict(row) for row in pq.read_table(path).to_pylist()]


def _plan(source: Source) -> Iterator[Item]:
    columns, rows, store = _columns(source), _table(source), _found(source)
    counts = {name: len(one) if isinstance(one, list) else (one.shape or (0,))[0] for name, one in columns.items()}
    total = counts[next(iter(counts))] if not rows else len(rows)
    wrong = next(
        (name for name, count in counts.items() if count != total and not isinstance(columns[name], list)), None
    )
    if wrong is not None:
        raise unreadable(store, f"{wrong} has {counts[wrong]} samples, others have {total}", "Mend the store.")
    for index in range(total):
        row = rows[index] if rows else {}
        places: dict[str, Any] = {}
        for name, one in columns.items():
            if row.get(f"has_{name}") is False:
                continue
            named = _by_name(one, index) if isinstance(one, list) else one
            if named is not None:
                places[name] = [
                    named.path.relative_to(store.resolve()).as_posix(),
                    -1 if isinstance(one, list) else index,
                ]
        identifier = str(row["id"]) if "id" in row else f"{index:06d}"
        scalars = {name: value for name, value in row.items() if name != "id" and not name.startswith("has_")}
        yield Item(identifier, (store,), {**scalars, "source": store.name}, {"arrays": places})


def _by_name(parts: list[_Array], index: int) -> _Array | None:
    """The array of sample ``index``: by its number as a name, else by its place."""
    named = next((part for part in parts if part.path.name == f"{index:06d}"), None)
    if named is None and not parts[0].path.name.isdecimal() and index < len(parts):
        return parts[index]
    return named


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    import zarr

    store = item.paths[0]
    limit = number(options, "max_bytes", _MAX_BYTES)
    sample: dict[str, Any] = {}
    for name, (place, row) in item.place["arrays"].items():
        found = _array(store.resolve() / place)
        if found is None or found.problem:
            raise unreadable(store / place, found.problem if found else "is no array", _REMEDY)
        size = found.itemsize * math.prod(found.shape[1:] if row >= 0 else found.shape)
        if max(size, found.chunk) > limit:
            raise unreadable(
                store / place,
                f"its metadata claim {max(size, found.chunk)} bytes a sample or chunk, more than {limit:g}",
                f"If it is real, raise the limit with max_bytes={max(size, found.chunk)}.",
            )
        try:
            array = zarr.open_array(str(found.path), mode="r")
            values = np.asarray(array[row] if row >= 0 else array[...])
        except Exception as error:  # codecs let errors of many kinds through on damaged chunks
            raise unreadable(store / place, f"cannot be decoded ({type(error).__name__}: {error})", _REMEDY) from error
        sample[name] = np.ascontiguousarray(values)
    return {**item.scalars, **sample}


def _fields(source: Source) -> tuple[Field, ...]:
    path = _found(source).parent / _TABLE
    if not path.is_file():
        return ()
    standard = {field.name for field in modalities.get(_modality(source)).fields}
    return tuple(
        ScalarField(column.name, column.type)
        for column in pq.read_schema(path)
        if column.name not in ("id", "source", *standard) and not column.name.startswith("has_")
    )


importer = Importer(
    name="zarr_store",
    title="samples of any modality in an existing Zarr store (copied)",
    modality="image",
    modality_of=_modality,
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "modality": "of the samples (default: the group's attribute, or the one whose fields its arrays name)",
        "max_bytes": f"refuse samples and chunks that are larger (default {_MAX_BYTES:.0f})",
        **_modalities.field_options(
            "array, or group of arrays, that becomes the field {name} (default: that of its name)"
        ),
    },
)
