"""WebP, lossy (VP8 key frame, RFC 6386 and RFC 9649), by libwebp in process.

libwebp is given our own planes and they are decoded to planes again, as in every codec here. WebP has no way to say so:
its other readers take samples to span 16 to 235 and would show our full range with too much contrast. For a comparison
of codecs on the same planes that is as good; it is not how to write a WebP for others.

The quality is libwebp's, 0 to 100, method 4 of 6 (its default); quality 100 is not lossless. The data of the chunk "VP8 "
count as payload; the container's headers of 20 bytes do not.
"""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import Codec, Encoded, Picture, _av
from sensorium.platform.errors import UnreadableFile

__all__ = ["codec"]

_METHOD = "4"
_LONGEST = 16_383  # of a side, in the 14 bits of VP8's frame header
_CHUNK = b"VP8 "
_HEADERS = 20  # "RIFF", length, "WEBP"; then the chunk's name and length


def _encode(picture: Picture, quality: int) -> Encoded:
    codec.check_quality(quality)
    _av.check_sides("libwebp", picture.size, _LONGEST)
    options = {"quality": str(quality), "compression_level": _METHOD, "preset": "none", "lossless": "0"}
    data = _av.encode("libwebp", picture.planes, options)
    return Encoded(data, _payload(data))


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    _payload(data)  # the decoder conceals what is missing at the end
    return colour.to_rgb(_av.decode("webp", data, size))


def _payload(data: bytes) -> int:
    """Bytes in the only chunk of a file.

    Raises:
        UnreadableFile: it is not a WebP of one lossy picture, or not all of it.
    """
    length, chunk = (int.from_bytes(data[start : start + 4], "little") for start in (4, 16))
    kinds = (data[:4], data[8:12], data[12:16])
    if kinds != (b"RIFF", b"WEBP", _CHUNK) or length + 8 != len(data) or chunk + chunk % 2 + _HEADERS != len(data):
        raise UnreadableFile(f"{len(data)} bytes are not a WebP of one lossy picture: they begin with {data[:20]!r}.")
    return chunk


def _version() -> str:
    return f"libwebp of {_av.wheel_version()}, {_av.library_version()}"


codec = Codec(
    name="webp",
    title="WebP (libwebp)",
    scale="quality, 0 to 100",
    best=100,
    worst=0,
    arguments=f"method={_METHOD}:preset=none:lossless=0, full range; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.09,
)
