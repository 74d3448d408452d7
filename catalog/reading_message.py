"""Groups and plans of an import as JSON and bytes, for and from the process that reads: nothing there is ever unpickled."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sensorium.catalog.declaration import Declaration
from sensorium.catalog.importer import Item
from sensorium.catalog.reading import Group
from sensorium.platform.errors import BrokenPlugin
from sensorium.platform.storage import Storage

__all__ = ["pack", "pack_plan", "unpack", "unpack_plan"]

_TIMES = {one.__name__: one for one in (datetime.datetime, datetime.date, datetime.time)}


def pack(group: Group) -> tuple[dict[str, Any], list[bytes]]:
    """A group as a header, of JSON's types, and buffers."""
    storage = group.storage
    header = {
        "importer": group.importer,
        "options": dict(group.options),
        "seconds": group.seconds,
        "dedupe": group.dedupe,
        "storage": [storage.url, storage.root, dict(storage.options)],
    }
    about, content = pack_plan(group.importer, group.items, group.declaration)
    return {**header, **about}, content


def unpack(header: Mapping[str, Any], buffers: Sequence[memoryview]) -> Group:
    """The group that :func:`pack` wrote."""
    items, declaration = unpack_plan(header, buffers)
    return Group(
        importer=header["importer"],
        options=header["options"],
        items=items,
        declaration=declaration,
        storage=Storage(*header["storage"]),
        seconds=header["seconds"],
        dedupe=header["dedupe"],
    )


def pack_plan(importer: str, items: Sequence[Item], declaration: Declaration) -> tuple[dict[str, Any], list[bytes]]:
    """Items and the declaration that their samples must keep to, likewise."""
    derived = next((item for item in items if type(item) is not Item), None)
    if derived is not None:
        raise BrokenPlugin(
            f"importer {importer!r} plans with a {type(derived).__name__}, of which a reader would get an Item only. "
            "Put what read needs into Item.place."
        )
    told = [
        [item.id, [str(path) for path in item.paths], _each(_told, item.scalars), _each(_told, item.place)]
        for item in items
    ]
    about = {"name": declaration.name, "properties": declaration.properties()}
    return about, [declaration.schema().serialize().to_pybytes(), json.dumps(told).encode()]


def unpack_plan(header: Mapping[str, Any], buffers: Sequence[memoryview]) -> tuple[tuple[Item, ...], Declaration]:
    """What :func:`pack_plan` wrote."""
    schema, items = pa.ipc.read_schema(pa.py_buffer(buffers[0])), json.loads(bytes(buffers[1]))
    found = tuple(
        Item(identifier, tuple(Path(path) for path in paths), _each(_meant, scalars), _each(_meant, place))
        for identifier, paths, scalars, place in items
    )
    return found, Declaration.read(header["name"], schema, header["properties"])


def _each(turn: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: turn(value) for name, value in values.items()}


def _told(value: Any) -> Any:
    """A value of JSON's types; one that JSON does not have is an object with its type's name."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if type(value).__name__ in _TIMES:
        return {"is": type(value).__name__, "of": value.isoformat()}
    if isinstance(value, bytes):
        return {"is": "bytes", "of": base64.b64encode(value).decode()}
    if isinstance(value, datetime.timedelta):
        return {"is": "timedelta", "of": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Mapping):
        return {"is": "mapping", "of": {str(name): _told(part) for name, part in value.items()}}
    if isinstance(value, list | tuple):
        return [_told(part) for part in value]
    return value


def _meant(value: Any) -> Any:
    if isinstance(value, list):
        return [_meant(part) for part in value]
    if not isinstance(value, dict):
        return value
    kind, content = value["is"], value["of"]
    if kind in _TIMES:
        return _TIMES[kind].fromisoformat(content)
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "timedelta":
        return datetime.timedelta(*content)
    return {name: _meant(part) for name, part in content.items()}
