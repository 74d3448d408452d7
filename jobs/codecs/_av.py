"""Encoders and decoders of FFmpeg's libraries in process, through PyAV, one picture at a time.

A new encoder and a new decoder for every picture: an encoder that has seen another picture may spend its bits
differently, even at constant quantiser and with key frames only. One thread each: the sweep is parallel over images.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from sensorium.jobs.colour import Planes
from sensorium.platform.errors import InvalidSample, MissingDependency, UnreadableFile
from sensorium.platform.optional import require

__all__ = ["decode", "encode", "even", "library_version", "nal_units"]

#: FFmpeg's numbers for full range and for the matrix of ITU-R BT.601, which H.264 and its successors call "bt470bg".
_FULL_RANGE, _BT601 = 2, 5

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


def even(planes: Planes) -> Planes:
    """The same picture with even height and width, its last row or column of luma repeated where needed.

    For encoders that take 4:2:0 of even size only; chroma is the same.
    """
    height, width = planes.y.shape
    if height % 2 == 0 and width % 2 == 0:
        return planes
    return planes._replace(y=np.pad(planes.y, ((0, height % 2), (0, width % 2)), mode="edge"))


def encode(encoder: str, planes: Planes, options: Mapping[str, str]) -> bytes:
    """One picture of even size through FFmpeg's ``encoder``, signalled as full range BT.601, to a raw bitstream.

    Raises:
        MissingDependency: PyAV was built without the encoder.
        InvalidSample: the encoder refuses the picture.
    """
    av = _pyav()
    height, width = planes.y.shape
    try:
        context = _context(encoder, "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = Fraction(1)
        context.color_range, context.colorspace = _FULL_RANGE, _BT601
        context.options = dict(options)
        frame = av.VideoFrame(width, height, "yuv420p")
        frame.pts = 0
        frame.color_range, frame.colorspace = _FULL_RANGE, _BT601
        for target, source in zip(frame.planes, planes, strict=True):
            rows, columns = source.shape
            np.frombuffer(target, np.uint8).reshape(-1, target.line_size)[:rows, :columns] = source
        return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
    except (av.FFmpegError, ValueError) as error:
        raise InvalidSample(f"{encoder} cannot encode a picture of {height} x {width} pixels: {error}.") from error


def decode(decoder: str, data: bytes, size: tuple[int, int]) -> Planes:
    """The one picture in a raw bitstream, cut to ``size`` (height, width).

    Damage is an error: nothing is concealed.

    Raises:
        MissingDependency: PyAV was built without the decoder.
        UnreadableFile: the bitstream is damaged, holds no picture or several, or one of another size or kind.
    """
    av = _pyav()
    try:
        context = _context(decoder, "r")
        context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        packets = [*context.parse(data), *context.parse(b"")]
        frames = [frame for packet in (*packets, None) for frame in context.decode(packet)]
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableFile(f"{decoder} cannot decode {len(data)} bytes: {error}.") from error
    if len(frames) != 1 or frames[0].is_corrupt:
        raise UnreadableFile(f"{decoder}: one whole picture expected in {len(data)} bytes; got {len(frames)}.")
    return _planes(decoder, frames[0], size)


def _planes(decoder: str, frame: Any, size: tuple[int, int]) -> Planes:
    """Copies of the frame's planes, cut to the luma ``size``."""
    height, width = size
    shapes = [(height, width), *[(-(-height // 2), -(-width // 2))] * 2]
    found = [(plane.height, plane.width) for plane in frame.planes]
    larger = (height + height % 2, width + width % 2)  # what `even` made of it
    kind = frame.format
    if (
        "yuv" not in kind.name
        or kind.components[0].bits != 8
        or found[1:] != shapes[1:]
        or found[0] not in (shapes[0], larger)
    ):
        raise UnreadableFile(
            f"{decoder}: a 4:2:0 picture of {height} x {width} pixels and 8 bits expected; "
            f"got {kind.name}, {frame.height} x {frame.width}."
        )
    return Planes(
        *(
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:rows, :columns].copy()
            for plane, (rows, columns) in zip(frame.planes, shapes, strict=True)
        )
    )


def nal_units(stream: bytes) -> list[bytes]:
    """The NAL units of an H.264 or H.265 byte stream (Annex B), without start codes.

    Zero bytes before a start code belong to it: a NAL unit never ends in one (7.4.1 of both standards).
    """
    return [unit.rstrip(b"\x00") for unit in stream.split(_START_CODE)[1:]]
