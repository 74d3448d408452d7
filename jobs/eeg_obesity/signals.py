"""EEG recordings to standardised epochs.

The order is the paper's (2.1): choose the channels, drop the first seconds, resample, band-pass, cut into epochs. Shapes:
C channels, T values, n epochs; values are in µV until they are standardised.

The filter is a Butterworth high-pass of order 2 at the lower edge and a low-pass of order 4 at the upper one, run forwards
and backwards, so that no wave is shifted; at the edges two passes leave half of the amplitude (−6 dB). It is recursive,
since a finite filter with an edge at 0.1 Hz would be longer than many recordings; and two filters, since one band-pass
over nine octaves at once has the steep slope only where the band is narrow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import scipy.signal

from sensorium.jobs.eeg_obesity.config import EegConfig
from sensorium.platform.errors import InvalidSample, close_matches

__all__ = ["Standardisation", "electrode", "epoch_count", "epochs", "pick"]

Floats = npt.NDArray[np.float32]

#: names of the 10–10 system for electrodes of the 10–20 system
_SYNONYMS = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
#: what a name may end in: the electrode or average that it was measured against. Another scalp electrode (Fp1-F7) makes
#: it a bipolar channel, which is not the electrode's.
_REFERENCE = re.compile(r"[-_ /](REF|LE|RE|AR|AVG?|CAR|A1|A2|M1|M2|A1A2|A1\+A2|LM|NE)$")
_HIGH_PASS_ORDER, _LOW_PASS_ORDER = 2, 4
#: seconds mirrored beyond both ends, in which the filter settles, or all there are (evenly: turned about a peak, they would
#: jump)
_SETTLING = 20.0


def electrode(name: str) -> str:
    """A channel's name in one spelling: ``EEG Fp1``, ``FP1-REF`` and ``fp1.`` are all ``FP1``; T7, T8, P7, P8 are T3 to T6."""
    plain = re.sub(r"^EEG[\s_:-]*", "", name.strip().upper()).strip(" .")
    plain = _REFERENCE.sub("", plain)
    return _SYNONYMS.get(plain, plain)


def pick(signal: npt.ArrayLike, channels: Sequence[str], wanted: Sequence[str], *, name: str = "recording") -> Floats:
    """The wanted electrodes of ``signal`` [C, T], in their order: [len(wanted), T], float32.

    Raises:
        InvalidSample: one is missing or there twice, or the names do not fit the signal; ``name`` is the recording's.
    """
    values = np.asarray(signal)
    if values.ndim != 2 or len(channels) != len(values):
        raise InvalidSample(
            f"{name}: a signal [C, T] needs C names of channels; got shape {values.shape} and {len(channels)} names."
        )
    places: dict[str, list[int]] = {}
    for index, channel in enumerate(channels):
        places.setdefault(electrode(channel), []).append(index)
    rows = []
    for one in wanted:
        found = places.get(electrode(one), [])
        if len(found) != 1:
            what = "is missing" if not found else f"is there {len(found)} times"
            hint = close_matches(one, channels) if not found else "Keep one of them."
            raise InvalidSample(f"{name}: electrode {one} {what} among its {len(channels)} channels. {hint}".rstrip())
        rows.append(found[0])
    return values[rows].astype(np.float32)


