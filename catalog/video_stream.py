"""Frames of an encoded video by their number: exact, without decoding what lies before the last key frame.

Frame ``i`` is the one that decoding everything gives as number ``i``, also with frames that are stored in another order than
they are shown in (B-frames), with times that do not begin at 0, and with edit lists. Packets are listed without being decoded;
their times say which packet is which frame. A container that keeps no times (some AVI files) is decoded from its beginning.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSetting, UnreadableFile
from sensorium.platform.optional import require

__all__ = ["Header", "VideoStream", "frames"]

Frame = npt.NDArray[np.uint8]

_REMEDY = "Encode it anew from its source, or leave it out."


@dataclass(frozen=True)
class Header:
    """What a container says of its video.

    Attributes:
        width, height: of a frame, pixels.
        codec: FFmpeg's name of it, such as ``h264``.
        frame_rate: mean number of frames per second; 0 where it is not known.
        seconds: from the first frame to the end of the last; 0 where it is not known.
    """

    width: int
    height: int
    codec: str
    frame_rate: float
    seconds: float


class VideoStream:
    """An encoded video, open for reading; to be used in a ``with`` block.

    Args:
        content: bytes of a video file (MP4, WebM, AVI …), or its path.
        name: of it, for messages.

    Raises:
        UnreadableFile: it cannot be opened, or has no video.
    """

    def __init__(self, content: bytes | npt.NDArray[np.uint8] | str, name: str = "encoded video") -> None:
        self.name = name
        av = require("av", "decode an encoded video")
        self._faults = (av.FFmpegError, OSError, ValueError, EOFError)
        source = (
            content if isinstance(content, str) else io.BytesIO(content if isinstance(content, bytes) else content.data)
        )
        try:
            self._container = av.open(source)
        except self._faults as error:
            raise self._unreadable(f"cannot be opened as video ({_reason(error)})") from error
        if not self._container.streams.video:
            self._container.close()
            raise self._unreadable("has no video in it")
        self._video = self._container.streams.video[0]
        self._video.thread_type = "AUTO"

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def header(self) -> Header:
        """What is known without reading the packets."""
        video = self._video
        rate = float(video.average_rate or video.guessed_rate or 0)
        seconds = float(video.duration * video.time_base) if video.duration else 0.0
        context = video.codec_context
        # AV1 is decoded by whichever library is there, but called by the name of the format
        return Header(context.width, context.height, str(context.codec.canonical_name), rate, seconds)

    @cached_property
    def _packets(self) -> list[Any]:
        """All packets, in the order of decoding."""
        try:
            found = [packet for packet in self._container.demux(self._video) if packet.size]
        except self._faults as error:
            raise self._unreadable(f"its packets cannot be read ({_reason(error)})") from error
        if any(packet.is_corrupt for packet in found):
            raise self._unreadable("is damaged or cut off: a packet is not whole")
        return found

    @cached_property
    def _times(self) -> npt.NDArray[np.int64] | None:
        """Time of each frame in the order of showing, in the stream's time base; None where the container keeps none."""
        if self._container.format.name == "avi" and self._video.codec_context.has_b_frames:
            return None  # AVI numbers packets in the order of decoding
        hidden = self._video.codec_context.name in ("vp8", "libvpx")
        shown = [
            packet.pts for packet in self._packets if not packet.is_discard and not (hidden and _is_hidden(packet))
        ]
        if any(time is None for time in shown) or len(set(shown)) != len(shown):
            return None
        return np.sort(np.array(shown, dtype=np.int64))

    @cached_property
    def _keys(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Time and position among the packets of each key frame."""
        found = [(packet.pts, place) for place, packet in enumerate(self._packets) if packet.is_keyframe]
        table = np.array(found, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def __len__(self) -> int:
        """Number of frames; where the container keeps no times, everything is decoded to count them."""
        return self._count

    @cached_property
    def _count(self) -> int:
        return len(self._times) if self._times is not None else sum(1 for _ in self._decoded(0, [0]))

    @cached_property
    def seconds(self) -> npt.NDArray[np.float64]:
        """When each frame is shown, [T] in seconds from the first; by the frame rate where the container keeps no times."""
        if self._times is None:
            return np.arange(len(self)) / (self.header.frame_rate or 1.0)
        ticks = self._times - self._times[:1]
        return np.asarray(ticks * float(self._video.time_base), dtype=np.float64)

    @property
    def end(self) -> float:
        """Seconds from time 0 to the end of the last packet; 0 where the container keeps no times."""
        if self._times is None or not len(self._times):
            return 0.0
        last = max((packet.pts or 0) + (packet.duration or 0) for packet in self._packets)
        return float((last - (self._video.start_time or 0)) * self._video.time_base)

    @cached_property
    def rotation(self) -> int:
        """Degrees anticlockwise that a player turns the frames by; it is kept with the frames."""
        return next((round(frame.rotation) for frame in self._picked([0])), 0)

    def pick(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Frames [H, W, 3] RGB of these rising numbers, one at a time.

        Raises:
            UnreadableFile: one of them is not there, or cannot be decoded.
        """
        for frame in self._picked(numbers):
            yield self._rgb(frame)

    def frames(self, start: int | None = None, stop: int | None = None, step: int | None = None) -> Frame:
        """Frames [T, H, W, 3] RGB, numbered as in a slice.

        Raises:
            InvalidSetting: a step that is not above 0.
            UnreadableFile: one cannot be decoded.
        """
        if step is not None and step < 1:
            raise InvalidSetting(f"step must be 1 or more; got {step}.")
        numbers = range(len(self))[start:stop:step]
        header = self.header
        result = np.empty((len(numbers), header.height, header.width, 3), dtype=np.uint8)
        for place, frame in enumerate(self.pick(numbers)):
            result[place] = frame
        return result

    def _picked(self, numbers: Sequence[int]) -> Iterator[Any]:
        times = self._times
        if times is None:
            yield from self._counted(numbers)
            return
        cursor = [-1]  # place of the packet that is decoded next
        decoded: Iterator[Any] = iter(())
        for number in numbers:
            time = times[number]
            key = self._key_before(time)
            if cursor[0] < key or cursor[0] < 0:
                decoded = self._decoded(key, cursor)
            frame = _first_from(decoded, time)
            if key and (frame is None or frame.pts != time or frame.is_corrupt):
                # some streams have key frames that pictures before them are needed for: pictures refreshed bit by bit
                decoded = self._decoded(0, cursor)
                frame = _first_from(decoded, time)
            if frame is None or frame.pts != time:
                raise self._unreadable(f"frame {number} of {len(times)} cannot be decoded")
            yield frame

    def _key_before(self, time: int) -> int:
        """Place of the packet to begin with for the frame of this time."""
        times, places = self._keys
        known = np.flatnonzero(times <= time)
        return int(places[known[-1]]) if len(known) else 0

    def _counted(self, numbers: Sequence[int]) -> Iterator[Any]:
        wanted = iter(numbers)
        number = next(wanted, None)
        for count, frame in enumerate(self._decoded(0, [0])):
            if count == number:
                yield frame
                number = next(wanted, None)
            if number is None:
                return
        if number is not None:
            raise self._unreadable(f"frame {number} cannot be decoded")

    def _decoded(self, first: int, cursor: list[int]) -> Iterator[Any]:
        """Frames from the packet at place ``first`` on; ``cursor[0]`` follows."""
        context = self._video.codec_context
        cursor[0] = first
        try:
            context.flush_buffers()
            for place in range(first, len(self._packets)):
                cursor[0] = place + 1
                yield from context.decode(self._packets[place])
            yield from context.decode(None)
        except self._faults as error:
            raise self._unreadable(f"cannot be decoded ({_reason(error)})") from error

    def _rgb(self, frame: Any) -> Frame:
        header = self.header
        if (frame.width, frame.height) != (header.width, header.height):
            raise self._unreadable(
                f"has frames of {frame.width} x {frame.height} pixels, where its header says "
                f"{header.width} x {header.height}"
            )
        pixels: Frame = frame.to_ndarray(format="rgb24")
        return pixels

    def _unreadable(self, problem: str) -> UnreadableFile:
        return UnreadableFile(f"{self.name}: {problem}. {_REMEDY}")


def _is_hidden(packet: Any) -> bool:
    """Whether a packet of VP8 is a frame that is never shown (RFC 6386, 9.1: the fifth bit shows it)."""
    return not bytes(packet)[0] & 0x10


def _first_from(decoded: Iterator[Any], time: int) -> Any:
    return next((frame for frame in decoded if frame.pts is None or frame.pts >= time), None)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).rstrip(".")


def frames(
    content: bytes | npt.NDArray[np.uint8], start: int | None = None, stop: int | None = None, step: int | None = None
) -> Frame:
    """Frames [T, H, W, 3] uint8 RGB of an encoded video, numbered as in a slice; only what they need is decoded.

    Args:
        content: bytes of a video file, such as the field ``encoded`` of a sample.
        start: number of the first, as in a slice.
        stop: number after the last, as in a slice.
        step: from one to the next, 1 or more.

    Raises:
        UnreadableFile: it cannot be decoded.
    """
    with VideoStream(content) as stream:
        return stream.frames(start, stop, step)
