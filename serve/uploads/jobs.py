"""What workers do with uploads. Only :mod:`.zygote` imports this module."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.catalog import modality as modalities
from sensorium.platform import plugins
from sensorium.platform.errors import MissingDependency
from sensorium.platform.processes import wire
from sensorium.platform.processes.zygote import Job
from sensorium.serve.uploads import readers
from sensorium.serve.uploads.errors import RejectedUpload
from sensorium.serve.uploads.limits import Limits

__all__ = ["JOBS", "prepare"]

#: what readers import when they are first used; each is optional
_HEAVY = (
    "av",
    "cv2",
    "edfio",
    "nibabel",
    "PIL.AvifImagePlugin",
    "PIL.BmpImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
    "PIL.WebPImagePlugin",
    "pydicom",
    "soundfile",
    "tifffile",
)


def prepare() -> None:
    """Import what the readers need, so that every worker has it from its birth."""
    for name in _HEAVY:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # whoever sends such a file is told which extra is missing
    plugins.load_all(modalities.GROUP)


def _read(request: Mapping[str, Any], buffers: Sequence[memoryview]) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:
    files = {str(name): bytes(buffer) for name, buffer in zip(request["files"], buffers, strict=True)}
    try:
        sample = readers.read(files, request["modality"], request["scalars"], Limits(**request["limits"]))
    except RejectedUpload as error:
        return {"rejected": str(error), "status": error.status}, ()
    except MissingDependency as error:
        return {"missing": str(error)}, ()
    return wire.pack(sample)


JOBS: dict[str, Job] = {"read": _read}
