"""Encoders that PyAV's wheel lacks, through the ffmpeg of imageio-ffmpeg, run as a program beside the process.

A program for every picture or clip: an encoder that crashes, hangs or grows costs one cell and not the worker, and none
remembers anything. Starting it costs about 20 ms, a tenth of what these encoders need for a picture of 512 x 512.

The bitstream goes through a file in memory, never through the standard output: VVenC prints its log there, into the
middle of the stream.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from sensorium.jobs import subprocesses
from sensorium.jobs.colour import Planes
from sensorium.platform.errors import MissingDependency, ProgramFailed

__all__ = ["encode", "version"]

#: Seconds that an encoder may take: some to start, and for each megapixel fifty times what the slowest needs.
_SECONDS, _SECONDS_PER_MEGAPIXEL = 30.0, 60.0

#: Stated for the input and for the output alike; were they different, ffmpeg would convert.
_COLOUR = ("-color_range", "pc", "-colorspace", "bt470bg")


def encode(frames: Sequence[Planes], encoder: str, options: Sequence[str], muxer: str, *, bits: int = 8) -> bytes:
    """Pictures of one size through an encoder of ffmpeg, signalled as full range BT.601.

    Args:
        frames: in the order in which they are shown.
        encoder: ffmpeg's name of it.
        options: of the encoder, as ffmpeg takes them.
        muxer: ffmpeg's name of the format.
        bits: of a sample as the encoder gets it, 8 or 10. Samples are multiplied by the power of two, as the reference
            software of H.265 and H.266 does where it codes more bits than it was given.

    Raises:
        ProgramFailed: the encoder crashed, took too long or too much memory, or refused the pictures.
        MissingDependency: imageio-ffmpeg is not installed, or its program has no such encoder.
    """
    height, width = frames[0].y.shape
    layout = "yuv420p" if bits == 8 else f"yuv420p{bits}le"
    command = [
        *(
            subprocesses.ffmpeg(),
            "-hide_banner",
            "-loglevel",
            "error",
            "-nostdin",
            "-threads",
            "1",
            "-filter_threads",
            "1",
        ),
        *("-f", "rawvideo", "-pix_fmt", layout, "-s", f"{width}x{height}", "-r", "25", *_COLOUR, "-i", "-"),
        *("-c:v", encoder, *options, "-threads", "1", *_COLOUR, "-fflags", "+bitexact", "-f", muxer, "coded"),
    ]
    raw = b"".join(_samples(plane, bits) for planes in frames for plane in planes)
    seconds = _SECONDS + _SECONDS_PER_MEGAPIXEL * len(frames) * height * width / 1e6
    with subprocesses.memory_folder() as folder:
        try:
            subprocesses.run(command, raw, seconds=seconds, cwd=str(folder))
        except ProgramFailed as error:
            raise _clearer(error, encoder) from error
        data = (folder / "coded").read_bytes()
    if not data:  # an encoder can lose all and call it success
        raise ProgramFailed(f"{encoder} of ffmpeg wrote nothing for {len(frames)} pictures of {height} x {width}.")
    return data


def _clearer(error: ProgramFailed, encoder: str) -> ProgramFailed | MissingDependency:
    """The error with the encoder's name; or, if ffmpeg lacks the encoder, one that says so: no fault of a picture."""
    if "Unknown encoder" not in str(error):
        return ProgramFailed(f"{encoder}: {error}")
    return MissingDependency(
        f"{version()} was built without {encoder}. Install the program of imageio-ffmpeg's wheel: "
        "pip install --force-reinstall --only-binary imageio-ffmpeg imageio-ffmpeg"
    )


def _samples(plane: np.ndarray, bits: int) -> bytes:
    if bits == 8:
        return plane.tobytes()
    return (plane.astype("<u2") << (bits - 8)).tobytes()


@functools.cache
def version() -> str:
    """Version of the program, such as ``ffmpeg 7.1``; its encoders are linked into it."""
    said = subprocesses.run([subprocesses.ffmpeg(), "-version"]).decode(errors="replace")
    named = re.match(r"ffmpeg version (\S+)", said)
    return f"ffmpeg {named[1] if named else 'of unknown version'}"
