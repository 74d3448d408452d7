"""Encoders and decoders of FFmpeg's libraries in process, through PyAV.

A new encoder and a new decoder for every picture or clip: an encoder that has seen another picture may spend its bits
differently, even at constant quantiser and with key frames only. One thread each: the sweep is parallel over images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from sensorium.jobs.colour import Planes
from sensorium.platform.errors import InvalidSample, InvalidSetting, MissingDependency, UnreadableFile
from sensorium.platform.optional import require

__all__ = [
    "check_clip",
    "check_sides",
    "decode",
    "decode_clip",
    "encode",
    "encode_clip",
    "even",
    "library_version",
    "nal_units",
    "padded",
    "wheel_version",
]

#: FFmpeg's numbers for full range and for the matrix of ITU-R BT.601, which H.264 and its successors call "bt470bg".
_FULL_RANGE, _BT601 = 2, 5

#: Frames a second that encoders are told. Nothing depends on it: there is no rate control.
_FRAME_RATE = 25

_START_CODE = b"\x00\x00\x01"


def _pyav() -> Any:
    return require("av", "encode and decode images with FFmpeg's libraries")


def _context(name: str, mode: str) -> Any:
    """A new encoder (``mode`` "w") or decoder ("r") of one thread."""
    av = _pyav()
    try:
        context = av.CodecContext.create(name, mode)
    except av.codec.codec.UnknownCodecError as error:
        raise MissingDependency(
            f"this PyAV was built without {name}. Install its wheel: pip install --force-reinstall --only-binary av av"
        ) from error
    context.thread_count = 1
    return context


def library_version() -> str:
    """Version of FFmpeg's libavcodec, such as ``libavcodec 62.28.102``."""
    return "libavcodec " + ".".join(map(str, _pyav().library_versions["libavcodec"]))


def wheel_version() -> str:
    """Version of PyAV, whose wheel brings the encoders that do not name themselves, such as ``PyAV 16.0.1``."""
    return f"PyAV {_pyav().__version__}"


def even(size: tuple[int, int], *, least: int = 2) -> tuple[int, int]:
    """The smallest even (height, width) that holds ``size``, no side below ``least``.

    For encoders that take 4:2:0 of even size only, or none smaller than a block.
    """
    height, width = (max(side + side % 2, least) for side in size)
    return height, width


def padded(planes: Planes, size: tuple[int, int]) -> Planes:
    """The same picture with luma of ``size`` (height, width): the last row and column of each plane are repeated."""
    grown = []
    for plane, (height, width) in zip(planes, _shapes(size), strict=True):
        below, beside = height - plane.shape[0], width - plane.shape[1]
        grown.append(np.pad(plane, ((0, below), (0, beside)), mode="edge") if below or beside else plane)
    return Planes(*grown)


def check_sides(encoder: str, size: tuple[int, int], longest: int) -> None:
    """Refuse a picture with a side of more than ``longest`` pixels.

    Raises:
        InvalidSample: it has one.
    """
    if max(size) > longest:
        raise InvalidSample(
            f"{encoder} cannot encode a picture of {size[0]} x {size[1]} pixels: a side is longer than {longest}. "
            "Cut or scale the picture."
        )


def check_clip(frames: Sequence[Planes], gop: int) -> None:
    """Refuse a clip that is empty or of frames of several sizes, and a GOP below 1.

    Raises:
        InvalidSample: there is no frame, or two have different sizes.
        InvalidSetting: the GOP is below 1.
    """
    sizes = {planes.y.shape for planes in frames}
    if len(sizes) != 1:
        raise InvalidSample(f"a clip must have frames, all of one size; got {len(frames)} of sizes {sorted(sizes)}.")
    if gop < 1:
        raise InvalidSetting(f"the GOP must be at least 1 frame; got {gop}.")


def encode(encoder: str, planes: Planes, options: Mapping[str, str]) -> bytes:
    """One picture through FFmpeg's ``encoder``; see :func:`encode_clip`."""
    return encode_clip(encoder, [planes], options)


