"""What a process that reads files for an import does. Only :mod:`sensorium.platform.processes.zygote` imports this module."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.catalog.reading import declared, read_group
from sensorium.catalog.reading_message import pack_plan, unpack
from sensorium.platform import plugins
from sensorium.platform.errors import SensoriumError
from sensorium.platform.processes import wire
from sensorium.platform.processes.zygote import Job

__all__ = ["JOBS", "prepare"]

#: what nearly every import needs; a decoder's own libraries are imported by the worker that uses them
_COMMON = ("zarr", "numcodecs", "PIL.Image", "xxhash")


def prepare() -> None:
    """Import what workers need, so that every one has it from its birth."""
    for name in _COMMON:
        importlib.import_module(name)
    plugins.load_all(modalities.GROUP)
    plugins.load_all(GROUP, Importer)


def _read(request: Mapping[str, Any], buffers: Sequence[memoryview]) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:
    try:
        read = read_group(unpack(request, buffers))
    except SensoriumError as error:
        return {"stopped": [type(error).__name__, str(error)]}, ()
    failures = [[index, one.path, one.kind, one.message] for index, one in read.failures.items()]
    return {"failures": failures}, [read.content]


def _plan(request: Mapping[str, Any], buffers: Sequence[memoryview]) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:  # noqa: ARG001
    source = Source(Path(request["path"]), request["options"])
    try:
        importer: Importer = plugins.load(GROUP, request["importer"], Importer)
        items = list(importer.plan(source))
        declaration = declared(importer, source, request["dataset"], request["description"], request["licence"])
        return pack_plan(importer.name, items, declaration)
    except SensoriumError as error:
        return {"stopped": [type(error).__name__, str(error)]}, ()


JOBS: dict[str, Job] = {"read": _read, "plan": _plan}
