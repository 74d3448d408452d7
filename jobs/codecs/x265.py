"""H.265/HEVC by x265 at a constant quantiser, in process.

The quality is the QP of intra pictures, as with x264: ``ipratio=1.0`` takes away the 3 steps by which x265 otherwise
codes them finer than it is told. Unlike x264's, its QP 0 is not lossless.

Preset "medium", x265's own default: with it a picture of 512 x 512 takes 0.09 s of CPU, less than rav1e and VVenC here,
so a faster one would not shorten a sweep much. x265 works in a thread of its own even when told to use one: measure the
time of the process, not of the calling thread.

Slices count as payload; parameter sets do not. x265 is told not to write its settings into the stream (``info=0``). The
NAL unit "end of bitstream" is put at the end, and a stream without it is taken for cut off: the decoder would make up
the missing part of a slice.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import ClipCoder, Codec, Encoded, Picture, _av
from sensorium.platform.errors import UnreadableFile

__all__ = ["codec"]

_PRESET = "medium"
_PARAMETERS = (
    "ipratio=1.0:scenecut=0:open-gop=0:pools=none:frame-threads=1:wpp=0:lookahead-slices=0:chromaloc=1:log-level=none"
)
#: With intra pictures only there is nothing to look ahead for.
_STILL = "keyint=1:bframes=0:rc-lookahead=0"
_CLIP = "keyint={gop}:min-keyint={gop}"

#: kinds of NAL units below this are slices; two are supplemental information (ITU-T H.265, table 7-1)
_FIRST_NO_SLICE = 32
_INFORMATION = (39, 40)
#: The NAL unit "end of bitstream" (7.3.2.8): nothing but its header.
_END = b"\x4a\x01"
_START_CODE = b"\x00\x00\x00\x01"

#: The smallest side that x265 takes whatever the other (16, if that is below about 4,300), and the longest of level 6.2.
_SHORTEST, _LONGEST = 32, 16_888


def _stream(pictures: Sequence[Picture], quality: int, gop: int, information: int = 0) -> bytes:
    """The encoder's bitstream as it comes; ``information=1`` lets x265 name itself in it."""
    _av.check_sides("x265", pictures[0].size, _LONGEST)
    size = _av.even(pictures[0].size, least=_SHORTEST)
    structure = _STILL if gop == 1 else _CLIP.format(gop=gop)
    parameters = f"qp={quality}:{structure}:{_PARAMETERS}:info={information}"
    frames = [_av.padded(picture.planes, size) for picture in pictures]
    return _av.encode_clip("libx265", frames, {"preset": _PRESET, "x265-params": parameters})


def _encode(picture: Picture, quality: int) -> Encoded:
    return _encode_clip([picture], quality, 1)


def _encode_clip(pictures: Sequence[Picture], quality: int, gop: int) -> Encoded:
    codec.check_quality(quality)
    _av.check_clip([picture.planes for picture in pictures], gop)
    units = [unit for unit in _av.nal_units(_stream(pictures, quality, gop)) if _kind(unit) not in _INFORMATION]
    payload = sum(len(unit) for unit in units if _kind(unit) < _FIRST_NO_SLICE)
    return Encoded(b"".join(_START_CODE + unit for unit in (*units, _END)), payload)


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    (image,) = _decode_clip(data, size, 1)
    return image


def _decode_clip(data: bytes, size: tuple[int, int], count: int) -> list[np.ndarray]:
    if not data.endswith(_START_CODE + _END):
        raise UnreadableFile(f"hevc: {len(data)} bytes do not end as a bitstream does; they were cut off.")
    coded = _av.even(size, least=_SHORTEST)
    return [colour.to_rgb(planes) for planes in _av.decode_clip("hevc", data, size, count, coded=coded)]


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


@functools.cache
def _version() -> str:
    """Version of x265 as it names itself in a stream, and of the decoder."""
    picture = Picture.of(np.zeros((_SHORTEST, _SHORTEST, 3), np.uint8))
    named = re.search(rb"x265 \(build \d+\) - ([^:]*):", _stream([picture], 51, 1, information=1))
    return f"x265 {named[1].decode() if named else 'of unknown version'}, {_av.library_version()}"


codec = Codec(
    name="x265",
    title="H.265 (x265)",
    scale="QP of the picture, 51 to 0",
    best=0,
    worst=51,
    arguments=f"preset={_PRESET}:{_STILL}:{_PARAMETERS}:info=0; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.38,
    clips=ClipCoder(
        encode=_encode_clip,
        decode=_decode_clip,
        arguments=(
            f"preset={_PRESET}:{_PARAMETERS}:info=0; GOP 1: {_STILL}; else {_CLIP}, B pictures of the preset; "
            f"{colour.DEFINITION}"
        ),
    ),
)
