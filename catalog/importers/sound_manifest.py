"""Sounds that a manifest lists, as NVIDIA NeMo has them: JSON lines with ``audio_filepath``, ``duration``, ``text`` and more.

The source is a manifest (``.jsonl`` or ``.json``), or a folder that holds some. Every line is a sample: the whole sound, or
with ``offset`` (s) the part of ``duration`` seconds from there on, cut when it is read. Sounds become ``audio`` and
``sampling_rate`` as in :mod:`.audio_files`; all other entries become scalars of their names, objects and lists as JSON text;
``source`` is the place of the sound, ``manifest`` the name of the table where there are several.

Ids are the sounds' places without suffix, with the offset in milliseconds behind ``@`` for parts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField, check_name
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _metadata, _utterances
from sensorium.catalog.importers._files import head, once, unreadable
from sensorium.catalog.importers._text import lines

__all__ = ["importer"]

_SUFFIXES = frozenset((".jsonl", ".ndjson", ".json"))
_SOUND = "audio_filepath"
#: fields that are made of other things than the entry of that name
_RESERVED = ("audio", "sampling_rate", "id", "source", "manifest")
_REMEDY = "Mend the line."


@once
def _manifests(source: Source) -> list[Path]:
    candidates = [source.path] if source.path.is_file() else sorted(source.path.glob("*"))
    return [path for path in candidates if suffix(path) in _SUFFIXES and _is_manifest(path)]


def _is_manifest(path: Path) -> bool:
    """Whether the first line that is not empty is an object that names a sound."""
    first = head(path, 1 << 16).lstrip().partition(b"\n")[0]
    try:
        entry = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and isinstance(entry.get(_SOUND), str)


def _matches(source: Source) -> float:
    return 0.95 if _manifests(source) else 0.0  # surer than importers of the sounds beside it


@once
def _planned(source: Source) -> tuple[list[Item], _metadata.Known]:
    """All utterances, and the types of their scalars."""
    if not source.path.exists():
        raise unreadable(source.path, "there is no such file or folder", "Check the path.")
    manifests = [source.path] if source.path.is_file() else _manifests(source)
    if not manifests:
        raise unreadable(source.path, f"holds no manifest (JSON lines with {_SOUND})", "Name the manifest.")
    root = _utterances.root_of(source)
    found: list[tuple[str, Path, dict[str, Any], tuple[float, float | None]]] = []
    for table in manifests:
        for number, entry in _entries(table):
            sound = _utterances.located(root, entry.pop(_SOUND), table, number)
            place = sound.relative_to(root).as_posix()
            part = _part(table, number, entry)
            name = place[: len(place) - len(suffix(sound))]
            name = f"{name}@{round(part[0] * 1000)}" if "offset" in entry else name
            extra = {"source": place, **({"manifest": table.name} if len(manifests) > 1 else {})}
            found.append((name, sound, {**_named(entry), **extra}, part))
    known = _typed([scalars for _, _, scalars, _ in found])
    items = [
        Item(name, (sound,), known.rows[index], {"start": part[0], "stop": part[1]})
        for index, (name, sound, _, part) in enumerate(found)
    ]
    return items, known


def _entries(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines(table), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise unreadable(table, f"line {number}: is no JSON ({error})", _REMEDY) from error
        if not isinstance(entry, dict) or not isinstance(entry.get(_SOUND), str):
            raise unreadable(table, f"line {number}: names no {_SOUND}", _REMEDY)
        yield number, entry


def _part(table: Path, number: int, entry: Mapping[str, Any]) -> tuple[float, float | None]:
    """Start and stop (s) of the part of a sound; all of it where the entry has no offset."""
    start, length = entry.get("offset", 0.0), entry.get("duration")
    for name, value in (("offset", start), ("duration", length)):
        real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
        if not (real or (name == "duration" and value is None)):
            raise unreadable(table, f"line {number}: {name} is {value!r}, no number of seconds", _REMEDY)
    if "offset" not in entry or length is None:
        return float(start), None
    return float(start), float(start) + float(length)


def _named(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry's scalars; what is nested as JSON text, names that are taken with a prefix."""
    return {
        f"metadata_{key}" if key in _RESERVED else check_name(key, "field"): json.dumps(value)
        if isinstance(value, dict | list)
        else value
        for key, value in entry.items()
        if value is not None
    }


def _typed(rows: list[dict[str, Any]]) -> _metadata.Known:
    """The rows with one type for each scalar: that of all its values, text where they differ."""
    known = _metadata.Known(rows={index: {} for index in range(len(rows))})
    for name in dict.fromkeys(name for row in rows for name in row):
        kinds = {type(row[name]) for row in rows if name in row}
        kind = float if kinds == {int, float} else next(iter(kinds)) if len(kinds) == 1 else str
        arrow = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(kind, pa.string())
        values = {index: row[name] for index, row in enumerate(rows) if name in row}
        known.add({name: arrow}, {index: {name: _as(value, kind)} for index, value in values.items()})
    return known


def _as(value: Any, kind: type) -> Any:
    if kind is str:
        return value if isinstance(value, str) else json.dumps(value)
    return kind(value)


def _plan(source: Source) -> Iterator[Item]:
    yield from _planned(source)[0]


def _fields(source: Source) -> tuple[Field, ...]:
    units = {"duration": "s", "offset": "s"}
    return tuple(ScalarField(name, kind, unit=units.get(name, "")) for name, kind in _planned(source)[1].types.items())


importer = Importer(
    name="sound_manifest",
    title="sounds listed in a manifest of JSON lines (audio_filepath, duration, text)",
    modality="audio",
    matches=_matches,
    plan=_plan,
    read=_utterances.read,
    fields=_fields,
    options=_utterances.OPTIONS,
)
