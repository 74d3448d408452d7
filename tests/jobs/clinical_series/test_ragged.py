"""Ragged batches hold what the samples hold, in order; statistics come from what they are given, and bound what is odd."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.catalog.importer import Source
from sensorium.catalog.importers.physionet2012 import VARIABLES
from sensorium.catalog.importers.physionet2012 import importer as physionet
from sensorium.jobs.clinical_series import ragged
from sensorium.jobs.clinical_series.config import STATICS
from sensorium.jobs.clinical_series.ragged import collate, fit_statistics, static_vector
from sensorium.platform.errors import InvalidSample, InvalidSetting

Samples = Callable[..., list[dict[str, Any]]]


def test_every_series_is_there_in_the_order_of_time(make_samples: Samples) -> None:
    samples = make_samples(5, seed=2)
    batch = collate(samples, 6)
    assert (batch.samples, batch.variables) == (5, 6)
    for index, sample in enumerate(samples):
        for variable in range(6):
            series = index * 6 + variable
            place = slice(*batch.offsets[series : series + 2].tolist())
            mine = sample["variables"] == variable
            np.testing.assert_allclose(batch.times[place], sample["times"][mine], rtol=1e-6)
            np.testing.assert_allclose(batch.values[place], sample["values"][mine], rtol=1e-6)  # ties keep their order
            assert batch.counts[series] == mine.sum()
            assert (batch.series[place] == series).all()
            assert (batch.variable[place] == variable).all()


def test_visits_are_the_times_of_each_sample(make_samples: Samples) -> None:
    samples = make_samples(5, seed=4)
    batch = collate(samples, 6)
    for index, sample in enumerate(samples):
        place = slice(*batch.visit_offsets[index : index + 2].tolist())
        np.testing.assert_allclose(batch.visit_times[place], np.unique(sample["times"]), rtol=1e-6)
    assert torch.equal(batch.visit_times[batch.visit], batch.times)
    owner = torch.bucketize(batch.visit, batch.visit_offsets[1:], right=True)
    assert torch.equal(owner, batch.series // 6)


def test_unsorted_samples_and_empty_ones_are_fine() -> None:
    empty: dict[str, Any] = {"times": [], "variables": [], "values": []}
    batch = collate([empty, {"times": [3.0, 1.0], "variables": [0, 0], "values": [30.0, 10.0]}, empty], 2)
    assert batch.values.tolist() == [10, 30]
    assert batch.counts.tolist() == [0, 0, 2, 0, 0, 0]
    assert batch.visit_offsets.tolist() == [0, 0, 2, 2]
    assert collate([], 3).statics.shape == (0, 0)


def test_hidden_variables_are_gone_and_nothing_else(make_samples: Samples) -> None:
    samples = make_samples(4)
    all_of_it, less = collate(samples, 6), collate(samples, 6, hidden=[1, 3])
    kept = ~torch.isin(all_of_it.variable, torch.tensor([1, 3]))
    assert 0 < int(kept.sum()) < len(kept)
    assert torch.equal(less.values, all_of_it.values[kept])
    assert torch.equal(less.series, all_of_it.series[kept])
    assert torch.equal(less.times, all_of_it.times[kept])
    assert not torch.isin(less.variable, torch.tensor([1, 3])).any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"variables": [0, 2]}, "indices from 0 to 1; got 0 to 2"),
        ({"variables": [0, -1]}, "got -1 to 0"),
        ({"values": [1.0]}, "'x': times, variables and values must agree"),
        ({"values": [1.0, np.nan]}, "finite"),
        ({"times": [1.0, np.inf]}, "finite"),
    ],
)
def test_samples_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    sample = {"id": "x", "times": [0.0, 1.0], "variables": [0, 1], "values": [1.0, 2.0], **change}
    with pytest.raises(InvalidSample, match=says):
        collate([sample], 2)


def test_statics_are_scalars_and_marks_and_gaps() -> None:
    sample = {"age": 70, "icu_type": 2, "height_cm": None}
    assert static_vector(sample, ["age", "icu_type=2", "icu_type=3"]).tolist() == [70, 1, 0]
    assert np.isnan(static_vector(sample, ["height_cm", "gender", "gender=1"])).all()
    series = {"times": [0.0], "variables": [0], "values": [1.0]}
    samples = [{**sample, **series}, {**sample, **series, "age": 50}, {**series}]
    statistics = fit_statistics(samples, 1, STATICS)
    batch = collate(samples, 1, statistics, STATICS)
    assert batch.statics.shape == (3, len(STATICS))
    assert batch.statics[0, 0] > 0 > batch.statics[1, 0]
    assert batch.statics[2].isnan().all()


def test_statistics_are_the_medians_and_quartiles_of_the_training_part_alone(make_samples: Samples) -> None:
    train, other = make_samples(30, seed=5), make_samples(30, seed=6)
    statistics = fit_statistics(train, 6)
    for variable in range(6):
        values = np.concatenate([sample["values"][sample["variables"] == variable] for sample in train])
        assert statistics["count"][variable] == len(values)
        if len(values) > 2:
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            assert statistics["centre"][variable] == pytest.approx(middle)
            assert statistics["scale"][variable] == pytest.approx((high - low) / 1.349)
    assert statistics["centre"][5] == 0  # never observed
    assert statistics["scale"][5] == statistics["scale"][4] == 1
    assert fit_statistics(train, 6) == statistics
    assert fit_statistics(other, 6) != statistics
    before = collate(train[:2], 6, statistics).values
    collate(other, 6, statistics)
    assert torch.equal(collate(train[:2], 6, statistics).values, before)


def test_one_pass_in_bounded_memory_is_near_the_exact_quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "_KEPT", 2000)
    passes = 0

    def stream(count: int) -> Iterator[dict[str, Any]]:
        nonlocal passes
        passes += 1
        rng = np.random.default_rng(0)
        for index in range(count):  # the level drifts, so the first or last values alone would not do
            values = rng.normal(10 + 4 * index / count, 2, 1000)
            yield {"times": np.zeros(1000), "variables": np.zeros(1000, dtype=int), "values": values}

    statistics = fit_statistics(stream(300), 1)
    assert passes == 1
    every = np.concatenate([sample["values"] for sample in stream(300)])
    assert statistics["count"] == [300_000]
    assert statistics["centre"][0] == pytest.approx(np.median(every), abs=0.15)
    assert statistics["scale"][0] == pytest.approx(np.subtract(*np.quantile(every, (0.75, 0.25))) / 1.349, rel=0.08)
    peaks = []
    for count in (100, 800):
        tracemalloc.start()
        fit_statistics(stream(count), 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_odd_values_stay_bounded_and_usual_ones_keep_their_place() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(7.4, 0.06, 500), [100.0]])  # arterial pH, and a slip
    sample = {"times": np.arange(501.0), "variables": np.zeros(501, dtype=int), "values": values}
    scaled = collate([sample], 1, fit_statistics([sample], 1)).values
    assert scaled[:500].abs().max() < 3
    assert 3 < scaled[500] < 10
    assert (scaled[:500].argsort() == torch.from_numpy(values[:500]).argsort()).all()


def test_an_index_beyond_the_variables_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="there are 2 variables"):
        fit_statistics([{"times": [0.0], "variables": [2], "values": [1.0]}], 2)


def test_moving_a_batch_moves_all_of_it(make_samples: Samples) -> None:
    moved = collate(make_samples(2), 6).to("meta")
    assert {value.device.type for value in vars(moved).values() if isinstance(value, torch.Tensor)} == {"meta"}


def test_real_records_are_scaled_to_a_usable_range(shared_data: Path) -> None:
    folder = shared_data / "clinical_ts/physionet2012"
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    items = list(physionet.plan(Source(folder)))[:100]
    samples = [{"id": item.id, **physionet.read(item, {})} for item in items]
    statistics = fit_statistics(samples, len(VARIABLES), STATICS)
    batch = collate(samples, len(VARIABLES), statistics, STATICS)
    assert len(batch.values) == sum(len(sample["values"]) for sample in samples)
    assert batch.values.abs().max() < 12
    assert 0.3 < batch.values.std() < 3
    known = batch.statics[~batch.statics.isnan()]
    assert known.abs().max() < 12
