"""A group of an import as JSON and bytes, for the process that reads it: nothing there is ever unpickled."""

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

__all__ = ["pack", "unpack"]

_TIMES = {one.__name__: one for one in (datetime.datetime, datetime.date, datetime.time)}


def pack(group: Group) -> tuple[dict[str, Any], list[bytes]]:
    """A group as a header, of JSON's types, and buffers."""
    storage, declaration = group.storage, group.declaration
    header = {
        "importer": group.importer,
        "options": dict(group.options),
        "seconds": group.seconds,
        "storage": [storage.url, storage.root, dict(storage.options)],
        "name": declaration.name,
        "properties": declaration.properties(),
    }
    derived = next((item for item in group.items if type(item) is not Item), None)
    if derived is not None:
        raise BrokenPlugin(
            f"importer {group.importer!r} plans with a {type(derived).__name__}, of which a reader would get an Item only. "
            "Put what read needs into Item.place."
        )
    items = [
        [item.id, [str(path) for path in item.paths], _each(_told, item.scalars), _each(_told, item.place)]
        for item in group.items
    ]
    return header, [declaration.schema().serialize().to_pybytes(), json.dumps(items).encode()]


def unpack(header: Mapping[str, Any], buffers: Sequence[memoryview]) -> Group:
    """The group that :func:`pack` wrote."""
    schema, items = pa.ipc.read_schema(pa.py_buffer(buffers[0])), json.loads(bytes(buffers[1]))
    return Group(
        importer=header["importer"],
        options=header["options"],
        items=tuple(
            Item(identifier, tuple(Path(path) for path in paths), _each(_meant, scalars), _each(_meant, place))
            for identifier, paths, scalars, place in items
        ),
        declaration=Declaration.read(header["name"], schema, header["properties"]),
        storage=Storage(*header["storage"]),
        seconds=header["seconds"],
    )


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
