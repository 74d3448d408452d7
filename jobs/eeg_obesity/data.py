"""Recordings from the catalog as standardised epochs that are ready to be learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from sensorium.catalog.selection import Selection
from sensorium.jobs.eeg_obesity.config import EegConfig
from sensorium.jobs.eeg_obesity.signals import Standardisation, epoch_count, epochs
from sensorium.jobs.training.examples import Columns, Examples
from sensorium.jobs.training.method import Sample, require_fields, samples_of
from sensorium.platform.errors import InvalidSample, InvalidSetting

__all__ = ["EpochPool", "Featuriser", "examples", "fields", "prepared", "preprocess", "read_samples", "weights"]

Floats = npt.NDArray[np.float32]
#: standardised epochs [n, C, T] to what is classified [n, M, S], both on the same device and without gradients
Featuriser = Callable[[torch.Tensor], torch.Tensor]

#: recordings read at a time, and epochs that go through an encoder at a time
_BATCH, _CHUNK = 16, 128


def fields(config: EegConfig) -> tuple[str, ...]:
    """Fields of a recording that a prediction needs."""
    return (config.readings, "sampling_rate", "channels")


def _epochs(sample: Sample, config: EegConfig) -> Floats:
    """Epochs [n, C, T] of one recording, µV."""
    require_fields(sample, fields(config))
    name = f"sample {str(sample.get('id', '?'))!r}, field {config.readings!r}"
    return epochs(sample[config.readings], float(sample["sampling_rate"]), list(sample["channels"]), config, name=name)


def read_samples(selection: Selection) -> Iterator[dict[str, Any]]:
    """Samples one by one, read a few at a time."""
    for begin in range(0, len(selection), _BATCH):
        columns = selection.read(range(begin, min(begin + _BATCH, len(selection))))
        yield from samples_of(columns, selection.declaration.attributes)


def preprocess(train: Selection, config: EegConfig) -> dict[str, Any]:
    """Of the training part: names of the classes, epochs of each, mean and deviation of each channel.

    Raises:
        InvalidSetting: there is one class only.
        InvalidSample: a recording cannot be used.
    """
    counts: dict[str, int] = {}

    def parts() -> Iterator[Floats]:
        for sample in read_samples(train):
            found = _epochs(sample, config)
            label = str(sample[config.target])
            counts[label] = counts.get(label, 0) + len(found)
            yield found

    standard = Standardisation.fit(parts())
    if len(counts) < 2:
        raise InvalidSetting(
            f"data set {train.name!r}: the training part has one class only, {next(iter(counts))!r} in {config.target!r}. "
            "Two at least are needed; look at target=, --where and split.stratify."
        )
    classes = sorted(counts)
    return {
        "classes": classes,
        "epochs": [counts[name] for name in classes],
        "mean": list(standard.mean),
        "deviation": list(standard.deviation),
    }


def weights(config: EegConfig, preprocessing: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Weight [K] of each class in a loss: 1 on the average epoch, and 1 for all unless classes are balanced."""
    counts = np.asarray(preprocessing["epochs"], np.float64)
    return counts.sum() / (len(counts) * counts) if config.balance else np.ones(len(counts))


def prepared(sample: Sample, config: EegConfig, preprocessing: Mapping[str, Any]) -> Floats:
    """Standardised epochs [n, C, T] of one recording, float32.

    Raises:
        InvalidSample: signal, rate or channels are missing or do not suit; which, and why.
    """
    standard = Standardisation(tuple(preprocessing["mean"]), tuple(preprocessing["deviation"]))
    return standard.apply(_epochs(sample, config))


class EpochPool:
    """Epochs of recordings in memory, or, with a featuriser, what is classified of them, computed once."""

    def __init__(
        self,
        columns: Columns,
        attributes: Mapping[str, Any],
        config: EegConfig,
        preprocessing: Mapping[str, Any],
        featuriser: Featuriser | None,
        device: torch.device,
    ) -> None:
        names = {name: index for index, name in enumerate(preprocessing["classes"])}
        parts, labels = [], []
        for sample in samples_of(columns, attributes):
            label = str(sample.get(config.target))
            if label not in names:
                raise InvalidSample(
                    f"sample {sample['id']!r}, field {config.target!r}: class {label!r} is not in the training part "
                    f"({', '.join(names)}). Part the data so that each class is in every part."
                )
            own = torch.from_numpy(prepared(sample, config, preprocessing))
            parts.append(own if featuriser is None else featurised(own, featuriser, device))
            labels.append(np.full(len(own), names[label]))
        self._inputs = torch.cat(parts)
        self._labels = torch.from_numpy(np.concatenate(labels))

    def __len__(self) -> int:
        return len(self._inputs)

    def take(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """``inputs`` [B, M, S] float32 and ``label`` [B] int64."""
        chosen = torch.from_numpy(indices)
        return {"inputs": self._inputs[chosen], "label": self._labels[chosen]}


def featurised(inputs: torch.Tensor, featuriser: Featuriser, device: torch.device) -> torch.Tensor:
    """What is classified of epochs [n, C, T], in the computer's own memory."""
    with torch.no_grad():
        return torch.cat([featuriser(part.to(device)).float().cpu() for part in inputs.split(_CHUNK)])


def examples(
    selection: Selection,
    config: EegConfig,
    preprocessing: Mapping[str, Any],
    device: torch.device,
    featuriser: Featuriser | None = None,
) -> Examples:
    """Epochs of the recordings of ``selection``, or what ``featuriser`` makes of them."""
    attributes = selection.declaration.attributes

    def count(rows: pl.DataFrame) -> np.ndarray:
        lengths = rows[config.readings].struct.field("shape").list.last()
        columns = {"id": rows["id"].to_list(), config.readings: lengths.to_list()}
        if "sampling_rate" in rows.columns:
            columns["sampling_rate"] = rows["sampling_rate"].to_list()
        found = []
        for sample in samples_of(columns, attributes):
            require_fields(sample, (config.readings, "sampling_rate"))
            found.append(epoch_count(int(sample[config.readings]), float(sample["sampling_rate"]), config))
        return np.array(found, np.int64)

    def pool(columns: Columns) -> EpochPool:
        return EpochPool(columns, attributes, config, preprocessing, featuriser, device)

    return Examples(selection, pool, count, expansion=2.0)