def encode_clip(
    encoder: str,
    frames: Sequence[Planes],
    options: Mapping[str, str],
    *,
    opened: Callable[[], None] | None = None,
) -> bytes:
    """Pictures of one size through FFmpeg's ``encoder``, signalled as full range BT.601, to a raw bitstream.

    ``opened`` is called when the encoder has started.

    Raises:
        MissingDependency: PyAV was built without the encoder.
        InvalidSample: the encoder refuses the pictures.
    """
    av = _pyav()
    height, width = frames[0].y.shape
    try:
        context = _context(encoder, "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, _FRAME_RATE), Fraction(_FRAME_RATE)
        context.color_range, context.colorspace = _FULL_RANGE, _BT601
        context.options = dict(options)
        if opened is not None:
            context.open()
            opened()
        packets = [packet for time, planes in enumerate(frames) for packet in context.encode(_frame(planes, time))]
        return b"".join(bytes(packet) for packet in (*packets, *context.encode(None)))
    except (av.FFmpegError, ValueError) as error:
        raise InvalidSample(f"{encoder} cannot encode a picture of {height} x {width} pixels: {error}.") from error


def _frame(planes: Planes, time: int) -> Any:
    """The picture as a frame of PyAV."""
    height, width = planes.y.shape
    frame = _pyav().VideoFrame(width, height, "yuv420p")
    frame.pts = time
    frame.color_range, frame.colorspace = _FULL_RANGE, _BT601
    for target, source in zip(frame.planes, planes, strict=True):
        rows, columns = source.shape
        np.frombuffer(target, np.uint8).reshape(-1, target.line_size)[:rows, :columns] = source
    return frame


def decode(
    decoder: str, data: bytes, size: tuple[int, int], *, coded: tuple[int, int] | None = None, bits: int = 8
) -> Planes:
    """The one picture in a raw bitstream; see :func:`decode_clip`."""
    (planes,) = decode_clip(decoder, data, size, 1, coded=coded, bits=bits)
    return planes


def decode_clip(
    decoder: str,
    data: bytes,
    size: tuple[int, int],
    count: int,
    *,
    coded: tuple[int, int] | None = None,
    bits: int = 8,
) -> list[Planes]:
    """The ``count`` pictures in a raw bitstream, in the order in which they are shown.

    Damage is an error: nothing is concealed.

    Args:
        decoder: FFmpeg's name of it.
        data: the bitstream.
        size: (height, width) to which the pictures are cut.
        count: of pictures that there must be.
        coded: (height, width) that the pictures must have in the bitstream; ``size`` if not given.
        bits: of a sample in the bitstream. Samples of more than 8 are rounded to 8.

    Raises:
        MissingDependency: PyAV was built without the decoder.
        UnreadableFile: the bitstream is damaged, holds fewer or more pictures, or pictures of another size or kind.
    """
    av = _pyav()
    try:
        context = _context(decoder, "r")
        context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        packets = [*context.parse(data), *context.parse(b"")]
        frames = [frame for packet in (*packets, None) for frame in context.decode(packet)]
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableFile(f"{decoder} cannot decode {len(data)} bytes: {error}.") from error
    whole = sum(not frame.is_corrupt for frame in frames)
    if (whole, len(frames)) != (count, count):
        raise UnreadableFile(
            f"{decoder}: {count} whole picture(s) expected in {len(data)} bytes; got {whole} and {len(frames) - whole} damaged."
        )
    return [_planes(decoder, frame, size, coded or size, bits) for frame in frames]


def _planes(decoder: str, frame: Any, size: tuple[int, int], coded: tuple[int, int], bits: int) -> Planes:
    """Copies of the frame's planes in 8 bits, cut to the luma ``size``."""
    found = [(plane.height, plane.width) for plane in frame.planes]
    kind = frame.format
    if "yuv" not in kind.name or kind.components[0].bits != bits or found != _shapes(coded):
        raise UnreadableFile(
            f"{decoder}: a 4:2:0 picture of {coded[0]} x {coded[1]} pixels and {bits} bits expected; "
            f"got {kind.name}, {frame.height} x {frame.width}."
        )
    return Planes(
        *(
            _samples(plane, bits)[:rows, :columns].copy()
            for plane, (rows, columns) in zip(frame.planes, _shapes(size), strict=True)
        )
    )


def _samples(plane: Any, bits: int) -> np.ndarray:
    """The plane's rows with what pads them, uint8; more than 8 bits are divided by the power of two and rounded."""
    if bits == 8:
        return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    wide = np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)
    surplus = bits - 8
    rounded: np.ndarray = np.minimum((wide + (1 << (surplus - 1))) >> surplus, 255).astype(np.uint8)
    return rounded


def _shapes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of luma and the two planes of chroma of a picture of ``size``."""
    height, width = size
    half = (-(-height // 2), -(-width // 2))
    return [(height, width), half, half]


def nal_units(stream: bytes) -> list[bytes]:
    """The NAL units of an H.264, H.265 or H.266 byte stream (Annex B), without start codes.

    Zero bytes before a start code belong to it: a NAL unit never ends in one (7.4.1 or 7.4.2 of each standard).
    """
    return [unit.rstrip(b"\x00") for unit in stream.split(_START_CODE)[1:]]
