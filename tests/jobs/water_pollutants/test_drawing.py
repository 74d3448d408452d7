"""Predictions for people: the readings with the injection, and the classes of the windows over time."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.jobs.training.method import Picture
from sensorium.jobs.water_pollutants import simulator
from tests.jobs.training.unfitted import unfitted


def drawn(picture: Picture) -> Figure:
    figure = Figure()
    picture(figure.add_subplot())
    return figure


def test_readings_and_windows_over_time(catalog: Catalog) -> None:
    method, fitted, samples = unfitted(catalog, "water_pollutants")
    (result,) = method.predict(fitted, samples[:1])
    assert method.illustrate is not None
    pictures = method.illustrate(fitted, samples[0], result)
    assert list(pictures) == ["readings", "probability_of_windows"]

    lines = drawn(pictures["readings"]).axes[0].lines
    signal = samples[0]["signal"]
    assert len(lines) == len(signal) + 1
    correlation = np.corrcoef(np.asarray(lines[3].get_ydata(), float), signal[3])[0, 1]
    assert correlation > 0.999
    assert set(lines[-1].get_xdata()) == {simulator.BASELINE}

    axes = drawn(pictures["probability_of_windows"]).axes[0]
    assert axes.get_xlim() == (fitted.config.skip + fitted.config.width - 1, signal.shape[1] - 1)
    first = axes.collections[0].get_paths()[0].vertices
    assert first[:, 1].max() <= 1
    np.testing.assert_allclose(first[:, 1].max(), result["probabilities"][:, 0].max(), rtol=1e-6)


def test_a_sample_that_is_one_window_has_no_time(catalog: Catalog) -> None:
    method, fitted, samples = unfitted(catalog, "water_pollutants")
    assert method.illustrate is not None
    result = {"probabilities": np.array([[0.25, 0.75]], np.float32), "predicted": "b"}
    assert list(method.illustrate(fitted, samples[0], result)) == ["readings"]
