"""JPEG (ITU-T T.81, baseline, 4:2:0) by libjpeg-turbo.

Encoded by simplejpeg from our own planes, with the library's standard quantisation tables scaled by the quality, the
standard Huffman tables and the slow, exact DCT. Decoded to planes by libavcodec, so that the way back to RGB, too, is
the one of :mod:`sensorium.jobs.colour`.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import Codec, Encoded, _av
from sensorium.platform.errors import InvalidSample
from sensorium.platform.optional import require

__all__ = ["codec"]

_START_OF_SCAN = 0xDA


def _encode(image: np.ndarray, quality: int) -> Encoded:
    simplejpeg = require("simplejpeg", "encode JPEG")
    codec.check_quality(quality)
    planes = colour.to_planes(image)
    try:
        data: bytes = simplejpeg.encode_jpeg_yuv_planes(*planes, quality=quality, fastdct=False)
    except ValueError as error:
        raise InvalidSample(
            f"JPEG cannot hold a picture of {image.shape[0]} x {image.shape[1]} pixels: {error}."
        ) from error
    return Encoded(data, _scan_bytes(data))


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
)
