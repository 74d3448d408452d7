"""Parts of the platform that are tried: the lake is written to, every codec codes a picture."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sensorium.jobs.doctor.report import FAILED, MISSING, OK, Finding
from sensorium.platform import plugins
from sensorium.platform.errors import MissingDependency, SensoriumError
from sensorium.platform.settings import Settings
from sensorium.platform.storage import Storage
from sensorium.platform.tables import human_bytes

if TYPE_CHECKING:
    from sensorium.jobs.codecs import Codec

__all__ = ["codec_findings", "storage_findings"]

_LEAST_FREE = 2_000_000_000
_PROBE = "doctor"
_SIDE = 64
#: mean, in levels of 255, of what comes back at the best quality; a codec that works is near 1
_LARGEST_ERROR = 10.0


def storage_findings(settings: Settings) -> list[Finding]:
    """Whether the lake can be written and read, and the space that is left."""
    try:
        storage = Storage.at(settings.lake, settings.storage_options)
        if storage.local:
            return _local(storage)
        return [_remote(storage)]
    except SensoriumError as error:
        return [
            Finding("storage", f"lake {settings.lake}", FAILED, str(error), "Mend it, or name another with --lake.")
        ]


def _local(storage: Storage) -> list[Finding]:
    """A local folder; one that is not there yet is not made, its place is looked at."""
    folder = Path(storage.root)
    place = next(path for path in (folder, *folder.parents) if path.exists())
    subject = f"lake {storage.url}"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        remedy = "Let this user write there, or name another with --lake."
        return [Finding("storage", subject, FAILED, f"{place} cannot be written", remedy)]
    found = [Finding("storage", subject, OK, "not there yet; can be made")] if place != folder else [_remote(storage)]
    free = shutil.disk_usage(place).free
    if free < _LEAST_FREE:
        remedy = "Free space: sensorium catalog vacuum removes what no version needs."
        return [*found, Finding("storage", "free space", FAILED, human_bytes(free), remedy)]
    return [*found, Finding("storage", "free space", OK, human_bytes(free))]


def _remote(storage: Storage) -> Finding:
    """Write, read and remove a small file of our own."""
    name = f"{_PROBE}-{secrets.token_hex(8)}"
    started = time.perf_counter()
    try:
        storage.write(name.encode(), name)
        if storage.read(name) != name.encode():
            told = "a file reads otherwise than it was written"
            return Finding("storage", f"lake {storage.url}", FAILED, told, "Look at what is between here and there.")
    finally:
        storage.remove(name)
    took = (time.perf_counter() - started) * 1000
    return Finding("storage", f"lake {storage.url}", OK, f"written, read and removed a file in {took:.0f} ms")


def codec_findings() -> list[Finding]:
    """Each codec codes and decodes a small picture at its best quality."""
    from sensorium.jobs.codecs import GROUP, Codec

    found = []
    for name in plugins.names(GROUP):
        try:
            found.append(_tried(plugins.load(GROUP, name, Codec)))
        except MissingDependency as error:
            found.append(Finding("codecs", name, MISSING, "its library is not installed", str(error)))
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the others are to be looked at
            found.append(
                Finding("codecs", name, FAILED, f"{type(error).__name__}: {error}", "Install its package again.")
            )
    return found


def _tried(codec: Codec) -> Finding:
    from sensorium.jobs.codecs import Picture

    ramp = np.arange(_SIDE, dtype=np.uint8) * (256 // _SIDE)
    rgb = np.ascontiguousarray(
        np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], 128), axis=-1).astype(np.uint8)
    )
    encoded = codec.encode(Picture.of(rgb), codec.best)
    error = np.abs(codec.decode(encoded.data, (_SIDE, _SIDE)).astype(np.int16) - rgb).mean()
    if error > _LARGEST_ERROR:
        told = f"a picture comes back wrong, by {error:.1f} of 255 levels"
        return Finding("codecs", codec.name, FAILED, told, "Install its package again.")
    return Finding("codecs", codec.name, OK, codec.version())
