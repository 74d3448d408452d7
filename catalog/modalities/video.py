"""Moving pictures: as frames, or as the encoded stream of a video file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import PIXELS, present, rate_above_zero
from sensorium.catalog.modality import Modality, Violation
from sensorium.catalog.video_stream import VideoStream

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    """Draw the middle frame."""
    for _, _, frame in _chosen(sample, lambda count: [count // 2]):
        _drawing.picture(axes, frame)


def sheet(figure: Figure, sample: Mapping[str, Any]) -> None:
    """Eight frames with their times."""
    _sheets.strip(figure, [(seconds, frame) for _, seconds, frame in _chosen(sample, _sheets.evenly)])


def steps(sample: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Frames, at most 200, evenly spread."""
    for number, seconds, frame in _chosen(sample, lambda count: _sheets.evenly(count, 200)):
        shown = _drawing.to_rgb(_drawing.thin(frame))
        yield f"frame {number}, {seconds:.2f} s", (shown * 255 + 0.5).astype(np.uint8)


def _chosen(
    sample: Mapping[str, Any], choose: Callable[[int], Sequence[int]]
) -> Iterator[tuple[int, float, npt.NDArray[Any]]]:
    """Numbers, times (s) and pictures [H, W, C] of the frames that ``choose`` chooses of so many; one is held at a time."""
    frames = _drawing.lazily(sample, "frames")
    if frames is not None:
        rate = float(sample["frame_rate"])
        for number in choose(len(frames)):
            yield number, number / rate, np.asarray(frames[number])
        return
    with VideoStream(np.ascontiguousarray(sample["encoded"])) as stream:
        numbers = choose(len(stream))
        for number, frame in zip(numbers, stream.pick(numbers), strict=True):
            yield number, float(stream.seconds[number]), frame


modality = Modality(
    name="video",
    title="video, frames or encoded",
    fields=_FIELDS,
    check=check,
    preview=preview,
    sheet=sheet,
    steps=steps,
)
