"""JPEG (ITU-T T.81, baseline, 4:2:0) by libjpeg-turbo.

Encoded by simplejpeg from our own planes, with the library's standard quantisation tables scaled by the quality, the
standard Huffman tables and the slow, exact DCT. Decoded to planes by libavcodec, so that the way back to RGB, too, is
the one of :mod:`sensorium.jobs.colour`.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import Codec, Encoded, Picture, _av
from sensorium.platform.errors import InvalidSample
from sensorium.platform.optional import require

__all__ = ["codec"]

_START_OF_FRAME, _START_OF_SCAN = 0xC0, 0xDA
_LONGEST_SIDE = 65_500  # of the library; the format could say 65,535


def _encode(picture: Picture, quality: int) -> Encoded:
    simplejpeg = require("simplejpeg", "encode JPEG")
    codec.check_quality(quality)
    height, width = picture.size
    try:
        padded: bytes = simplejpeg.encode_jpeg_yuv_planes(*_whole_units(picture.planes), quality=quality, fastdct=False)
        data = _resized(padded, height, width)
    except ValueError as error:
        raise InvalidSample(f"JPEG cannot hold a picture of {height} x {width} pixels: {error}.") from error
    return Encoded(data, _scan_bytes(data))


def _whole_units(planes: colour.Planes) -> colour.Planes:
    """The planes up to whole coding units (16 x 16 pixels), their last row and column repeated.

    The library reads whole units from the planes that it is given: where a picture ends inside one, it would code
    whatever lies behind it in memory.
    """
    padded = []
    for plane, unit in zip(planes, (16, 8, 8), strict=True):
        height, width = plane.shape
        padded.append(np.pad(plane, ((0, -height % unit), (0, -width % unit)), mode="edge"))
    return colour.Planes(*padded)


def _resized(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header says ``height`` and ``width``: the same coding units, of which a decoder shows less.

    Raises:
        ValueError: a side is longer than the format can say.
    """
    if max(height, width) > _LONGEST_SIDE:
        raise ValueError(f"a side is longer than {_LONGEST_SIDE}")
    position = 2
    while data[position + 1] != _START_OF_FRAME:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    sides = position + 5  # marker (2 bytes), length (2), bits a sample (1)
    return data[:sides] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[sides + 4 :]


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    return colour.to_rgb(_av.decode("mjpeg", data, size))


def _scan_bytes(data: bytes) -> int:
    """Bytes of entropy-coded data in a JPEG of one scan: all between the scan's header and the final marker."""
    position = 2  # after the marker "start of image"; then segments: 0xFF, kind, length (2 bytes), the rest of it
    while data[position + 1] != _START_OF_SCAN:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return len(data) - 2 - position


def _version() -> str:
    return f"simplejpeg {require('simplejpeg', 'encode JPEG').__version__}, {_av.library_version()}"


codec = Codec(
    name="jpeg",
    title="JPEG",
    scale="quality, 5 to 95",
    best=95,
    worst=5,
    arguments=f"baseline, standard tables, exact DCT; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.013,
)
