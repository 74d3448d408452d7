"""Averages against a loop, windows against slices, the stream against the batch."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sensorium.jobs.water_pollutants import simulator
from sensorium.jobs.water_pollutants.signals import Standardisation, StreamingWindows, average, difference, windows
from sensorium.platform.errors import InvalidSample, InvalidSetting

SIGNAL = simulator.measurement("ammonia", 0)


@given(
    npst.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 20)), elements=st.floats(-1e3, 1e3)),
    st.floats(1, 50),
)
def test_the_average_is_eq_1(signal: np.ndarray, period: float) -> None:
    found = average(signal, period)
    expected = signal.copy()
    for index in range(1, signal.shape[1]):
        expected[:, index] = (period - 1) / period * expected[:, index - 1] + signal[:, index] / period
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-9)
    assert np.array_equal(found[:, 0], signal[:, 0])
    assert np.array_equal(difference(signal, period), signal - found)


def test_periods() -> None:
    assert np.allclose(average(SIGNAL, 1), SIGNAL, rtol=1e-15)
    step = np.concatenate([np.zeros((1, 1)), np.ones((1, 200))], axis=1)
    reached = average(step, 20)[0]
    assert reached[20] == pytest.approx(1 - 0.95**20)
    with pytest.raises(InvalidSetting, match=r"1 reading or more; got 0\.5"):
        average(SIGNAL, 0.5)


def test_windows_are_a_view_of_the_differences() -> None:
    found = windows(SIGNAL, 20)
    assert found.shape == (1600 - 400 - 32 + 1, 32, 10)
    assert found.dtype == np.float32
    assert not found.flags.writeable
    expected = difference(SIGNAL, 20).astype(np.float32)
    for index in (0, 1, 1168):
        assert np.array_equal(found[index], expected[:, 400 + index : 432 + index].T)
    assert np.shares_memory(found[0], found[1])
    strided = windows(SIGNAL, 20, width=16, skip=10, stride=7)
    assert np.array_equal(strided[3], expected[:, 31:47].T)


@pytest.mark.parametrize(
    ("signal", "options", "says"),
    [
        (SIGNAL[:, :431], {}, "432 readings at least"),
        (SIGNAL[0], {}, "got shape \\(1600,\\)"),
        (np.where(np.arange(1600) == 7, np.nan, SIGNAL), {}, "feature 0 is nan at reading 7"),
    ],
)
def test_unusable_recordings_are_named(signal: np.ndarray, options: dict[str, int], says: str) -> None:
    with pytest.raises(InvalidSample, match=says):
        windows(signal, 20, **options)


def test_lengths_are_checked() -> None:
    for wrong in ({"width": 0}, {"stride": 0}, {"skip": -1}):
        with pytest.raises(InvalidSetting, match="width and stride"):
            windows(SIGNAL, 20, **wrong)
    with pytest.raises(InvalidSetting, match="width and stride"):
        StreamingWindows(10, 20, width=0)


@pytest.mark.parametrize(("width", "skip", "period"), [(32, 400, 20.0), (1, 0, 3.0), (5, 3, 1.0), (7, 0, 123.4)])
@pytest.mark.parametrize("standardised", [False, True])
def test_the_stream_gives_the_batch_to_the_bit(width: int, skip: int, period: float, standardised: bool) -> None:
    fitted = Standardisation.fit([SIGNAL], max(period, 2), skip) if standardised else None
    expected = windows(SIGNAL, period, width=width, skip=skip, standardisation=fitted)
    stream = StreamingWindows(10, period, width=width, skip=skip, standardisation=fitted)
    given_ = [stream.push(reading) for reading in SIGNAL.T]
    found = [window for window in given_ if window is not None]
    assert given_[: skip + width - 1] == [None] * (skip + width - 1)
    assert np.array_equal(np.stack(found), expected)
    assert stream.seen == 1600


def test_a_bad_reading_is_refused_and_leaves_the_stream_as_it_was() -> None:
    stream, clean = (StreamingWindows(10, 20, width=4, skip=0) for _ in range(2))
    for index, reading in enumerate(SIGNAL.T[:20]):
        expected = clean.push(reading)
        with pytest.raises(InvalidSample, match=f"reading {index} must be 10 finite numbers"):
            stream.push(np.full(10, np.nan) if index % 2 else np.zeros(9))
        found = stream.push(reading)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert np.array_equal(found, expected)


def test_a_window_stays_as_it_was_given() -> None:
    stream = StreamingWindows(10, 20, width=4, skip=0)
    found = [stream.push(reading) for reading in SIGNAL.T[:40]]
    assert np.array_equal(np.stack(found[3:]), windows(SIGNAL[:, :40], 20, width=4, skip=0))


def test_a_reading_costs_microseconds() -> None:
    stream = StreamingWindows(10, 20, standardisation=Standardisation.fit([SIGNAL], 20, 400))
    readings = list(SIGNAL.T)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        for reading in readings:
            stream.push(reading)
        best = min(best, (time.perf_counter() - start) / len(readings))
    assert best < 200e-6  # measured 4 µs on an idle core; the bound is for a loaded machine


def test_standardisation_is_of_the_given_recordings_only() -> None:
    others = [simulator.measurement("ammonia", number) for number in (1, 2)]
    fitted = Standardisation.fit(others, 20, 400)
    together = np.concatenate([difference(one, 20)[:, 400:] for one in others], axis=1)
    assert fitted.mean == pytest.approx(together.mean(axis=1))
    assert fitted.deviation == pytest.approx(together.std(axis=1))
    assert fitted != Standardisation.fit([SIGNAL], 20, 400)
    applied = windows(others[0], 20, standardisation=fitted)
    assert applied.std() == pytest.approx(1, abs=0.5)
    with pytest.raises(InvalidSample, match="more than 400 readings"):
        Standardisation.fit([], 20, 400)
    with pytest.raises(InvalidSample, match="feature 2 never varies"):
        Standardisation.fit([np.where(np.arange(10)[:, None] == 2, 1.0, SIGNAL)], 20, 400)
