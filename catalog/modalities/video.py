"""Moving pictures: as frames, or as the encoded stream of a video file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.modalities import _drawing
from sensorium.catalog.modalities._declare import PIXELS, present, rate_above_zero
from sensorium.catalog.modality import Modality, Violation
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["modality"]

_FIELDS = (
    ArrayField(
        "frames",
        "T H W C",
        dtypes=PIXELS,
        sizes={"C": (1, 3, 4)},
        codec="none",
        description="grey, RGB or RGBA pictures in order",
    ),
    ArrayField(
        "encoded",
        "B",
        dtypes=("uint8",),
        codec="none",  # compressed already
        description="bytes of a video file (MP4, WebM, ...), instead of frames",
    ),
    ScalarField(
        "frame_rate", pa.float64(), unit="Hz", required=True, per_dataset=True, description="frames per second"
    ),
)


def check(sample: Mapping[str, Any]) -> Iterator[Violation]:
    """Frames or an encoded stream, and a positive rate."""
    if not present(sample, "frames") and not present(sample, "encoded"):
        yield Violation(
            "frames", "the sample has neither frames nor an encoded stream", "Give frames [T, H, W, C] or encoded [B]"
        )
    yield from rate_above_zero(sample, "frame_rate")


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw the middle frame; of an encoded stream, the key frame before its middle."""
    frames = _drawing.lazily(sample, "frames")
    frame = np.asarray(frames[len(frames) // 2]) if frames is not None else _middle(np.asarray(sample["encoded"]))
    _drawing.picture(axes, frame)


def _middle(encoded: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """A frame [H, W, 3] near the middle of an encoded stream."""
    av = require("av", "decode an encoded video")
    with av.open(io.BytesIO(encoded.tobytes())) as container:
        stream = container.streams.video[0]
        if stream.duration:
            container.seek(stream.duration // 2, stream=stream)
        frame: npt.NDArray[Any] = next(container.decode(stream)).to_ndarray(format="rgb24")
    return frame


modality = Modality(name="video", title="video, frames or encoded", fields=_FIELDS, check=check, preview=preview)
