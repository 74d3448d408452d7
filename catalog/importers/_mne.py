"""Samples of recordings that MNE-Python decodes: ``signal`` [C, T] float32 in physical units, and what was noted.

Persons, equipment and positions of sensors, which MNE knows too, are not imported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers import _recordings
from sensorium.catalog.importers._files import number, unreadable
from sensorium.platform.errors import UnreadableFile
from sensorium.platform.optional import require

__all__ = ["Scales", "sample"]

#: values that are decoded at once; MNE decodes to float64
_BLOCK = 1 << 22

#: what a recording's values, as MNE gives them, are multiplied by, and the unit that they have then, channel by channel
Scales = Callable[[Any], Sequence[tuple[float, str]]]


@contextmanager
def _decoding(path: Path, what: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the decoder's opinions on names, filters and positions
            yield
    except UnreadableFile:
        raise
    except Exception as error:  # the decoder lets errors of many kinds through on broken headers
        problem = f"cannot be decoded as {what} ({type(error).__name__}: {error})"
        raise unreadable(path, problem, _recordings.EXPORT) from error


def sample(path: Path, what: str, reader: str, scales: Scales, options: Mapping[str, str]) -> dict[str, Any]:
    """What becomes of the recording ``path``.

    Args:
        path: of the file that MNE opens.
        what: the format, for messages.
        reader: the function of ``mne.io`` that opens it.
        scales: the factor and unit of each channel.
        options: ``channels`` and ``max_values``.

    Raises:
        UnreadableFile: it cannot be decoded, or is larger than the limit.
    """
    mne = require("mne", f"read {what}")
    with _decoding(path, what):
        raw = getattr(mne.io, reader)(path, preload=False, verbose="ERROR")
        if any(Path(name).resolve().parent != path.resolve().parent for name in raw.filenames):
            raise unreadable(path, "names a file in another folder", "Bring its parts into one folder.")
        names = [str(name) for name in raw.ch_names]
        _recordings.check_size(
            path, int(raw.n_times) * len(names), number(options, "max_values", _recordings.MAX_VALUES)
        )
        wanted = _recordings.chosen(path, names, options)
        every = scales(raw)
        signal = _signal(raw, wanted, [every[place][0] for place in wanted])
        notes = raw.annotations
        # onsets count from the start of the recorder's clock, the signal from its own first value
        onsets = notes.onset - float(raw.first_time)
        began = raw.info["meas_date"]
    if not np.isfinite(signal).all():
        place = int((~np.isfinite(signal)).any(axis=1).argmax())
        raise unreadable(
            path, f"channel {names[wanted[place]]!r} is not finite", "Repair it, or leave the channel out."
        )
    made = {
        "signal": signal,
        "sampling_rate": float(raw.info["sfreq"]),
        "channels": [names[place] for place in wanted],
        "units": [every[place][1] for place in wanted],
        **_recordings.noted(onsets, notes.description, notes.duration),
    }
    return made if began is None else {**made, "recorded": began.isoformat()}


def _signal(raw: Any, wanted: Sequence[int], factors: Sequence[float]) -> npt.NDArray[np.float32]:
    """Values [C, T] of the wanted channels, decoded block by block."""
    total = int(raw.n_times)
    signal = np.empty((len(wanted), total), np.float32)
    step = max(1, _BLOCK // len(wanted))
    scale = np.asarray(factors)[:, None]
    for start in range(0, total, step):
        stop = min(total, start + step)
        np.multiply(
            raw.get_data(picks=list(wanted), start=start, stop=stop, verbose="ERROR"),
            scale,
            out=signal[:, start:stop],
            casting="same_kind",
        )
    return signal
