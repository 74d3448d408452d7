"""How large an upload may be, in every respect in which one can be large."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from sensorium.platform.errors import InvalidSetting

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of one upload, that is of all files of one sample together, unless it says "each".

    The defaults suit a server of two cores and 8 GB: two files are parsed at once, and each may take ``megabytes``. Headers
    are compared with them before anything is allocated; ``seconds`` and ``megabytes`` stop what lies in its header.

    Attributes:
        body_bytes: of all files as they come.
        files: number of files.
        pixels: of each picture, and of each frame of a video (height × width).
        frames: of a video.
        voxels: of each volume (Z × Y × X).
        audio_seconds: duration × channels, s.
        array_bytes: of all arrays that are made of it.
        decompressed_bytes: what an archive or a gzip file may unpack to.
        compression_ratio: unpacked to packed size of an archive or gzip file, once it unpacks to ``ratio_from_bytes``; below
            that a mask that is nearly empty is no reason for suspicion.
        ratio_from_bytes: see there.
        members: files in an archive.
        header_bytes: of the header of a NumPy array.
        columns: of a table.
        json_bytes: of each JSON text, and of the scalars sent with the files.
        seconds: wall-clock and CPU time to parse it, s.
        megabytes: address space to parse it, beyond what the parser itself takes, MiB.
    """

    body_bytes: int = 64 << 20
    files: int = 8
    pixels: int = 64_000_000
    frames: int = 20_000
    voxels: int = 256_000_000
    audio_seconds: float = 3600.0
    array_bytes: int = 512 << 20
    decompressed_bytes: int = 512 << 20
    compression_ratio: float = 250.0
    ratio_from_bytes: int = 32 << 20
    members: int = 2048
    header_bytes: int = 4096
    columns: int = 4096
    json_bytes: int = 4 << 20
    seconds: float = 20.0
    megabytes: int = 2048

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidSetting(f"limit {field.name} must be finite and above 0; got {value!r}.")
        if self.megabytes < 64:  # the parsers themselves would not find room to say what is wrong
            raise InvalidSetting(f"limit megabytes must be 64 or more; got {self.megabytes!r}.")
