"""Sound, as the importer of sound files reads it."""

from __future__ import annotations

from typing import Any

from sensorium.catalog.importer import Item
from sensorium.catalog.importers import audio_files
from sensorium.platform.optional import require
from sensorium.serve.uploads._upload import Upload, on_disk, target, too_large

__all__ = ["SOUND", "read_sound"]

SOUND = "T | C T"
_SHORTER = "Send a shorter piece."


def read_sound(upload: Upload) -> dict[str, Any]:
    """``audio`` [T] or [C, T] of int16 or float32, and ``sampling_rate`` in Hz.

    Raises:
        RejectedUpload: 413 too long, 422 damaged, cut off, or without a value.
    """
    soundfile = require("soundfile", "read sound files")
    with on_disk(upload, f".{upload.kind}") as path:
        with soundfile.SoundFile(path) as sound:
            values, rate = max(sound.frames, 0) * sound.channels, sound.samplerate
        if values > upload.limits.audio_seconds * max(rate, 1):
            seconds = values / max(rate, 1)
            raise too_large(upload, "seconds times channels", seconds, upload.limits.audio_seconds, _SHORTER)
        if values * 4 > upload.limits.array_bytes:
            raise too_large(upload, "bytes", values * 4, upload.limits.array_bytes, _SHORTER)
        read = audio_files.importer.read(Item("upload", (path,)), {})
    return {target(upload).name: read["audio"], "sampling_rate": read["sampling_rate"]}
