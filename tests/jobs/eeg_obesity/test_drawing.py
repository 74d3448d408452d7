"""Figures: places on the head, what is drawn, and that files are the same again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.jobs.eeg_obesity import drawing
from sensorium.jobs.eeg_obesity.config import CHANNELS
from sensorium.jobs.eeg_obesity.method import silenced
from sensorium.platform.errors import InvalidSample, InvalidSetting
from tests.jobs.training.unfitted import unfitted

RANDOM = np.random.default_rng(0)


def test_places_follow_the_10_20_system() -> None:
    places = dict(zip(CHANNELS, drawing.positions(CHANNELS), strict=True))
    assert places["Cz"] == pytest.approx([0, 0], abs=1e-12)
    assert places["T4"] == pytest.approx([0.8, 0], abs=1e-12)
    assert places["Fz"] == pytest.approx([0, 0.4], abs=1e-12)
    assert places["O1"][1] < -0.7
    for left, right in (
        ("Fp1", "Fp2"),
        ("F7", "F8"),
        ("F3", "F4"),
        ("C3", "C4"),
        ("P3", "P4"),
        ("T5", "T6"),
        ("O1", "O2"),
    ):
        assert places[left] == pytest.approx(places[right] * [-1, 1], abs=1e-12)
        assert places[left][0] < 0
    assert np.hypot(*np.array(list(places.values())).T).max() == pytest.approx(0.8)
    assert drawing.positions(["EEG T7"]) == pytest.approx(drawing.positions(["T3"]))
    with pytest.raises(InvalidSample, match="'ECG'"):
        drawing.positions(["ECG"])


def test_the_map_passes_through_the_electrodes() -> None:
    values = RANDOM.normal(size=19)
    figure = drawing.head_figure({"lean": values, "obese": -values}, CHANNELS, unit="a.u.")
    image = figure.axes[0].get_images()[0]
    field = np.ma.filled(image.get_array().astype(float), np.nan)
    for (x, y), value in zip(drawing.positions(CHANNELS), values, strict=True):
        row, column = (round((place + 1) / 2 * (len(field) - 1)) for place in (y, x))
        assert field[row, column] == pytest.approx(value, abs=0.15)
    assert np.isnan(field[0, 0])  # outside the head
    assert image.get_clim() == figure.axes[1].get_images()[0].get_clim()
    low, high = image.get_clim()
    assert low == -high
    assert drawing.head_figure({"net": np.abs(values)}, CHANNELS).axes[0].get_images()[0].get_clim()[0] == 0
    with pytest.raises(InvalidSample, match="a finite value for each"):
        drawing.head_figure({"x": values[:5]}, CHANNELS)


def test_clusters_stay_apart_in_the_embedding() -> None:
    centres = np.repeat(np.eye(3) * 8, 20, axis=0)
    features = np.pad(centres, ((0, 0), (0, 57))) + RANDOM.normal(0, 0.5, (60, 60))
    points = drawing.embedding(features.reshape(60, 5, 12))
    assert points.shape == (60, 2)
    assert np.array_equal(points, drawing.embedding(features))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(60, np.inf))
    assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()
    with pytest.raises(InvalidSample, match="4 entries"):
        drawing.embedding(features[:3])


def test_panels_by_class_and_subject() -> None:
    points = RANDOM.normal(size=(12, 2))
    classes, subjects = ["lean", "obese"] * 6, [f"s{index // 3}" for index in range(12)]
    figure = drawing.embedding_figure({"EEGNet": points, "VAE": points}, classes, subjects, shown=["s0", "s2"])
    upper, lower = figure.axes[:2]
    assert sum(len(one.get_offsets()) for one in upper.collections) == 12
    assert sum(len(one.get_offsets()) for one in lower.collections) == 6
    assert len(figure.axes) == 4
    with pytest.raises(InvalidSample, match="VAE: points must be"):
        drawing.embedding_figure({"VAE": points[:5]}, classes, subjects)


@pytest.mark.parametrize("end", ["png", "svg"])
def test_files_are_the_same_again(tmp_path: Path, end: str) -> None:
    curves = {"VAE": RANDOM.uniform(0, 0.25, 80), "EEGNet": RANDOM.uniform(0.1, 0.25, 40)}
    one, two = (drawing.save(drawing.impurity_figure(curves), tmp_path / f"{name}/a.{end}") for name in "xy")
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes().startswith(b"\x89PNG" if end == "png" else b"<?xml")
    with pytest.raises(InvalidSetting, match=r"\.jpg"):
        drawing.save(drawing.impurity_figure(curves), tmp_path / "a.jpg")


def test_curves_are_the_best_quarter() -> None:
    values = RANDOM.uniform(0, 0.25, 80)
    line = drawing.impurity_figure({"VAE": values}).axes[0].get_lines()[0]
    assert np.asarray(line.get_ydata()).tolist() == np.sort(values)[:20].tolist()
    assert f"{values.mean():.4f}" in str(line.get_label())


def test_a_prediction_over_time_and_on_the_head(catalog: Catalog) -> None:
    torch.manual_seed(0)
    method, fitted, samples = unfitted(catalog, "eeg_obesity", architecture="cnn")
    first = fitted.modules["classifier"].get_submodule(first_convolution(fitted.modules["classifier"]))
    with torch.no_grad():
        first.weight[:, 5] = 0  # the network is deaf to this electrode
    (result,) = method.predict(fitted, samples[:1])
    winner = fitted.preprocessing["classes"].index(result["predicted"])
    added = silenced(fitted, samples[0], winner)
    assert added.shape == (len(CHANNELS),)
    assert added[5] == 0
    assert np.count_nonzero(added) == len(CHANNELS) - 1

    assert method.illustrate is not None
    pictures = method.illustrate(fitted, samples[0], result)
    assert list(pictures) == ["probability_of_epochs", "contribution_of_electrodes"]
    axes = Figure().add_subplot()
    pictures["probability_of_epochs"](axes)
    steps = axes.patches[0].get_data()
    assert steps.edges[0] == fitted.config.cut
    np.testing.assert_allclose(steps.values, result["probabilities"][:, 0])


def first_convolution(network: torch.nn.Module) -> str:
    return next(name for name, part in network.named_modules() if isinstance(part, torch.nn.Conv1d))
