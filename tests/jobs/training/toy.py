"""A system small enough to fit in no time: which of two frequencies is in a noisy series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.catalog.selection import Selection
from sensorium.jobs.training.examples import Columns, Examples
from sensorium.jobs.training.measures import Figure, accuracy, with_intervals
from sensorium.jobs.training.method import Export, Fitted, Method, Sample, require_fields
from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.jobs.training.recipe import Moment, Phase, Recipe, Update, Workspace
from sensorium.platform.errors import InvalidSample
from sensorium.platform.systems import System

LENGTH, WINDOW = 48, 16


@dataclass(frozen=True)
class ToyConfig:
    width: int = 8
    dropout: float = 0.2
    windows: bool = True
    fit: FitOptions = field(
        default_factory=lambda: FitOptions(epochs=4, batch_size=16, lr=0.01, watch="accuracy", watch_mode="max")
    )
    split: SplitOptions = field(
        default_factory=lambda: SplitOptions(group="subject", stratify="label", folds=4, validation=0.25)
    )


class _Windows:
    """All windows of signals that were read together."""

    def __init__(self, columns: Columns, preprocessing: Mapping[str, Any]) -> None:
        signals = [
            (np.asarray(signal) - preprocessing["mean"]) / preprocessing["deviation"] for signal in columns["signal"]
        ]
        views = [np.lib.stride_tricks.sliding_window_view(signal[0], WINDOW) for signal in signals]
        self.signals = np.concatenate(views).astype(np.float32)
        self.labels = np.repeat(columns.get("label", [0] * len(views)), [len(view) for view in views]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.signals)

    def take(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return {"signal": torch.from_numpy(self.signals[indices]), "label": torch.from_numpy(self.labels[indices])}


def _count(rows: pl.DataFrame) -> np.ndarray:
    return (rows["signal"].struct.field("shape").list.get(1) - WINDOW + 1).to_numpy()


def _preprocess(train: Selection, config: ToyConfig) -> dict[str, Any]:
    signals = np.concatenate([np.asarray(signal).ravel() for signal in train.read()["signal"]])
    return {"mean": float(signals.mean()), "deviation": float(signals.std()), "classes": ["slow", "fast"]}


def _build(config: ToyConfig, preprocessing: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    layers = [
        torch.nn.Linear(WINDOW, config.width), torch.nn.BatchNorm1d(config.width), torch.nn.ReLU(),
        torch.nn.Dropout(config.dropout), torch.nn.Linear(config.width, 2),
    ]  # fmt: skip
    return {"network": torch.nn.Sequential(*layers)}


def _recipe(space: Workspace) -> Recipe:
    network, options = space.modules["network"], space.config.fit

    def examples(selection: Selection) -> Examples:
        return Examples(selection, lambda columns: _Windows(columns, space.preprocessing), _count, expansion=WINDOW)

    def step(batch: Any, moment: Moment, update: Update) -> dict[str, torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(network(batch["signal"]), batch["label"])
        update(loss)
        return {"loss": loss}

    def evaluate(batch: Any) -> dict[str, torch.Tensor]:
        return {"scores": network(batch["signal"]), "label": batch["label"]}

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {"accuracy": float((outputs["scores"].argmax(1) == outputs["label"]).mean())}

    optimiser = torch.optim.Adam(network.parameters(), lr=options.lr)
    validation = None if space.validation is None else examples(space.validation)
    return Recipe(
        {"network": network}, {"main": optimiser}, examples(space.train), step, options, validation, evaluate, measure
    )


def _predict(fitted: Fitted, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    results = []
    for sample in samples:
        require_fields(sample, ("signal",))
        if np.asarray(sample["signal"]).shape[0] != 1:
            raise InvalidSample(f"sample {sample['id']!r}, field 'signal': one channel is needed. Choose one.")
        pool = _Windows({"id": [sample["id"]], "signal": [sample["signal"]]}, fitted.preprocessing)
        with torch.no_grad():
            scores = (
                fitted.modules["network"](torch.from_numpy(pool.signals).to(fitted.device)).softmax(1).cpu().numpy()
            )
        mean = scores.mean(axis=0)
        results.append(
            {
                "windows": scores,
                "predicted": fitted.preprocessing["classes"][int(mean.argmax())],
                "confidence": float(mean.max()),
            }
        )
    return results


def _score(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Any] | None:
    if sample.get("label") is None:
        return None
    counts = np.bincount(result["windows"].argmax(axis=1), minlength=2)
    return {
        "label": int(sample["label"]),
        "confusion": counts.tolist(),
        "correct": int(counts[int(sample["label"])]),
        "windows": int(counts.sum()),
    }


def _summarise(rows: pl.DataFrame, config: ToyConfig) -> dict[str, Figure]:
    return with_intervals(
        {"accuracy": accuracy(rows["correct"], rows["windows"])}, rows["group"].to_numpy(), repeats=50
    )


def _results(config: ToyConfig) -> tuple[Field, ...]:
    return (
        ArrayField("windows", "N K", dtypes=("float32",)),
        ScalarField("predicted", pa.string()),
        ScalarField("confidence", pa.float64()),
    )


def toy_samples(count: int = 24, seed: int = 0, noise: float = 0.4) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(seed)
    for index in range(count):
        label = index % 2
        phase = random.uniform(0, 2 * np.pi)
        wave = np.sin(np.arange(LENGTH) * (0.5 + 0.5 * label) + phase) + random.normal(0, noise, LENGTH)
        yield {
            "id": f"series-{index:03}",
            "signal": wave[None].astype(np.float32),
            "sampling_rate": 1.0,
            "label": label,
            "subject": f"subject-{index // 2:02}",
        }


def _example(config: ToyConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return list(toy_samples(16, seed)), {}


method = Method(
    config=ToyConfig,
    fields=lambda config: ("signal",),
    target=lambda config: "label",
    preprocess=_preprocess,
    build=_build,
    phases=lambda config: (Phase("classify", _recipe),),
    predict=_predict,
    score=_score,
    summarise=_summarise,
    results=_results,
    example=_example,
    modality=lambda config: "series",
    small={"epochs": 1},
    confusion=lambda fitted: list(fitted.preprocessing["classes"]),
    export=lambda fitted: Export(
        fitted.modules["network"], {"signal": torch.zeros(3, WINDOW)}, ("scores",), ("signal", "scores")
    ),
)
system = System(
    "toy", "a toy", "series", "series", "none", 99,
    operations=dict.fromkeys(("fit", "evaluate", "predict"), f"{__name__}:method"),
)  # fmt: skip


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toy an installed system, in this process."""
    from sensorium.jobs.training import method as methods
    from sensorium.jobs.training import worker

    real = methods.method_of

    def found(name: str, operation: str = "fit") -> Method:
        return method if name == "toy" else real(name, operation)

    from sensorium.jobs.training import fit as fitting
    from sensorium.jobs.training import prediction

    for module in (methods, worker, fitting, prediction):
        monkeypatch.setattr(module, "method_of", found)
