"""A prediction for people: the readings, and what each window of them was taken for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.jobs.training.method import Fitted, Picture, Sample
from sensorium.jobs.water_pollutants import simulator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["illustrate"]


def illustrate(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Picture]:
    """The readings, and the probability of each class over time where a sample is more than one window.

    Readings are drawn about the mean of their feature, in deviations of its own.
    """
    config, found = fitted.config, np.asarray(result["probabilities"])
    values = np.asarray(sample[config.readings], np.float64)
    values = values if config.layout == "recording" else values.T  # [F, T]
    scaled = (values - values.mean(axis=1, keepdims=True)) / np.maximum(values.std(axis=1, keepdims=True), 1e-12)
    injected = config.layout == "recording" and values.shape[1] > simulator.BASELINE

    def readings(axes: Axes) -> None:
        for number, trace in enumerate(scaled):
            axes.plot(trace, linewidth=0.8, label=str(number + 1))
        _mark(axes, injected)
        axes.set(xlabel="reading", ylabel="deviations from the feature's mean", xlim=(0, values.shape[1]))
        axes.legend(title="feature", fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))

    def windows(axes: Axes) -> None:
        ends = config.skip + fitted.preprocessing["width"] - 1 + np.arange(len(found))
        axes.stackplot(ends, found.T, labels=fitted.preprocessing["classes"])
        _mark(axes, injected)
        axes.set(xlabel="last reading of the window", ylabel="probability", ylim=(0, 1), xlim=(ends[0], ends[-1]))
        axes.legend(fontsize=8, loc="lower right")

    return {"readings": readings, "probability_of_windows": windows} if len(found) > 1 else {"readings": readings}


def _mark(axes: Axes, injected: bool) -> None:
    """Where the paper's protocol lets the pollutant in."""
    if injected:
        axes.axvline(simulator.BASELINE, color="black", linestyle="--", linewidth=1, label="injection (protocol)")
