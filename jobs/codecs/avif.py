"""AVIF by libaom at a constant quality, through ffmpeg as a program beside the process.

The file is an AVIF as users have it: one still picture in its container, which signals our full range and matrix.
The quality is libaom's "cq-level", 0 to 63, in its mode for intra pictures ("all intra"), at speed 6; speed 4 takes four
times as long for 1 % fewer bytes and 0.6 dB more (a photograph of 512 x 512 at 30).

The frame in the item counts as payload; the sequence header before it and the container, nearly 300 bytes, do not.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import Codec, Encoded, Picture, _av, _boxes, _ffmpeg, _obu

__all__ = ["codec"]

_ARGUMENTS = ("-usage", "allintra", "-cpu-used", "6", "-still-picture", "1", "-row-mt", "0", "-b:v", "0")
_LONGEST = 65_536  # of a side, in the bits of AV1's sequence header


def _encode(picture: Picture, quality: int) -> Encoded:
    codec.check_quality(quality)
    _av.check_sides("libaom", picture.size, _LONGEST)
    data = _ffmpeg.encode([picture.planes], "libaom-av1", ["-crf", str(quality), *_ARGUMENTS], "avif")
    return Encoded(data, _obu.payload(_boxes.item(data)))


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    return colour.to_rgb(_av.decode("libdav1d", _boxes.item(data), size))


def _version() -> str:
    return f"libaom of {_ffmpeg.version()}, libdav1d of {_av.library_version()}"


codec = Codec(
    name="avif",
    title="AVIF (libaom)",
    scale="CQ level, 63 to 0",
    best=0,
    worst=63,
    arguments=f"{' '.join(_ARGUMENTS)}; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.5,
)
