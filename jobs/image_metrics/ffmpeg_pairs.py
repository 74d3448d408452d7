"""Metrics that only ffmpeg has: two raw streams of luma in memory, one filter, one report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sensorium.jobs import subprocesses

__all__ = ["batches", "report"]

#: The frame rate that ffmpeg is told (Hz). Metrics that look at time are defined at this rate.
RATE = 25

#: Bytes of one batch's stream: there are two such files in memory at a time.
_BATCH = 64 << 20

_NAME = "report"
_SECONDS = 600.0


def report(filter_: str, first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> str:
    """What a filter of ffmpeg writes about pairs of frames of luma [H, W], uint8, all of one size.

    Args:
        filter_: with ``{report}`` where it takes the name of the file to write.
        first: the filter's first input: libvmaf wants the distorted frames here, xpsnr the originals.
        second: as many frames.

    Raises:
        ProgramFailed: ffmpeg did.
    """
    height, width = first[0].shape
    stream = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", str(RATE), "-i"]
    graph = "[0:v][1:v]" + filter_.format(report=_NAME)
    quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-threads", "1", "-filter_threads", "1"]
    with subprocesses.memory_folder() as folder:
        for name, frames in (("first", first), ("second", second)):
            with (folder / name).open("wb") as file:
                file.writelines(np.ascontiguousarray(frame).data for frame in frames)
        subprocesses.run(
            [subprocesses.ffmpeg(), *quiet, *stream, "first", *stream, "second", "-lavfi", graph, "-f", "null", "-"],
            seconds=_SECONDS,
            cwd=str(folder),
        )
        return (folder / _NAME).read_text()


def batches(images: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    """``images`` [H, W, 3], of one size, in runs that one process takes at a time."""
    size = max(1, _BATCH // max(1, images[0][..., 0].size)) if images else 1
    for start in range(0, len(images), size):
        yield images[start : start + size]
