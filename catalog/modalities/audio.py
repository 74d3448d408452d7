"""Sound: one channel [T], or several [C, T].

Integers are full scale (int16: -32768 to 32767), floats have full scale at -1 and 1 and may go beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import rate_above_zero
from sensorium.catalog.modalities._writing import with_suffix, write_npz
from sensorium.catalog.modality import Modality, Violation
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["modality"]

#: more channels than this, and fewer samples than channels, is [T, C] by mistake
_CHANNELS = 1024
#: dtype -> how a WAV file holds it
_SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT", "float64": "DOUBLE"}

_FIELDS = (
    ArrayField(
        "audio",
        "T | C T",
        dtypes=("float32", "float64", "int16", "int32"),
        required=True,
        description="sound pressure as recorded; full scale of the integer type, or about [-1, 1] for floats",
    ),
    ScalarField("sampling_rate", pa.float64(), unit="Hz", required=True, per_dataset=True, description="per channel"),
)


def check(sample: Mapping[str, Any]) -> Iterator[Violation]:
    """A positive rate, at least one value, channels before time."""
    yield from rate_above_zero(sample, "sampling_rate")
    audio = sample.get("audio")
    if audio is None:
        return
    if audio.size == 0:
        yield Violation("audio", f"holds no sound; got shape {audio.shape}", "Leave the empty recording out")
    elif audio.ndim == 2 and audio.shape[0] > max(_CHANNELS, audio.shape[1]):
        yield Violation(
            "audio", f"looks like [T, C]: got {audio.shape[0]} channels of {audio.shape[1]} values", "Transpose it"
        )


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw the waveform over seconds, at most eight channels one above the other."""
    _drawing.lanes(axes, np.atleast_2d(np.asarray(sample["audio"]))[:8], float(sample["sampling_rate"]))


def write(sample: Mapping[str, Any], path: Path) -> Path:
    """Write ``audio`` to ``path`` + ``.wav`` without loss; NPZ for a rate that is no whole number (WAV holds none)."""
    audio, rate = np.asarray(sample["audio"]), float(sample["sampling_rate"])
    if not rate.is_integer():
        return write_npz({"audio": audio, "sampling_rate": np.asarray(rate)}, path)
    soundfile = require("soundfile", "write WAV files")
    target = with_suffix(path, ".wav")
    large = audio.nbytes > 2**32 - 2**12  # a WAV file counts its bytes in 32 bits
    soundfile.write(target, audio.T, int(rate), subtype=_SUBTYPES[audio.dtype.name], format="RF64" if large else "WAV")
    return target


modality = Modality(
    name="audio", title="sound", fields=_FIELDS, check=check, preview=preview, sheet=_sheets.sound, export=write
)
