"""From readings to windows: moving average, difference to it, windows; for whole recordings, and for a stream.

Legend: F features (10), T readings (1600), W readings in a window (32). The exponential moving average of Eq. 1,

    E_i = (a − 1) / a · E_{i−1} + 1 / a · x_i,    E_0 = x_0,

has a **period** a of 1 or more readings: the larger, the slower (the paper prints weights that make a period of it, and
gives no value and no start). Eq. 2 is the difference D_i = x_i − E_i, which starts at 0. With a of 1 the average is the
signal, and D is 0 throughout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.signal

from sensorium.platform.errors import InvalidSample, InvalidSetting

__all__ = ["Standardisation", "StreamingWindows", "average", "difference", "windows"]

Floats = npt.NDArray[np.float64]
Windows = npt.NDArray[np.float32]


def _weights(period: float) -> tuple[float, float]:
    """(a − 1) / a and 1 / a."""
    if not period >= 1:
        raise InvalidSetting(f"the period of the moving average must be 1 reading or more; got {period}.")
    return (period - 1) / period, 1 / period


def average(signal: npt.ArrayLike, period: float) -> Floats:
    """The moving average (Eq. 1) of a signal [F, T] along time, float64."""
    values = np.asarray(signal, dtype=np.float64)
    keep, gain = _weights(period)
    result = values.copy()
    if values.shape[-1] > 1:
        state = keep * values[..., :1]
        result[..., 1:], _ = scipy.signal.lfilter([gain], [1.0, -keep], values[..., 1:], axis=-1, zi=state)
    return result


def difference(signal: npt.ArrayLike, period: float) -> Floats:
    """The signal [F, T] less its moving average (Eq. 2), float64."""
    values = np.asarray(signal, dtype=np.float64)
    return values - average(values, period)


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each feature's difference, fitted on the training recordings only.

    Attributes:
        mean: of each feature.
        deviation: of each feature, above 0.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, recordings: Iterable[npt.ArrayLike], period: float, skip: int) -> Standardisation:
        """Statistics over the differences of ``recordings`` [F, T] from reading ``skip`` on.

        Raises:
            InvalidSample: there is no reading, or a feature never varies.
        """
        parts = [difference(one, period)[:, skip:] for one in recordings]
        if not parts or not sum(part.shape[1] for part in parts):
            raise InvalidSample(f"standardisation needs one recording of more than {skip} readings. Check the folds.")
        together = np.concatenate(parts, axis=1)
        deviation = together.std(axis=1)
        if not deviation.all():
            raise InvalidSample(
                f"feature {int(deviation.argmin())} never varies in the training recordings; leave it out."
            )
        return cls(tuple(together.mean(axis=1).tolist()), tuple(deviation.tolist()))

    def apply(self, values: npt.ArrayLike) -> Floats:
        """Differences [..., F] with mean 0 and deviation 1, as far as they are like those of the fit."""
        result: Floats = (np.asarray(values) - np.array(self.mean)) / np.array(self.deviation)
        return result


def windows(
    signal: npt.ArrayLike,
    period: float,
    *,
    width: int = 32,
    skip: int = 400,
    stride: int = 1,
    standardisation: Standardisation | None = None,
) -> Windows:
    """All windows of one recording, oldest first.

    Args:
        signal: readings [F, T].
        period: of the moving average, readings.
        width: readings in a window (paper: 32).
        skip: readings dropped at the start, after the average has run over them (paper: 400).
        stride: readings from one window to the next (paper: 1).
        standardisation: applied to the differences, where it is given.

    Returns:
        [n, W, F], float32, n = (T − skip − W) // stride + 1: a read-only view of T · F values, not a copy for each window.

    Raises:
        InvalidSample: the recording is shorter than skip and window, is not [F, T], or holds what is not finite.
        InvalidSetting: width or stride below 1, or skip below 0.
    """
    _check_lengths(width, skip, stride)
    values = np.asarray(signal)
    if values.ndim != 2 or values.shape[1] < skip + width:
        raise InvalidSample(
            f"a recording [F, T] needs {skip + width} readings at least (skip {skip}, window {width}); "
            f"got shape {values.shape}. Leave it out, or skip less."
        )
    if not np.isfinite(values).all():
        row, place = (int(index[0]) for index in np.nonzero(~np.isfinite(values)))
        raise InvalidSample(f"feature {row} is {values[row, place]} at reading {place}. Repair or cut the recording.")
    rows = difference(values, period)[:, skip:].T  # [T, F]: a window is W rows, one after the other
    if standardisation is not None:
        rows = standardisation.apply(rows)
    series = np.ascontiguousarray(rows, dtype=np.float32)
    view = np.lib.stride_tricks.sliding_window_view(series, width, axis=0)  # [T - W + 1, F, W]
    return view[::stride].transpose(0, 2, 1)


def _check_lengths(width: int, skip: int, stride: int) -> None:
    if width < 1 or stride < 1 or skip < 0:
        raise InvalidSetting(f"width and stride must be 1 or more and skip 0 or more; got {width}, {stride}, {skip}.")


class StreamingWindows:
    """One reading in, the newest window out: the same numbers, to the bit, that :func:`windows` gives with stride 1.

    Holds the moving average and the last W differences; a reading costs microseconds and allocates one window.

    Args:
        features: F.
        period: of the moving average, readings.
        width: readings in a window.
        skip: readings dropped at the start.
        standardisation: applied to the differences, where it is given.
    """

    def __init__(
        self,
        features: int,
        period: float,
        *,
        width: int = 32,
        skip: int = 400,
        standardisation: Standardisation | None = None,
    ) -> None:
        _check_lengths(width, skip, 1)
        self._keep, self._gain = _weights(period)
        self._width, self._skip = width, skip
        self._seen = 0
        self._state = np.zeros(features)  # what the next reading's average starts from
        # each difference is written twice, W apart, so that the last W always lie in one piece
        self._ring = np.zeros((2 * width, features), np.float32)
        self._mean = None if standardisation is None else np.array(standardisation.mean)
        self._deviation = None if standardisation is None else np.array(standardisation.deviation)

    @property
    def seen(self) -> int:
        """Readings so far."""
        return self._seen

    def push(self, reading: npt.ArrayLike) -> Windows | None:
        """Take one reading [F]; the window [W, F] that ends with it, float32, or None while there is none yet.

        Raises:
            InvalidSample: it has another length, or holds what is not finite; the stream goes on without it.
        """
        row = self.push_row(reading)
        if row is None or self._seen - self._skip < self._width:
            return None
        slot = (self._seen - self._skip - 1) % self._width
        return self._ring[slot + 1 : slot + 1 + self._width].copy()

    def push_row(self, reading: npt.ArrayLike) -> Windows | None:
        """Take one reading [F]; the last row [F] of the window that ends with it, or None before the first that counts.

        Raises:
            InvalidSample: it has another length, or holds what is not finite; the stream goes on without it.
        """
        values = np.asarray(reading, dtype=np.float64)
        if values.shape != self._state.shape or not np.isfinite(values).all():
            raise InvalidSample(
                f"reading {self._seen} must be {len(self._state)} finite numbers; got shape {values.shape}: "
                f"{values.ravel()[:12].tolist()}. Leave it out."
            )
        mean = values if self._seen == 0 else self._gain * values + self._state
        self._state = self._keep * mean
        place = self._seen - self._skip
        self._seen += 1
        if place < 0:
            return None
        change = values - mean
        if self._mean is not None:
            change = (change - self._mean) / self._deviation
        slot = place % self._width
        self._ring[slot] = change
        self._ring[slot + self._width] = change
        row: Windows = self._ring[slot].copy()
        return row
