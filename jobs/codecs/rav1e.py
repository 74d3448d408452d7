"""AV1 by rav1e at a constant quantiser, through ffmpeg as a program beside the process.

The quality is rav1e's quantiser, 0 to 255, the index into AV1's table of quantiser steps of an intra picture.

Speed 8: on a photograph of 512 x 512 speed 6 takes 1.7 times as long for 0.2 dB more luma PSNR in 1 % more bytes
(quantiser 100), and speeds 9 and 10 are faster by another 1.7 and 2.7 but need 12 and 33 % more bytes.

rav1e's still-picture mode is not used, so that a still picture is the same as a clip of one frame. Frames and their
headers count as payload; sequence headers and delimiters do not.
"""

from __future__ import annotations

from collections.abc import Sequence

from sensorium.jobs import colour
from sensorium.jobs.codecs import ClipCoder, Codec, Encoded, Picture, _av, _av1, _ffmpeg, _obu

__all__ = ["codec"]

_SPEED = "8"
_PARAMETERS = "threads=1"
#: The longest side that AV1's sequence header holds.
_LONGEST = 65_535


def _encode(picture: Picture, quality: int) -> Encoded:
    return _encode_clip([picture], quality, 1)


def _encode_clip(pictures: Sequence[Picture], quality: int, gop: int) -> Encoded:
    codec.check_quality(quality)
    _av.check_clip([picture.planes for picture in pictures], gop)
    _av.check_sides("rav1e", pictures[0].size, _LONGEST)
    size = _av1.coded_size(pictures[0].size)
    frames = [_av.padded(picture.planes, size) for picture in pictures]
    options = ["-qp", str(quality), "-speed", _SPEED, "-rav1e-params", _PARAMETERS]
    data = _ffmpeg.encode(frames, "librav1e", [*options, "-g", str(gop), "-keyint_min", str(gop)], "obu")
    return Encoded(data, _obu.payload(data))


def _version() -> str:
    return f"librav1e of {_ffmpeg.version()}, libdav1d of {_av.library_version()}"


codec = Codec(
    name="rav1e",
    title="AV1 (rav1e)",
    scale="quantiser, 255 to 0",
    best=0,
    worst=255,
    arguments=f"speed={_SPEED}:{_PARAMETERS}:g=1; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_av1.decode,
    cost=0.95,
    clips=ClipCoder(
        encode=_encode_clip,
        decode=_av1.decode_clip,
        arguments=f"speed={_SPEED}:{_PARAMETERS}:keyint_min=GOP, frames in rav1e's pyramid; {colour.DEFINITION}",
    ),
)
