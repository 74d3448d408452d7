"""H.264/AVC by x264: one intra picture at a constant quantiser.

The quality is the QP at which the picture itself is coded. (x264's own ``--qp`` is that of P pictures; with its default
``ipratio`` of 1.4 an intra picture is coded 3 steps finer, and the coarsest 3 of the 52 steps cannot be reached.)
QP 0 is lossless coding of the planes, which on many photographs takes fewer bytes than QP 1.

x264 writes its options into the stream as user data, about 550 bytes; a third of a small picture. That text is removed,
and only slices count as payload, not the parameter sets.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import Codec, Encoded, Picture, _av

__all__ = ["codec"]

_PRESET = "medium"
#: ``cpu-independent``: the same bytes on every processor, at a tenth more time. ``chromaloc=1``: centred chroma.
_PARAMETERS = "keyint=1:ipratio=1.0:rc-lookahead=0:threads=1:lookahead-threads=1:cpu-independent=1:chromaloc=1"

# kinds of NAL units (ITU-T H.264, table 7-1)
_SLICES = (1, 5)
_USER_DATA = 6
_START_CODE = b"\x00\x00\x00\x01"


def _stream(picture: Picture, quality: int) -> bytes:
    """The encoder's bitstream as it comes, user data included."""
    planes = _av.even(picture.planes)
    return _av.encode("libx264", planes, {"preset": _PRESET, "qp": str(quality), "x264-params": _PARAMETERS})


def _encode(picture: Picture, quality: int) -> Encoded:
    codec.check_quality(quality)
    units = [unit for unit in _av.nal_units(_stream(picture, quality)) if _kind(unit) != _USER_DATA]
    payload = sum(len(unit) for unit in units if _kind(unit) in _SLICES)
    return Encoded(b"".join(_START_CODE + unit for unit in units), payload)


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    return colour.to_rgb(_av.decode("h264", data, size))


def _kind(unit: bytes) -> int:
    return unit[0] & 31


@functools.cache
def _version() -> str:
    """Version of x264 as it names itself in a stream, and of the decoder."""
    stream = _stream(Picture.of(np.zeros((16, 16, 3), np.uint8)), quality=51)
    named = re.search(rb"x264 - (core [^-]*?) - ", stream)
    return f"x264 {named[1].decode() if named else 'of unknown version'}, {_av.library_version()}"


codec = Codec(
    name="x264",
    title="H.264 (x264)",
    scale="QP of the picture, 51 to 0",
    best=0,
    worst=51,
    arguments=f"preset={_PRESET}:{_PARAMETERS}; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.07,
)
