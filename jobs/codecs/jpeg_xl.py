"""JPEG XL (ISO/IEC 18181) by libjxl in process.

The one codec here that takes RGB and not our planes: it codes its own colour space, XYB, in full resolution, and that is
part of what it is. Our 4:2:0 planes do not limit its PSNR over RGB as they do the others'.

The quality is libjxl's, on the scale of JPEG's (90 is Butteraugli distance 1); 5 to 95. Effort 5 of 9: effort 7, the
default, takes twice as long and did not need fewer bytes (a photograph of 512 x 512 at 75). A bare codestream is written,
no container.

What follows the codestream's headers (size and image metadata) counts as payload. The coded frame has a header and a
table of contents of its own, a few bytes, which are counted with it.
"""

from __future__ import annotations

import importlib.metadata

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import Codec, Encoded, Picture, _av
from sensorium.platform.errors import InvalidSample, UnreadableFile
from sensorium.platform.optional import require

__all__ = ["codec"]

_EFFORT = 5
_LONGEST = 65_535  # far below what the format can say: a guard of memory
_SIGNATURE = b"\xff\x0a"
#: Bits of a side in the headers, by the two bits before it (ISO/IEC 18181-1, "SizeHeader").
_SIDE_BITS = (9, 13, 18, 30)


def _encode(picture: Picture, quality: int) -> Encoded:
    jxl = require("pillow_jxl", "encode JPEG XL")
    codec.check_quality(quality)
    height, width = picture.size
    _av.check_sides("libjxl", picture.size, _LONGEST)
    encoder = jxl.Encoder("RGB", quality=float(quality), effort=_EFFORT, num_threads=1)
    try:
        data = bytes(encoder(picture.rgb.tobytes(), width, height, jpeg_encode=False))
    except RuntimeError as error:
        raise InvalidSample(f"libjxl cannot encode a picture of {height} x {width} pixels: {error}.") from error
    return Encoded(data, len(data) - _header_bytes(data))


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    jxl = require("pillow_jxl", "decode JPEG XL")
    try:
        _, found, samples, *_ = jxl.Decoder(num_threads=1)(data)
    except (RuntimeError, ValueError) as error:
        raise UnreadableFile(f"libjxl cannot decode {len(data)} bytes: {error}.") from error
    height, width = size
    if (found.height, found.width, found.mode) != (height, width, "RGB") or len(samples) != 3 * height * width:
        raise UnreadableFile(
            f"libjxl: an RGB picture of {height} x {width} pixels and 8 bits expected; "
            f"got {found.mode}, {found.height} x {found.width}."
        )
    return np.frombuffer(samples, np.uint8).reshape(height, width, 3).copy()


def _header_bytes(data: bytes) -> int:
    """Bytes before the frame of a codestream of ours: signature, size, and metadata that say "all as usual" in one bit.

    Raises:
        UnreadableFile: the codestream does not begin so.
    """
    bits = int.from_bytes(data[:16], "little") >> 16  # after the signature; least significant bit first
    eighths, position = bits & 1, 1
    position += _side_bits(bits >> position, eighths)
    ratio, position = bits >> position & 7, position + 3
    if ratio == 0:  # else the width follows from the height
        position += _side_bits(bits >> position, eighths)
    as_usual = bits >> position & 3  # metadata, and the transform to linear light
    if data[:2] != _SIGNATURE or as_usual != 3:
        raise UnreadableFile(f"not a JPEG XL codestream of 8-bit sRGB in XYB: it begins with {data[:12].hex()!r}.")
    return len(_SIGNATURE) + -(-(position + 2) // 8)


def _side_bits(bits: int, eighths: int) -> int:
    """How many bits say a side: 5 if in eighths, else 2 and as many as those say."""
    return 5 if eighths else 2 + _SIDE_BITS[bits & 3]


def _version() -> str:
    return f"libjxl of pillow-jxl-plugin {importlib.metadata.version('pillow-jxl-plugin')}"


codec = Codec(
    name="jpeg_xl",
    title="JPEG XL (libjxl)",
    scale="quality, 5 to 95",
    best=95,
    worst=5,
    arguments=f"effort={_EFFORT}, XYB from RGB; luma by {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.2,
)
