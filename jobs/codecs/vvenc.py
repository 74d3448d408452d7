"""H.266/VVC by VVenC at a constant quantiser, through ffmpeg as a program beside the process.

The quality is the QP of intra pictures, as with x264: ``IntraQPOffset=0`` takes away the 3 steps by which VVenC otherwise
codes them finer than it is told. Its perceptual adaptation of the QP is off (``qpa=0``), as it is in x264 and x265 at a
constant QP; so are the filters that smooth a picture with its neighbours in time before it is coded (``mctf=0:bim=0``),
which change a picture's bytes with the pictures around it even where all are intra.

VVenC in ffmpeg codes 10 bits. Our 8 bits are multiplied by 4, and the decoded 10 bits are divided by 4 and rounded, as
the reference software does; a QP means the same step of our 8 bits as in the other codecs.

Preset "faster": "fast" takes 3.5 times as long for 5 % fewer bytes and 0.3 dB more (a photograph of 512 x 512 at QP 29).

ffmpeg keeps one byte for each pixel of a picture. Noise at a QP below 18 needs more, and is a ``ProgramFailed``;
photographs fit at every QP. Small pictures are padded so that headers fit, too.

Slices, picture headers and adaptation parameter sets count as payload. The last hold the filters fitted to the picture,
which H.265 and AV1 keep within their slices and frames. Other parameter sets do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import ClipCoder, Codec, Encoded, Picture, _av, _ffmpeg

__all__ = ["codec"]

_PRESET = "faster"
#: ``maxparallelframes=0``: else this version writes nothing at all, and no error, for six or more intra pictures.
_PARAMETERS = "threads=1:maxparallelframes=0:qpa=0:mctf=0:bim=0:IntraQPOffset=0:range=full"
_STILL = "intraperiod=1:gopsize=1"
_CLIP = "intraperiod={gop}:decodingrefreshtype=idr"

# kinds of NAL units (ITU-T H.266, table 5)
_FIRST_NO_SLICE = 12
_ADAPTATION = (17, 18)
_PICTURE_HEADER = 19
_INFORMATION = (23, 24)
_START_CODE = b"\x00\x00\x00\x01"

#: The shortest side for which headers fit into ffmpeg's byte for a pixel, and the longest of the standard's level 6.2.
_SHORTEST, _LONGEST = 64, 16_888


def _encode(picture: Picture, quality: int) -> Encoded:
    return _encode_clip([picture], quality, 1)


def _encode_clip(pictures: Sequence[Picture], quality: int, gop: int) -> Encoded:
    codec.check_quality(quality)
    _av.check_clip([picture.planes for picture in pictures], gop)
    _av.check_sides("VVenC", pictures[0].size, _LONGEST)
    size = _av.even(pictures[0].size, least=_SHORTEST)
    structure = _STILL if gop == 1 else _CLIP.format(gop=gop)
    stream = _ffmpeg.encode(
        [_av.padded(picture.planes, size) for picture in pictures],
        "libvvenc",
        ["-qp", str(quality), "-preset", _PRESET, "-vvenc-params", f"{_PARAMETERS}:{structure}"],
        "vvc",
        bits=10,
    )
    units = [unit for unit in _av.nal_units(stream) if _kind(unit) not in _INFORMATION]
    payload = sum(len(unit) for unit in units if _codes_pixels(unit))
    return Encoded(b"".join(_START_CODE + unit for unit in units), payload)


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    (image,) = _decode_clip(data, size, 1)
    return image


def _decode_clip(data: bytes, size: tuple[int, int], count: int) -> list[np.ndarray]:
    coded = _av.even(size, least=_SHORTEST)
    return [colour.to_rgb(planes) for planes in _av.decode_clip("vvc", data, size, count, coded=coded, bits=10)]


def _kind(unit: bytes) -> int:
    return unit[1] >> 3


def _codes_pixels(unit: bytes) -> bool:
    return _kind(unit) < _FIRST_NO_SLICE or _kind(unit) in (*_ADAPTATION, _PICTURE_HEADER)


def _version() -> str:
    return f"libvvenc of {_ffmpeg.version()}, {_av.library_version()}"


codec = Codec(
    name="vvenc",
    title="H.266 (VVenC)",
    scale="QP of the picture, 63 to 0",
    best=0,
    worst=63,
    arguments=f"preset={_PRESET}:{_PARAMETERS}:{_STILL}; 10 bits; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_decode,
    cost=0.8,
    clips=ClipCoder(
        encode=_encode_clip,
        decode=_decode_clip,
        arguments=(
            f"preset={_PRESET}:{_PARAMETERS}; GOP 1: {_STILL}; else {_CLIP}, B pictures of the preset; 10 bits; "
            f"{colour.DEFINITION}"
        ),
    ),
)
