"""What importers of recordings share: the choice of channels, their units, and what was noted while recording.

``annotation_times`` are in seconds from the first value of ``signal``; with ``annotation_labels`` they make one list of
marks, sorted by time. Notes are what a recorder or a reader of the recording wrote, and may be personal.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import close_matches

__all__ = [
    "EXPORT",
    "FIELDS",
    "MAX_VALUES",
    "OPTIONS",
    "RESERVED",
    "check_size",
    "chosen",
    "in_microvolts",
    "noted",
]

EXPORT = "Export it anew from its source, or leave it out."
MAX_VALUES = 1e9
OPTIONS = {
    "channels": "names of the channels to import, with * and ?, parted by commas, such as EEG*,ECG (default: all)",
    "max_values": f"refuse files that hold more values over all channels (default {MAX_VALUES:.0f})",
}
FIELDS: tuple[Field, ...] = (
    ScalarField("units", pa.list_(pa.string()), dims="C", description="physical unit of each channel of signal"),
    ScalarField("recorded", pa.string(), description="start of the recording, ISO 8601"),
    ScalarField("annotation_times", pa.list_(pa.float64()), unit="s", description="from the first value of signal on"),
    ScalarField("annotation_durations", pa.list_(pa.float64()), unit="s", description="of each of annotation_times"),
    ScalarField("annotation_labels", pa.list_(pa.string()), description="of each of annotation_times"),
    ScalarField("annotation_notes", pa.list_(pa.string()), description="further text of each of annotation_times"),
)
RESERVED = ("signal", "sampling_rate", "channels", *(field.name for field in FIELDS))
#: to µV; programs write the micro sign in several ways
_MICROVOLTS = {"nv": 1e-3, "uv": 1.0, "µv": 1.0, "μv": 1.0, "mv": 1e3, "v": 1e6}


def in_microvolts(unit: str) -> tuple[float, str]:
    """The factor and the unit of a channel after voltages have become µV; others stay as they are."""
    factor = _MICROVOLTS.get(unit.strip().lower())
    return (1.0, unit.strip()) if factor is None else (factor, "µV")


def check_size(path: Path, values: int, limit: float) -> None:
    """Refuse a recording of more values over all channels than the option ``max_values`` allows."""
    if values > limit:
        remedy = f"Cut it into pieces, or, if it is real, raise the limit with max_values={values}."
        raise unreadable(path, f"its header claims {values} values, more than the limit of {limit:g}", remedy)


def chosen(path: Path, names: Sequence[str], options: Mapping[str, str]) -> list[int]:
    """Which of the channels the option ``channels`` wants, in the file's order."""
    patterns = [text.strip() for text in options.get("channels", "*").split(",") if text.strip()]
    found = [place for place, name in enumerate(names) if any(fnmatch.fnmatchcase(name, glob) for glob in patterns)]
    if not found:
        hint = close_matches(patterns[0] if patterns else "", list(names))
        problem = f"no channel fits channels={options.get('channels')!r}"
        raise unreadable(path, problem, f"Mend the option. {hint}".rstrip())
    return found


def noted(
    times: Sequence[float],
    labels: Sequence[str],
    durations: Sequence[float] | None = None,
    notes: Sequence[str] | None = None,
) -> dict[str, list[Any]]:
    """The fields of what was noted, sorted by time; none where nothing was."""
    order = np.argsort(np.asarray(times, dtype=np.float64), kind="stable").tolist()
    if not order:
        return {}
    fields: dict[str, list[Any]] = {
        "annotation_times": [float(times[place]) for place in order],
        "annotation_labels": [str(labels[place]) for place in order],
    }
    if durations is not None:
        fields["annotation_durations"] = [float(durations[place]) for place in order]
    if notes is not None and any(notes):
        fields["annotation_notes"] = [str(notes[place]) for place in order]
    return fields
