"""The one conversion between RGB and 4:2:0 luma and chroma, used by every codec and every metric on luma.

Definition (:data:`DEFINITION`):

* matrix and range of JFIF 1.02, that is ITU-R BT.601 on the full range 0 to 255::

      Y  =       0.299    R + 0.587    G + 0.114    B
      Cb = 128 - 0.168736 R - 0.331264 G + 0.5      B
      Cr = 128 + 0.5      R - 0.418688 G - 0.081312 B

  Full range, because the limited range of video (16 to 235) would lose 14 % of the levels before a codec has begun.
* each sample is rounded to the nearest integer once, in integer arithmetic: every machine gives the same bytes;
* chroma is sited in the centre of its 2 x 2 block (JFIF; ``chroma_sample_loc_type`` 1 of H.264), and is that block's
  mean. The mean is taken of RGB, before the only rounding, which is the same as the mean of unrounded chroma;
* an odd height or width is made even by repeating the last row or column, and the surplus is cut off on the way back;
* back: chroma is interpolated linearly (weights 9, 3, 3, 1 over 16, repeated at the border), rounded to 8 bits, and the
  inverse matrix applied, as JPEG decoders do ("fancy" upsampling).

Grey pixels come back exactly. For others the round trip is lossy: 4:2:0 alone limits the PSNR over RGB of photographs
to roughly 37 to 46 dB, so curves that saturate there saturate in chroma, and luma should be looked at too.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from sensorium.platform.errors import InvalidSample
from sensorium.platform.optional import require

__all__ = ["DEFINITION", "Planes", "check_rgb8", "luma", "opencv", "to_planes", "to_rgb"]

#: Changes whenever a converted sample could; codecs and metrics put it into what identifies their results.
DEFINITION = "bt601-full-420-centre/1"


class Planes(NamedTuple):
    """An image in 4:2:0: ``y`` [H, W], ``cb`` and ``cr`` [ceil(H / 2), ceil(W / 2)], uint8, full range."""

    y: np.ndarray
    cb: np.ndarray
    cr: np.ndarray


@functools.cache
def opencv() -> Any:
    """The module ``cv2``, held to one thread: parallelism is over images, and CPU time must be the caller's own."""
    cv2 = require("cv2", "convert and compare images")
    cv2.setNumThreads(1)
    return cv2


def check_rgb8(image: np.ndarray, *others: np.ndarray) -> None:
    """Refuse anything but RGB images [H, W, 3], uint8, not empty, all of one size.

    Raises:
        InvalidSample: says which rule is broken.
    """
    for array in (image, *others):
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
            raise InvalidSample(
                f"the image must be RGB, [H, W, 3], uint8, and not empty; got shape {array.shape}, {array.dtype}. "
                "Convert it first, for instance with sensorium.jobs.machine_quality.material.to_rgb8."
            )
        if array.shape != image.shape:
            raise InvalidSample(f"images to compare must have one size; got shapes {image.shape} and {array.shape}.")


def luma(rgb: np.ndarray) -> np.ndarray:
    """Luma [H, W], uint8, of an RGB image [H, W, 3], uint8.

    Raises:
        InvalidSample: not such an image.
    """
    check_rgb8(rgb)
    cv2 = opencv()
    # integer, 15 fractional bits, rounded to nearest: the formula above but for exact ties
    y: np.ndarray = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    return y


#: Rows of the matrix for Cb and Cr, with 16 fractional bits. Each row sums to 0: grey gives 128 exactly.
_TO_CHROMA = ((-11058, -21710, 32768), (32768, -27439, -5329))


def to_planes(rgb: np.ndarray) -> Planes:
    """4:2:0 planes of an RGB image [H, W, 3], uint8.

    Raises:
        InvalidSample: not such an image.
    """
    y = luma(rgb)
    height, width = y.shape
    even = rgb
    if height % 2 or width % 2:
        even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    pairs = even[0::2].astype(np.uint16)
    pairs += even[1::2]
    blocks = pairs[:, 0::2] + pairs[:, 1::2]  # sums of 2 x 2 pixels, 0 to 1020, [H / 2, W / 2, 3]
    red, green, blue = (blocks[..., channel].astype(np.int32) for channel in range(3))
    # 16 fractional bits and a sum of four: 18 bits to drop. Half minus one keeps 255.5 (pure blue, pure red) at 255.
    offset = (128 << 18) + (1 << 17) - 1
    cb, cr = ((a * red + b * green + c * blue + offset) >> 18 for a, b, c in _TO_CHROMA)
    return Planes(y, cb.astype(np.uint8), cr.astype(np.uint8))


@functools.cache
def _from_chroma() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a chroma sample adds to red, to blue (int16) and to green (from Cb, from Cr; int32, 16 fractional bits)."""
    centred = np.arange(-128, 128)
    red = np.rint(1.402 * centred).astype(np.int16)
    blue = np.rint(1.772 * centred).astype(np.int16)
    # green = Y - 0.344136 Cb - 0.714136 Cr; the first table carries the half that rounds their sum
    green_cb = np.rint(-(0.114 * 1.772 / 0.587) * 65536 * centred).astype(np.int32) + 32768
    green_cr = np.rint(-(0.299 * 1.402 / 0.587) * 65536 * centred).astype(np.int32)
    return red, blue, green_cb, green_cr


def to_rgb(planes: Planes) -> np.ndarray:
    """RGB image [H, W, 3], uint8, of 4:2:0 planes.

    Raises:
        InvalidSample: the planes' shapes do not belong together.
    """
    height, width = planes.y.shape
    half = (-(-height // 2), -(-width // 2))
    if planes.cb.shape != half or planes.cr.shape != half:
        raise InvalidSample(
            f"chroma of a {height} x {width} image must be {half[0]} x {half[1]}; "
            f"got {planes.cb.shape} and {planes.cr.shape}."
        )
    cv2 = opencv()
    full = (2 * half[1], 2 * half[0])
    cb, cr = (
        np.ascontiguousarray(cv2.resize(plane, full, interpolation=cv2.INTER_LINEAR_EXACT)[:height, :width])
        for plane in planes[1:]
    )
    red, blue, green_cb, green_cr = _from_chroma()
    green = cv2.LUT(cb, green_cb)
    green += cv2.LUT(cr, green_cr)
    green >>= 16
    y = planes.y
    channels = [  # sums of uint8 and int16, clipped to 0 to 255
        cv2.add(y, change, dtype=cv2.CV_8U) for change in (cv2.LUT(cr, red), green.astype(np.int16), cv2.LUT(cb, blue))
    ]
    rgb: np.ndarray = cv2.merge(channels)
    return rgb
