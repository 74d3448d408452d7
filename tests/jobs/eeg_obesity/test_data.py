"""Recordings become epochs: as many as their shapes promise, with statistics of the training part alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sensorium.catalog import Catalog
from sensorium.catalog.selection import Selection
from sensorium.jobs.eeg_obesity import data
from sensorium.jobs.eeg_obesity.config import CHANNELS, EegConfig
from sensorium.jobs.eeg_obesity.signals import epoch_count, epochs
from sensorium.jobs.eeg_obesity.simulation import recordings
from sensorium.jobs.training.examples import ExampleStream
from sensorium.platform.errors import InvalidSample, InvalidSetting

CONFIG = EegConfig(epoch=2.5)
CPU = torch.device("cpu")
PREPROCESSING = {"classes": ["alpha", "theta"], "epochs": [40, 40], "mean": [0.0] * 19, "deviation": [1.0] * 19}


def stored(catalog: Catalog, samples: list[dict[str, Any]], **attributes: Any) -> Selection:
    dataset = catalog.create("eeg", modality="series", attributes=attributes)
    dataset.append(samples)
    return dataset.select(fields=[name for name in (*data.fields(CONFIG), "label") if name in dataset.fields])


@given(
    st.integers(600, 6000),
    st.sampled_from([100.0, 125.0, 128.0, 200.0, 250.0, 256.0, 500.0, 512.0, 1000.0 / 3]),
    st.sampled_from([0.0, 0.5, 1.0 / 3, 5.0]),
)
def test_counts_are_what_epochs_gives(values: int, rate: float, cut: float) -> None:
    config = EegConfig(channels=CHANNELS[:1], epoch=0.5, cut=cut, most_epochs=9)
    count = epoch_count(values, rate, config)
    signal = np.random.default_rng(values).normal(size=(1, values))
    if count == 0:
        with pytest.raises(InvalidSample, match="too short"):
            epochs(signal, rate, CHANNELS[:1], config)
    else:
        assert len(epochs(signal, rate, CHANNELS[:1], config)) == count


def test_pools_hold_what_counts_promise(catalog: Catalog) -> None:
    """Rates in rows; recordings of several lengths; read at once and in parts."""
    samples = recordings(CONFIG, 0)[0]
    for index, sample in enumerate(samples):
        sample["signal"] = sample["signal"][:, : 1000 + 333 * index]
        sample["sampling_rate"] = (128.0, 125.0)[index % 2]
    selection = stored(catalog, samples)
    examples = data.examples(selection, CONFIG, PREPROCESSING, CPU)
    assert examples.count is not None
    counts = examples.count(selection.rows)
    assert counts.tolist() == [len(data.prepared(sample, CONFIG, PREPROCESSING)) for sample in samples]
    whole = ExampleStream(examples, 16, shuffle=False)
    batches = list(whole.epoch())
    assert sum(len(batch["label"]) for batch in batches) == counts.sum() == whole.examples
    assert batches[0]["inputs"].shape == (16, 19, 320)
    assert batches[0]["inputs"].dtype == torch.float32
    parts = list(ExampleStream(examples, 16, shuffle=False, memory_mb=1).epoch())  # several pools
    assert torch.equal(torch.cat([p["inputs"] for p in parts]), torch.cat([b["inputs"] for b in batches]))


def test_rate_and_channels_of_the_whole_data_set(catalog: Catalog) -> None:
    """What a data set declares once is not in its rows."""
    samples = recordings(CONFIG, 0)[0]
    plain = [{k: v for k, v in sample.items() if k not in ("sampling_rate", "channels")} for sample in samples]
    selection = stored(catalog, plain, sampling_rate=128.0, channels=list(CHANNELS))
    examples = data.examples(selection, CONFIG, PREPROCESSING, CPU)
    batch = next(iter(ExampleStream(examples, 8, shuffle=False).epoch()))
    expected = data.prepared(samples[0], CONFIG, PREPROCESSING)
    assert np.array_equal(batch["inputs"][: len(expected)].numpy(), expected[:8])
    assert data.preprocess(selection, CONFIG)["classes"] == ["alpha", "theta"]


def test_features_are_computed_once_per_pool(catalog: Catalog) -> None:
    selection = stored(catalog, recordings(CONFIG, 0)[0])
    seen: list[int] = []

    def featuriser(inputs: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        seen.append(len(inputs))
        return inputs.mean(2, keepdim=True)

    stream = ExampleStream(data.examples(selection, CONFIG, PREPROCESSING, CPU, featuriser), 32, shuffle=True)
    for epoch in range(3):
        for batch in stream.epoch(epoch):
            assert batch["inputs"].shape[1:] == (19, 1)
    assert sum(seen) == stream.examples


def test_preprocessing_is_of_the_training_part(catalog: Catalog) -> None:
    samples = recordings(CONFIG, 0)[0]
    selection = stored(catalog, samples)
    found = data.preprocess(selection, CONFIG)
    standard = np.concatenate([data.prepared(sample, CONFIG, found) for sample in samples])
    assert np.abs(standard.mean(axis=(0, 2))).max() < 1e-4
    assert standard.std(axis=(0, 2)) == pytest.approx(np.ones(19), rel=1e-4)
    assert found["epochs"] == [40, 40]
    one_class = catalog["eeg"].select(pl.col("label") == "alpha", fields=list(selection.fields))
    with pytest.raises(InvalidSetting, match="one class only, 'alpha'"):
        data.preprocess(one_class, CONFIG)


def test_weights_make_classes_equal() -> None:
    counts = {**PREPROCESSING, "epochs": [30, 10]}
    found = data.weights(CONFIG, counts)
    assert found[0] * 30 == pytest.approx(found[1] * 10)
    assert found @ [30, 10] == pytest.approx(40)
    assert data.weights(replace(CONFIG, balance=False), counts).tolist() == [1, 1]


def test_an_unknown_class_is_refused(catalog: Catalog) -> None:
    samples = recordings(CONFIG, 0)[0]
    samples[3]["label"] = "delta"
    examples = data.examples(stored(catalog, samples), CONFIG, PREPROCESSING, CPU)
    with pytest.raises(InvalidSample, match="'person-03', field 'label': class 'delta' is not in the training part"):
        next(iter(ExampleStream(examples, 8, shuffle=False).epoch()))


def test_a_recording_without_a_rate_is_named(catalog: Catalog) -> None:
    """The series modality asks for a rate, but not in every row of a table that someone edits."""
    samples = recordings(CONFIG, 0)[0]
    selection = stored(catalog, samples)
    rows = selection.rows.with_columns(
        pl.when(pl.col("id") == "person-05").then(None).otherwise(pl.col("sampling_rate")).alias("sampling_rate")
    )
    count = data.examples(selection, CONFIG, PREPROCESSING, CPU).count
    assert count is not None
    with pytest.raises(InvalidSample, match="'person-05' has no 'sampling_rate'"):
        count(rows)
