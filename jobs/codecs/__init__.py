"""Codecs: pictures and clips to bytes and back, at a quality.

A codec is one file that makes one :class:`Codec`, named by an entry point of the group ``sensorium.codecs``. All lossy
codecs here are given the same planes: the conversion between RGB and 4:2:0 luma and chroma is done once, by
:mod:`sensorium.jobs.colour`, so that a comparison of codecs does not compare colour conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorium.jobs.colour import Planes, to_planes
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GROUP", "ClipCoder", "Codec", "Encoded", "Picture", "get"]

GROUP = "sensorium.codecs"


@dataclass(frozen=True)
class Picture:
    """An image as codecs take it; converted once for all of them.

    Attributes:
        rgb: [H, W, 3], uint8.
        planes: the same in 4:2:0, by :func:`sensorium.jobs.colour.to_planes`.
    """

    rgb: np.ndarray
    planes: Planes

    @classmethod
    def of(cls, rgb: np.ndarray) -> Picture:
        """The picture of an RGB image [H, W, 3], uint8.

        Raises:
            InvalidSample: not such an image.
        """
        return cls(rgb, to_planes(rgb))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.rgb.shape[:2]
        return height, width


@dataclass(frozen=True)
class Encoded:
    """A compressed image.

    Attributes:
        data: the whole bitstream, as it would lie in a file.
        payload: bytes of it that code pixels, without parameter sets, user data and container headers.
    """

    data: bytes
    payload: int


@dataclass(frozen=True)
class ClipCoder:
    """Coding of several frames as one stream, for codecs that predict from frame to frame.

    Attributes:
        encode: frames of one size in order of time, a quality on the codec's scale, and the GOP: a key frame every so many
            frames, 1 for intra coding only.
        decode: a bitstream, (height, width) and the number of frames, back to that many of [H, W, 3], RGB, uint8.
        arguments: every encoder setting other than quality and GOP, as text.
    """

    encode: Callable[[Sequence[Picture], int, int], Encoded]
    decode: Callable[[bytes, tuple[int, int], int], list[np.ndarray]]
    arguments: str


@dataclass(frozen=True)
class Codec:
    """A codec at fixed speed settings.

    Attributes:
        name: as in ``--codecs``.
        title: for people.
        scale: what the quality number is, such as ``"quality, 5 to 95"`` or ``"QP, 51 to 0"``.
        best, worst: the ends of the quality scale (a QP falls as quality rises).
        arguments: every encoder setting other than the quality, as text; part of a result's key.
        version: version of the encoder library; part of a result's key.
        encode: a picture and a quality to a bitstream.
        decode: a bitstream and (height, width) back to [H, W, 3], RGB, uint8.
        cost: CPU seconds to encode and decode a megapixel, a first guess (512 x 512 photographs, middle quality).
        clips: how several frames become one stream; None for a codec of single pictures.
    """

    name: str
    title: str
    scale: str
    best: int
    worst: int
    arguments: str
    version: Callable[[], str]
    encode: Callable[[Picture, int], Encoded]
    decode: Callable[[bytes, tuple[int, int]], np.ndarray]
    cost: float = 0.1
    clips: ClipCoder | None = None

    def check_quality(self, quality: int) -> int:
        """``quality`` itself if it lies on this codec's scale."""
        low, high = sorted((self.best, self.worst))
        if not low <= quality <= high:
            raise InvalidSetting(
                f"codec {self.name!r}: quality must be from {low} to {high} ({self.scale}); got {quality}."
            )
        return quality


def get(name: str) -> Codec:
    """The installed codec ``name``.

    Raises:
        UnknownPlugin: there is none.
    """
    codec: Codec = plugins.load(GROUP, name, Codec)
    return codec
