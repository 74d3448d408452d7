"""Extended perceptually weighted PSNR (XPSNR) on luma, run by ffmpeg's filter ``xpsnr`` beside the process.

C. R. Helmrich, M. Siekmann, S. Becker, S. Bosse, D. Marpe, T. Wiegand, "XPSNR: a low-complexity extension of the
perceptually weighted peak signal-to-noise ratio for high-resolution video quality assessment", ICASSP 2020. Squared
errors of blocks are weighted by how little the original's own activity, in space and time, would hide them.

* Images: a still picture, that is one whose original has no activity in time. The filter takes the frame before the
  first for black, which would be a change of everything; so the original goes first, as a pair with itself, and its
  value is left out. Each other value depends on its own pair only.
* Clips: as ffmpeg reports its average over frames, at 25 frames a second.
* Identical images have :data:`CAP`, as in ``psnr.py``. ffmpeg gives four decimals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from sensorium.jobs import colour
from sensorium.jobs.image_metrics import Metric, Values, ffmpeg_pairs, pairs
from sensorium.platform.errors import ProgramFailed

__all__ = ["CAP", "LEAST", "metric"]

#: Value of identical images, and the largest there is (dB).
CAP = 100.0

#: Shortest side in pixels; below 45 x 45 the filter has no blocks and gives the plain PSNR.
LEAST = 45

_FILTER = "xpsnr=stats_file={report}"
_FRAME = re.compile(r"^n:\s*\d+\s+XPSNR y:\s*(\S+)", re.MULTILINE)
_AVERAGE = re.compile(r"^XPSNR average, \d+ frames\s+y:\s*(\S+)", re.MULTILINE)


def _many(reference: np.ndarray, distorted: Sequence[np.ndarray]) -> list[Values]:
    pairs.check("XPSNR", LEAST, reference, *distorted)
    original = colour.luma(reference)
    values: list[Values] = []
    for batch in ffmpeg_pairs.batches(distorted):
        frames = [original, *map(colour.luma, batch)]
        found = _FRAME.findall(ffmpeg_pairs.report(_FILTER, [original] * len(frames), frames))
        if len(found) != len(frames):
            raise ProgramFailed(
                f"ffmpeg's xpsnr reports {len(found)} of {len(frames)} frames. Is this ffmpeg another one?"
            )
        values += [min(CAP, float(value)) for value in found[1:]]
    return values


def _compute(reference: np.ndarray, distorted: np.ndarray) -> Values:
    return _many(reference, [distorted])[0]


def _clip(reference: Sequence[np.ndarray], distorted: Sequence[np.ndarray]) -> float:
    pairs.check_clip("XPSNR", LEAST, reference, distorted)
    original, changed = (list(map(colour.luma, frames)) for frames in (reference, distorted))
    found = _AVERAGE.search(ffmpeg_pairs.report(_FILTER, original, changed))
    if found is None:
        raise ProgramFailed("ffmpeg's xpsnr reports no average. Is this ffmpeg another one?")
    return min(CAP, float(found[1]))


metric = Metric(
    name="xpsnr",
    title="XPSNR (luma)",
    definition=f"xpsnr/helmrich2020-ffmpeg-still-luma601-cap{CAP:g}/1; clip 25 Hz; {colour.DEFINITION}",
    unit="dB",
    higher_is_better=True,
    compute=_compute,
    many=_many,
    clip=_clip,
    cost=0.1,
)
