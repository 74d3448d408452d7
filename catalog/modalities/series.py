"""Measurements over time, in one of two forms.

*Irregular*: N observations, each of one variable at one time (clinical records, event logs): ``times``, ``variables``
and ``values``. *Regular*: C channels sampled together at one rate (EEG, gas sensors): ``signal``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import INTEGERS, SAMPLES, present, rate_above_zero
from sensorium.catalog.modality import Modality, Violation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["modality"]

_IRREGULAR = ("times", "variables", "values")
#: dots drawn per variable
_DOTS = 2000
#: of an HTML page
_PAGES = 200

_FIELDS = (
    ArrayField(
        "times",
        "N",
        dtypes=("float64", "float32"),
        unit="h",
        codec="zstd",
        description="of each observation, never decreasing; hours unless the data set declares another unit",
    ),
    ArrayField("variables", "N", dtypes=INTEGERS, minimum=0, codec="zstd", description="index into variable_names"),
    ArrayField("values", "N", dtypes=SAMPLES, codec="zstd", description="what was observed"),
    ScalarField(
        "variable_names", pa.list_(pa.string()), per_dataset=True, description="names that variables points to"
    ),
    ArrayField("signal", "C T", dtypes=SAMPLES, codec="blosc", description="channels sampled together at one rate"),
    ScalarField("sampling_rate", pa.float64(), unit="Hz", per_dataset=True, description="of signal"),
    ScalarField(
        "channels", pa.list_(pa.string()), per_dataset=True, dims="C", description="name of each channel of signal"
    ),
)


def check(sample: Mapping[str, Any]) -> Iterator[Violation]:
    """One form at least is there and complete; times never fall; variables have names."""
    missing = [name for name in _IRREGULAR if not present(sample, name)]
    if len(missing) == len(_IRREGULAR) and not present(sample, "signal"):
        yield Violation(
            "signal",
            "the sample has neither the regular form nor the irregular one",
            "Give signal and sampling_rate, or times, variables and values",
        )
    if 0 < len(missing) < len(_IRREGULAR):
        yield Violation(missing[0], "the irregular form is incomplete", f"Give {', '.join(missing)} too")
    if present(sample, "signal") and not present(sample, "sampling_rate"):
        yield Violation("sampling_rate", "a signal needs its rate", "Give sampling_rate in Hz")
    yield from rate_above_zero(sample, "sampling_rate")
    if not missing:
        yield from _check_observations(sample)


def _check_observations(sample: Mapping[str, Any]) -> Iterator[Violation]:
    times, variables = np.asarray(sample["times"]), np.asarray(sample["variables"])
    falls = np.flatnonzero(np.diff(times) < 0) if times.ndim == 1 else np.empty(0, dtype=np.int64)
    if falls.size:
        place = int(falls[0])
        yield Violation(
            "times",
            f"times must not decrease; got {times[place]} at index {place}, then {times[place + 1]}",
            "Sort times, variables and values together by time",
        )
    names = sample.get("variable_names")
    if names is not None and variables.size and int(variables.max()) >= len(names):
        yield Violation(
            "variables",
            f"index {int(variables.max())} is beyond the {len(names)} names of variable_names",
            "Count variables from 0, and name them all in the data set's attribute variable_names",
        )


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw observations as dots over hours, or the channels of a signal as traces over seconds."""
    if present(sample, "signal"):
        signal = np.asarray(sample["signal"])[:32]
        names = sample.get("channels")
        _drawing.lanes(axes, signal, float(sample["sampling_rate"]), list(names)[:32] if names is not None else ())
    else:
        _draw_observations(axes, sample)


def _draw_observations(axes: Axes, sample: Mapping[str, Any]) -> None:
    """One lane of dots for each of the eight most frequent variables, each scaled to its own range."""
    times, variables, values = (np.asarray(sample[name]) for name in _IRREGULAR)
    found, counts = np.unique(variables, return_counts=True)
    frequent = sorted(found[np.argsort(-counts, kind="stable")][:8].tolist())
    titles = []
    for lane, variable in enumerate(frequent):
        chosen = np.flatnonzero(variables == variable)
        chosen = chosen[:: max(1, len(chosen) // _DOTS)]
        heights = values[chosen].astype(np.float64)
        span = float(heights.max() - heights.min())
        heights = (heights - heights.min()) / span - 0.5 if span > 0 else np.zeros_like(heights)
        axes.plot(times[chosen], heights * 0.8 + lane, ".", markersize=3)
        titles.append(_title(sample, variable))
    axes.set_yticks(range(len(frequent)), titles)
    axes.set_xlabel("time (h)")


def sheet(figure: Figure, sample: Mapping[str, Any]) -> None:
    """Ten seconds of all channels, or all observations."""
    if present(sample, "signal"):
        _sheets.eeg(figure, sample)
    else:
        _draw_observations(figure.subplots(), sample)


def steps(sample: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """A signal ten seconds at a time, at most 200 strips, evenly spread; of observations, a variable at a time."""
    if present(sample, "signal"):
        rate = float(sample["sampling_rate"])
        window = _sheets.eeg_window(rate)
        count = -(-_drawing.lazily(sample, "signal").shape[1] // window)
        for number in _sheets.evenly(count, _PAGES):
            begin = number * window
            yield f"from {begin / rate:g} s on", _drawing.pixels(partial(_sheets.eeg, sample=sample, begin=begin))
        return
    times, variables, values = (np.asarray(sample[name]) for name in _IRREGULAR)
    for variable in np.unique(variables)[:_PAGES].tolist():
        chosen = variables == variable
        title = f"{_title(sample, variable)}, {np.count_nonzero(chosen)} observations"
        yield title, _drawing.pixels(partial(_one_variable, title=title, times=times[chosen], values=values[chosen]))


def _one_variable(figure: Figure, title: str, times: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    axes = figure.subplots()
    axes.plot(times, values, ".-", linewidth=0.5, markersize=5)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("time (h)")


def _title(sample: Mapping[str, Any], variable: int) -> str:
    names = sample.get("variable_names")
    return str(names[variable]) if names is not None and variable < len(names) else f"variable {variable}"


modality = Modality(
    name="series",
    title="series, irregular or regular",
    fields=_FIELDS,
    check=check,
    preview=preview,
    sheet=sheet,
    steps=steps,
)
