"""Values of BrainVision recordings that stand as text (``DataFormat=ASCII``), which MNE reads only in part.

They are written as the binary files that they could have been, for MNE to read what goes with them.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers import _recordings
from sensorium.catalog.importers._files import unreadable
from sensorium.catalog.importers._text import lines
from sensorium.platform.errors import UnreadableFile

__all__ = ["as_binary", "values"]

Array = npt.NDArray[np.float64]

#: of a number as text, with what parts it from the next
_MOST_BYTES = 40
_EXPORT = "Export it anew, or as BINARY."
_ORIENTATIONS = ("MULTIPLEXED", "VECTORIZED")


def values(
    path: Path, data: Path, common: Mapping[str, str], text: Mapping[str, str], channels: int, limit: float
) -> Array:
    """All values [T, C] of the file ``data``, in the units and steps of the header ``path``.

    Args:
        path: of the header.
        data: of the values.
        common: the header's entries ``Common Infos``, names in lower case.
        text: its entries ``ASCII Infos``, likewise.
        channels: that it has.
        limit: of values.

    Raises:
        UnreadableFile: they are no such text, or not those that the header speaks of.
    """
    orientation = common.get("dataorientation", "").upper()
    skipped = [text.get(key, "0") or "0" for key in ("skiplines", "skipcolumns")]
    comma = text.get("decimalsymbol", ".") or "."
    if (
        orientation not in _ORIENTATIONS
        or not all(re.fullmatch(r"\d{1,6}", one) for one in skipped)
        or comma not in ".,"
    ):
        problem = (
            f"its values are text, {orientation}, after {skipped[0]} lines and {skipped[1]} columns, with {comma!r}"
        )
        raise unreadable(path, problem, "Repair the header.")
    claimed = data.stat().st_size // 2  # a digit and a space at least
    if data.stat().st_size > limit * _MOST_BYTES:
        _recordings.check_size(path, claimed, limit)
    rows = lines(data, data.stat().st_size, fallback="latin-1")[int(skipped[0]) :]
    numbered = [(number, line) for number, line in enumerate(rows, int(skipped[0]) + 1) if line.strip()]
    if not numbered:
        raise unreadable(path, f"{data.name} has no values", "It is cut off: fetch it anew.")
    found = [_numbers(data, number, line, int(skipped[1]), comma) for number, line in numbered]
    width = channels if orientation == "MULTIPLEXED" else len(found[0])
    for (number, _), row in zip(numbered, found, strict=True):
        if len(row) != width:
            problem = f"{data.name}, line {number}: has {len(row)} values, not {width}"
            raise unreadable(path, problem, "It is cut off or damaged: fetch it anew.")
    array = np.stack(found) if orientation == "MULTIPLEXED" else np.stack(found, axis=1)
    promised = common.get("datapoints", str(len(array)))
    if array.shape != (len(array), channels) or promised != str(len(array)):
        problem = f"promises {promised} points of {channels} channels; {data.name} has {len(array)} of {array.shape[1]}"
        raise unreadable(path, problem, "It is cut off or damaged: fetch it anew.")
    _recordings.check_size(path, array.size, limit)
    return array


def _numbers(data: Path, number: int, line: str, skipped: int, comma: str) -> Array:
    """The values of a line, which spaces, tabs or semicolons part, or commas that are not those of the numbers."""
    marks = r"[\s;]+" if comma == "," else r"[\s;,]+"
    words = [word for word in re.split(marks, line) if word][skipped:]
    try:
        return np.array([word.replace(",", ".") for word in words], dtype=np.float64)
    except ValueError as error:
        raise unreadable(data, f"line {number}: {error}", _EXPORT) from error


@contextmanager
def as_binary(path: Path, array: Array, markers: Path | None) -> Iterator[Path]:
    """A header of a binary recording with the values ``array`` [T, C] and the channels and markers of ``path``.

    What is said of it is said of ``path``.
    """
    with tempfile.TemporaryDirectory(prefix="sensorium-") as place:
        made = Path(place, "recording.vhdr")
        array.astype("<f4").tofile(made.with_suffix(".eeg"))
        text = "\n".join(lines(path, fallback="latin-1"))
        for key, value in (("DataFormat", "BINARY"), ("DataOrientation", "MULTIPLEXED"), ("DataFile", "recording.eeg")):
            text = re.sub(rf"(?im)^{key}=.*$", f"{key}={value}", text)
        text = re.sub(r"(?im)^Codepage=.*$", "Codepage=UTF-8", text)
        text = re.sub(r"(?im)^\[Binary Infos\]", "[Unused]", text)
        text = text.replace("\n", "\n\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n\n", 1)
        if markers is not None:
            shutil.copyfile(markers, made.with_suffix(".vmrk"))
            text = re.sub(r"(?im)^MarkerFile=.*$", "MarkerFile=recording.vmrk", text)
        made.write_text(text, encoding="utf-8")
        try:
            yield made
        except UnreadableFile as error:
            raise UnreadableFile(str(error).replace(str(made), str(path))) from error
