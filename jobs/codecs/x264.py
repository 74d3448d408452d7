"""H.264/AVC by x264 at a constant quantiser, in process.

The quality is the QP at which intra pictures are coded. (x264's own ``--qp`` is that of P pictures; with its default
``ipratio`` of 1.4 an intra picture is coded 3 steps finer, and the coarsest 3 of the 52 steps cannot be reached.)
QP 0 is lossless coding of the planes, which on many photographs takes fewer bytes than QP 1.

x264 writes its options into the stream as user data, about 550 bytes; a third of a small picture. That text is removed,
and only slices count as payload, not the parameter sets.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import ClipCoder, Codec, Encoded, Picture, _av

__all__ = ["codec"]

_PRESET = "medium"
#: ``cpu-independent``: the same bytes on every processor, at a tenth more time. ``chromaloc=1``: centred chroma.
_PARAMETERS = "ipratio=1.0:scenecut=0:rc-lookahead=0:threads=1:lookahead-threads=1:cpu-independent=1:chromaloc=1"

# kinds of NAL units (ITU-T H.264, table 7-1)
_SLICES = (1, 5)
_USER_DATA = 6
_START_CODE = b"\x00\x00\x00\x01"


def _stream(pictures: Sequence[Picture], quality: int, gop: int) -> bytes:
    """The encoder's bitstream as it comes, user data included."""
    size = _av.even(pictures[0].size)
    parameters = f"keyint={gop}:{_PARAMETERS}"
    frames = [_av.padded(picture.planes, size) for picture in pictures]
    return _av.encode_clip("libx264", frames, {"preset": _PRESET, "qp": str(quality), "x264-params": parameters})


def _encode(picture: Picture, quality: int) -> Encoded:
    return _encode_clip([picture], quality, 1)


def _encode_clip(pictures: Sequence[Picture], quality: int, gop: int) -> Encoded:
    codec.check_quality(quality)
    _av.check_clip([picture.planes for picture in pictures], gop)
    units = [unit for unit in _av.nal_units(_stream(pictures, quality, gop)) if _kind(unit) != _USER_DATA]
    payload = sum(len(unit) for unit in units if _kind(unit) in _SLICES)
    return Encoded(b"".join(_START_CODE + unit for unit in units), payload)


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    (image,) = _decode_clip(data, size, 1)
    return image


def _decode_clip(data: bytes, size: tuple[int, int], count: int) -> list[np.ndarray]:
    return [colour.to_rgb(planes) for planes in _av.decode_clip("h264", data, size, count, coded=_av.even(size))]


def _kind(unit: bytes) -> int:
    return unit[0] & 31


@functools.cache
def _version() -> str:
    """Version of x264 as it names itself in a stream, and of the decoder."""
    stream = _stream([Picture.of(np.zeros((16, 16, 3), np.uint8))], quality=51, gop=1)
    named = re.search(rb"x264 - (core [^-]*?) - ", stream)
    return f"x264 {named[1].decode() if named else 'of unknown version'}, {_av.library_version()}"


codec = Codec(
    name="x264",
    title="H.264 (x264)",
    scale="QP of the picture, 51 to 0",
    best=0,
    worst=51,
    arguments=f"preset={_PRESET}:keyint=1:{_PARAMETERS}; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.06,
    clips=ClipCoder(
        encode=_encode_clip,
        decode=_decode_clip,
        arguments=f"preset={_PRESET}:{_PARAMETERS}, B pictures of the preset; {colour.DEFINITION}",
    ),
)