def epochs(
    signal: npt.ArrayLike, rate: float, channels: Sequence[str], config: EegConfig, *, name: str = "recording"
) -> Floats:
    """Epochs of one recording.

    Args:
        signal: [C, T] at any rate, µV, with a few channels that are no electrodes perhaps.
        rate: its sampling rate, Hz.
        channels: its C names.
        config: band, rate, lengths and channels.
        name: of the recording, for messages.

    Returns:
        [n, 19, 1280] with the configuration's channels and length, float32, n at most ``most_epochs``; not yet standardised.

    Raises:
        InvalidSample: an electrode is missing; a value is not finite; a channel is flat; or it is shorter than an epoch.
    """
    picked = pick(signal, channels, config.channels, name=name)
    _check(picked, rate, config, name)
    start = round(config.cut * rate)
    filtered = _band(_resampled(picked[:, start:].astype(np.float64), rate, config.rate), config)
    count = min(filtered.shape[1] // config.length, config.most_epochs)
    parts = filtered[:, : count * config.length].reshape(len(picked), count, config.length)
    return np.ascontiguousarray(parts.transpose(1, 0, 2), dtype=np.float32)  # [C, n, T] -> [n, C, T]


def epoch_count(values: int, rate: float, config: EegConfig) -> int:
    """How many epochs :func:`epochs` makes of a recording of ``values`` per channel at ``rate`` Hz; 0: it is too short."""
    left = _resampled_length(values - round(config.cut * rate), rate, config.rate)
    return max(0, min(left // config.length, config.most_epochs))


def _check(values: Floats, rate: float, config: EegConfig, name: str) -> None:
    if not (np.isfinite(rate) and rate > 0):
        raise InvalidSample(f"{name}: its sampling rate must be above 0 Hz; got {rate}.")
    if rate < 2 * config.high:
        raise InvalidSample(
            f"{name}: at {rate:g} Hz it holds nothing up to {config.high:g} Hz; lower high=, or leave it out."
        )
    seconds = values.shape[1] / rate
    if epoch_count(values.shape[1], rate, config) == 0:
        raise InvalidSample(
            f"{name}: {seconds:g} s are too short for a cut of {config.cut:g} s and an epoch of {config.epoch:g} s. "
            "Leave it out, or shorten the epoch."
        )
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, place = (int(index[0]) for index in np.nonzero(wrong))
        raise InvalidSample(
            f"{name}: electrode {config.channels[row]} is {values[row, place]} at {place / rate:g} s. Repair or cut it."
        )
    flat = np.ptp(values[:, round(config.cut * rate) :], axis=1) == 0
    if flat.any():
        row = int(flat.argmax())
        raise InvalidSample(
            f"{name}: electrode {config.channels[row]} is flat at {values[row, -1]:g}. Leave the recording out."
        )


def _resampled(values: npt.NDArray[np.float64], rate: float, wanted: float) -> npt.NDArray[np.float64]:
    """[C, T] at ``wanted`` Hz, as many values as there are whole periods of it in the recording."""
    ratio = _ratio(rate, wanted)
    if ratio == 1:
        return values
    # the ends are not zero: a line through them is taken off before, and put back after, filtering
    result = scipy.signal.resample_poly(values, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    kept: npt.NDArray[np.float64] = result[:, : _resampled_length(values.shape[1], rate, wanted)]
    return kept


def _ratio(rate: float, wanted: float) -> Fraction:
    """Values after resampling for each one before."""
    ratio = Fraction(wanted).limit_denominator(10_000) / Fraction(rate).limit_denominator(10_000)
    return ratio.limit_denominator(10_000)


def _resampled_length(values: int, rate: float, wanted: float) -> int:
    """Values after resampling ``values``: whole periods, and no more than the filter gives."""
    ratio = _ratio(rate, wanted)
    return values if ratio == 1 else min(round(values / rate * wanted), math.ceil(values * ratio))


def _band(values: npt.NDArray[np.float64], config: EegConfig) -> npt.NDArray[np.float64]:
    """The band of the configuration of [C, T] at its rate; see the module's text."""
    padding = min(values.shape[1] - 1, round(_SETTLING * config.rate))
    for order, edge, kind in ((_HIGH_PASS_ORDER, config.low, "highpass"), (_LOW_PASS_ORDER, config.high, "lowpass")):
        sections = scipy.signal.butter(order, edge, kind, fs=config.rate, output="sos")
        values = scipy.signal.sosfiltfilt(sections, values, axis=1, padtype="even", padlen=padding)
    return values


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each channel, fitted on the epochs of training subjects only.

    Attributes:
        mean: of each channel, µV.
        deviation: of each channel, µV, above 0.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, recordings: Iterable[Floats]) -> Standardisation:
        """Statistics over all epochs [n, C, T] of all ``recordings``, which are visited once.

        Raises:
            InvalidSample: there is none, or a channel never varies.
        """
        count, total, squares = 0, np.zeros(1), np.zeros(1)
        for part in recordings:
            values = part.astype(np.float64)
            count += values.shape[0] * values.shape[2]
            total = total + values.sum(axis=(0, 2))
            squares = squares + np.square(values).sum(axis=(0, 2))
        if count == 0:
            raise InvalidSample("standardisation needs one epoch at least; got none. Check the folds.")
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        if not deviation.all():
            raise InvalidSample(f"channel {int(deviation.argmin())} never varies in {count} values; leave it out.")
        return cls(tuple(mean.tolist()), tuple(deviation.tolist()))

    def apply(self, values: Floats) -> Floats:
        """``values`` [n, C, T] with mean 0 and deviation 1, as far as they are like those of the fit; float32."""
        mean = np.array(self.mean, np.float32)[:, np.newaxis]
        scale = np.array(1 / np.array(self.deviation), np.float32)[:, np.newaxis]
        return (values - mean) * scale
