"""Predictions for people: what was measured most, the risk over the stay, what it comes from."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.jobs.clinical_series.method import probabilities
from sensorium.jobs.training.method import Picture
from tests.jobs.training.unfitted import unfitted


def drawn(picture: Picture) -> Axes:
    axes = Figure().add_subplot()
    picture(axes)
    return axes


def test_a_stay_is_drawn(catalog: Catalog) -> None:
    method, fitted, samples = unfitted(catalog, "clinical_series")
    sample = samples[1]
    (result,) = method.predict(fitted, [sample])
    assert method.illustrate is not None
    pictures = method.illustrate(fitted, sample, result)
    assert list(pictures) == ["most_measured", "risk_over_time", "contribution_of_variables"]

    axes = drawn(pictures["most_measured"])
    counts = np.bincount(sample["variables"])
    most = int(counts.argmax())
    top = axes.lines[-1]  # lanes are drawn from below
    assert axes.get_yticklabels()[-1].get_text().startswith(sample["variable_names"][most])
    np.testing.assert_array_equal(top.get_xdata(), sample["times"][sample["variables"] == most])

    risk = drawn(pictures["risk_over_time"]).lines[0]
    assert np.asarray(risk.get_ydata())[-1] == pytest.approx(result["probability"], abs=1e-6)
    assert np.asarray(risk.get_xdata())[-1] == sample["times"].max()

    bars = drawn(pictures["contribution_of_variables"])
    names = [label.get_text() for label in bars.get_yticklabels()]
    place = names.index("HR")
    without = probabilities(fitted, [sample], hidden=(sample["variable_names"].index("HR"),))[0]
    assert bars.patches[place].get_width() == pytest.approx(result["probability"] - without, abs=1e-9)
