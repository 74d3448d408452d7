"""Dichotomy impurity against all thresholds one by one, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sensorium.jobs.eeg_obesity import impurity
from sensorium.jobs.eeg_obesity.impurity import dichotomy_impurity, first_quartile
from sensorium.platform.errors import InvalidSample

FEW = st.sampled_from([-2.0, -1.0, 0.0, -0.0, 0.5, 3.0, np.inf, -np.inf])  # many ties


def by_definition(values: np.ndarray, labels: np.ndarray) -> float:
    """Eqs 2–4, threshold by threshold."""

    def gini(part: np.ndarray) -> float:
        return float(part.mean() * (1 - part.mean())) if len(part) else 0.0

    found = []
    for threshold in [*np.unique(values), np.inf]:
        left, right = labels[values < threshold], labels[values >= threshold]
        found.append((len(left) * gini(left) + len(right) * gini(right)) / len(labels))
    return min(found)


@st.composite
def problems(draw: st.DrawFn, elements: st.SearchStrategy[float] = FEW) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(2, 12))
    features = draw(npst.arrays(np.float64, (count, draw(st.integers(1, 3))), elements=elements))
    labels = draw(npst.arrays(np.int64, count, elements=st.integers(0, 1)).filter(lambda y: 0 < y.sum() < len(y)))
    return features, labels


@given(problems())
@settings(max_examples=200)
def test_equals_the_definition(problem: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = problem
    expected = [by_definition(column, labels) for column in features.T]
    assert dichotomy_impurity(features, labels) == pytest.approx(expected, abs=1e-12)


@given(problems())
def test_laws(problem: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = problem
    found = dichotomy_impurity(features, labels)
    share = labels.mean()
    assert (found >= 0).all()
    assert (found <= share * (1 - share) + 1e-12).all()  # no split at all
    assert dichotomy_impurity(features, 1 - labels) == pytest.approx(found, abs=1e-12)
    order = np.random.default_rng(0).permutation(len(labels))
    assert dichotomy_impurity(features[order], labels[order]) == pytest.approx(found, abs=1e-12)
    twice = dichotomy_impurity(np.tile(features, (2, 1)), np.tile(labels, 2))
    assert twice == pytest.approx(found, abs=1e-12)


@given(problems(st.floats(-50, 50)))
def test_only_the_order_counts(problem: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = problem
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in features.T], axis=1)
    assert dichotomy_impurity(2.0**ranks, labels) == pytest.approx(dichotomy_impurity(features, labels), abs=1e-12)


def test_ends_of_the_scale() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    features = np.stack([labels * 1.0, -labels * 1.0, np.ones(6), [0, 1, 0, 1, 0, 1]], axis=1)
    assert dichotomy_impurity(features, labels) == pytest.approx([0, 0, 0.25, 2 / 9])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int32, bool])
def test_any_real_type(kind: type) -> None:
    features = np.random.default_rng(0).integers(0, 2, (30, 4)).astype(kind)
    labels = np.arange(30) % 2
    expected = [by_definition(column, labels) for column in features.T]
    assert dichotomy_impurity(features, labels) == pytest.approx(expected)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(50, 37))
    labels = np.arange(50) % 3 == 0
    whole = dichotomy_impurity(features, labels)
    monkeypatch.setattr(impurity, "_BLOCK", 250)
    assert np.array_equal(dichotomy_impurity(features, labels), whole)


@pytest.mark.parametrize(
    ("features", "labels", "says"),
    [
        (np.zeros((3, 2)), [0, 1], "got \\(3, 2\\) and \\(2,\\)"),
        (np.zeros(3), [0, 1, 1], "must be \\[N, D\\]"),
        (np.zeros((3, 2)), [1, 1, 1], "both there; got \\[1\\]"),
        (np.zeros((3, 2)), [0, 1, 2], "0 and 1"),
        (np.array([[0, 1], [2, np.nan]]), [0, 1], "feature 1 of entry 1 is NaN"),
    ],
)
def test_wrong_input_is_named(features: np.ndarray, labels: list[int], says: str) -> None:
    with pytest.raises(InvalidSample, match=says):
        dichotomy_impurity(features, labels)


def test_first_quartile() -> None:
    assert first_quartile([0.4, 0.1, 0.3, 0.2, 0.6, 0.7, 0.8, 0.5]).tolist() == [0.1, 0.2]
    assert first_quartile([0.2]).tolist() == [0.2]
