"""Image codecs: pixels to bytes and back, at a quality.

A codec is one file that makes one :class:`Codec`, named by an entry point of the group ``sensorium.codecs``. All lossy
codecs here are given the same planes: the conversion between RGB and 4:2:0 luma and chroma is done once, by
:mod:`sensorium.jobs.colour`, so that a comparison of codecs does not compare colour conversions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GROUP", "Codec", "Encoded", "get"]

GROUP = "sensorium.codecs"


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
class Codec:
    """An image codec at fixed speed settings.

    Attributes:
        name: as in ``--codecs``.
        title: for people.
        scale: what the quality number is, such as ``"quality, 5 to 95"`` or ``"QP, 51 to 0"``.
        best, worst: the ends of the quality scale (a QP falls as quality rises).
        arguments: every encoder setting other than the quality, as text; part of a result's key.
        version: version of the encoder library; part of a result's key.
        encode: image [H, W, 3], RGB, uint8, and a quality, to a bitstream.
        decode: a bitstream and (height, width) back to [H, W, 3], RGB, uint8.
    """

    name: str
    title: str
    scale: str
    best: int
    worst: int
    arguments: str
    version: Callable[[], str]
    encode: Callable[[np.ndarray, int], Encoded]
    decode: Callable[[bytes, tuple[int, int]], np.ndarray]

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
