"""Figures and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sensorium.jobs.training.measures import accuracy, auprc, auroc, macro_f1, with_intervals
from sensorium.platform.errors import InvalidSetting


def test_values_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 200), random.random(200)
    ones = np.ones(200)
    assert auroc(labels, scores)(ones) == pytest.approx(roc_auc_score(labels, scores))
    assert auprc(labels, scores)(ones) == pytest.approx(average_precision_score(labels, scores))
    found = (scores > 0.5).astype(int)
    confusion = np.zeros((200, 2, 2))
    confusion[np.arange(200), labels, found] = 1
    assert macro_f1(confusion)(ones) == pytest.approx(f1_score(labels, found, average="macro"))
    assert accuracy(labels == found)(ones) == pytest.approx((labels == found).mean())


def test_ties_and_a_missing_class() -> None:
    random = np.random.default_rng(3)
    labels, scores = random.integers(0, 2, 80), random.integers(0, 4, 80) / 4
    for _ in range(20):
        weights = random.poisson(1.0, 80).astype(np.float64)
        kept = weights > 0
        for statistic, plain in ((auroc, roc_auc_score), (auprc, average_precision_score)):
            expected = plain(labels[kept], scores[kept], sample_weight=weights[kept])
            assert statistic(labels, scores)(weights) == pytest.approx(expected, abs=1e-12)
    for outcome in (0, 1):
        for statistic in (auroc, auprc):
            assert np.isnan(statistic(labels, scores)((labels == outcome).astype(np.float64)))


def test_a_weight_is_so_many_repetitions() -> None:
    labels, scores = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.4, 0.35, 0.8, 0.9])
    weights = np.array([2, 1, 3, 0, 1])
    repeated = np.repeat(np.arange(5), weights)
    for statistic, plain in ((auroc, roc_auc_score), (auprc, average_precision_score)):
        assert statistic(labels, scores)(weights.astype(float)) == pytest.approx(
            plain(labels[repeated], scores[repeated])
        )


def test_units_are_drawn_whole() -> None:
    """Rows that say the same thing again do not make an interval narrower; independent units do."""
    right = np.repeat(np.random.default_rng(1).integers(0, 2, 20), 50)
    by_unit = with_intervals({"a": accuracy(right)}, np.repeat(np.arange(20), 50))["a"]
    by_row = with_intervals({"a": accuracy(right)}, np.arange(1000))["a"]
    assert by_unit.value == by_row.value
    assert (by_unit.units, by_row.units) == (20, 1000)
    expected = 2 * 1.96 * np.sqrt(by_unit.value * (1 - by_unit.value) / 20)
    assert by_unit.high - by_unit.low == pytest.approx(expected, rel=0.2)
    assert by_row.high - by_row.low < (by_unit.high - by_unit.low) / 4


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        right = random.random(60) < 0.7
        figure = with_intervals({"a": accuracy(right)}, np.arange(60), repeats=300, seed=int(random.integers(1 << 30)))[
            "a"
        ]
        covered += figure.low <= 0.7 <= figure.high
    assert 0.88 <= covered / 200 <= 1


def test_what_is_not_defined_is_nan_and_nothing_is_an_error() -> None:
    figure = with_intervals({"a": auroc(np.ones(4), np.arange(4))}, np.arange(4), repeats=10)["a"]
    assert np.isnan(figure.value)
    with pytest.raises(InvalidSetting, match="no rows to measure"):
        with_intervals({"a": accuracy([])}, [])
