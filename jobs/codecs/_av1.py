"""What AV1 codecs share: coded size and decoding by dav1d."""

from __future__ import annotations

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.codecs import _av

__all__ = ["coded_size", "decode", "decode_clip"]

#: The smallest side that the encoders take.
_SHORTEST = 16


def coded_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that is coded for a picture of ``size``."""
    return _av.even(size, least=_SHORTEST)


def decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """The one picture of a stream, [H, W, 3], RGB, uint8."""
    (image,) = decode_clip(data, size, 1)
    return image


def decode_clip(data: bytes, size: tuple[int, int], count: int) -> list[np.ndarray]:
    """The pictures of a stream, in the order in which they are shown."""
    found = _av.decode_clip("libdav1d", data, size, count, coded=coded_size(size))
    return [colour.to_rgb(planes) for planes in found]
