"""AV1 by SVT-AV1 at a constant quantiser, in process.

The quality is SVT-AV1's CRF, 1 to 63, with its adaptive quantisation off and the quantiser of every frame fixed to that
of the CRF (``use-fixed-qindex-offsets``): without, key frames are coded 8 dB finer, in three times the bytes. Its filter over
neighbouring frames is off (``enable-tf=0``): it would change intra pictures with those around them.

Preset 8. The encoder's own mode for still pictures (``avif=1``) is not used: it is three times as fast, but takes 11 % more
bytes for 0.3 dB less (a photograph of 512 x 512 at 35), and a clip could not be coded with the same tools.

SVT-AV1 keeps threads of its own even when told to use one: measure the time of the process, not of the calling thread.
Frames and their headers count as payload; sequence headers and delimiters do not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence

from sensorium.jobs import colour
from sensorium.jobs.codecs import ClipCoder, Codec, Encoded, Picture, _av, _av1, _obu

__all__ = ["codec"]

_PRESET = "8"
_PARAMETERS = "lp=1:aq-mode=0:use-fixed-qindex-offsets=1:enable-tf=0:scd=0"

#: The longest side that SVT-AV1 takes.
_LONGEST = 16_384


def _encode(picture: Picture, quality: int) -> Encoded:
    return _encode_clip([picture], quality, 1)


def _encode_clip(pictures: Sequence[Picture], quality: int, gop: int) -> Encoded:
    codec.check_quality(quality)
    _av.check_clip([picture.planes for picture in pictures], gop)
    _av.check_sides("SVT-AV1", pictures[0].size, _LONGEST)
    size = _av1.coded_size(pictures[0].size)
    _hush()
    options = {"preset": _PRESET, "crf": str(quality), "g": str(gop), "svtav1-params": _PARAMETERS}
    before = _schedules()
    padded = [_av.padded(picture.planes, size) for picture in pictures]
    data = _av.encode_clip("libsvtav1", padded, options, opened=lambda: _calm(before))
    return Encoded(data, _obu.payload(data))


def _schedules() -> dict[int, int]:
    """Scheduling policy of each thread of this process."""
    tasks = "/proc/self/task"
    found = {}
    for task in os.listdir(tasks) if os.path.isdir(tasks) else ():
        with contextlib.suppress(ProcessLookupError):
            found[int(task)] = os.sched_getscheduler(int(task))
    return found


def _calm(before: Mapping[int, int]) -> None:
    """Take back the real-time priority that SVT-AV1, run as root, gives to its threads and to the one that calls it.

    With it, this process and whatever it starts later would starve all others on the machine.
    """
    for task, policy in _schedules().items():
        if policy == os.SCHED_FIFO != before.get(task):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(task, os.SCHED_OTHER, os.sched_param(0))


def _hush() -> None:
    """Let SVT-AV1 print fatal faults only; it takes this from the environment, unless the user has said otherwise."""
    os.environ.setdefault("SVT_LOG", "0")


def _version() -> str:
    return f"libsvtav1 and libdav1d of {_av.wheel_version()}, {_av.library_version()}"


codec = Codec(
    name="svt_av1",
    title="AV1 (SVT-AV1)",
    scale="CRF, 63 to 1",
    best=1,
    worst=63,
    arguments=f"preset={_PRESET}:{_PARAMETERS}:g=1; {colour.DEFINITION}",
    version=_version,
    encode=_encode,
    decode=_av1.decode,
    cost=0.15,
    clips=ClipCoder(
        encode=_encode_clip,
        decode=_av1.decode_clip,
        arguments=f"preset={_PRESET}:{_PARAMETERS}, one quantiser in all layers of the pyramid; {colour.DEFINITION}",
    ),
)
