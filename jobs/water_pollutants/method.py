"""How water_pollutants is fitted, measured and used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch.nn import functional

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.training.measures import Figure, accuracy, macro_f1, with_intervals
from sensorium.jobs.training.method import Export, Fitted, Method, Sample, require_fields
from sensorium.jobs.training.recipe import Moment, Phase, Recipe, Update, Workspace
from sensorium.jobs.water_pollutants import simulator
from sensorium.jobs.water_pollutants.config import WaterConfig
from sensorium.jobs.water_pollutants.data import examples, prepared, preprocess
from sensorium.jobs.water_pollutants.drawing import illustrate
from sensorium.jobs.water_pollutants.network import WindowCNN, build

__all__ = ["method", "window_logits"]

#: windows that are classified at a time
_CHUNK = 256


def _fields(config: WaterConfig) -> tuple[str, ...]:
    return (config.readings,)


def _build(config: WaterConfig, preprocessing: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    sizes = (int(preprocessing["width"]), len(preprocessing["mean"]), len(preprocessing["classes"]))
    return {"network": build(config.network, *sizes, padding=config.padding)}


def _recipe(space: Workspace) -> Recipe:
    config, network = space.config, space.modules["network"]

    def step(batch: Any, moment: Moment, update: Update) -> dict[str, torch.Tensor]:  # noqa: ARG001
        logits = network(batch["windows"])
        loss = functional.cross_entropy(logits.float(), batch["label"])
        update(loss)
        right = (logits.detach().argmax(dim=1) == batch["label"]).float().mean()
        return {"loss": loss.detach(), "accuracy": right}

    def evaluate(batch: Any) -> dict[str, torch.Tensor]:
        logits = network(batch["windows"]).float()
        losses = functional.cross_entropy(logits, batch["label"], reduction="none")
        return {"loss": losses, "right": logits.argmax(dim=1) == batch["label"]}

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {"loss": float(outputs["loss"].mean()), "accuracy": float(outputs["right"].mean())}

    optimiser: torch.optim.Optimizer
    if config.optimiser == "adam":
        optimiser = torch.optim.Adam(network.parameters(), lr=config.fit.lr, weight_decay=config.fit.weight_decay)
    else:
        optimiser = torch.optim.SGD(
            network.parameters(), lr=config.fit.lr, momentum=config.momentum, weight_decay=config.fit.weight_decay
        )
    kept = space.validation
    return Recipe(
        modules={"network": network},
        optimisers={"main": optimiser},
        examples=examples(space.train, config, space.preprocessing),
        step=step,
        options=config.fit,
        validation=None if kept is None else examples(kept, config, space.preprocessing),
        evaluate=evaluate,
        measure=measure,
    )


def window_logits(fitted: Fitted, rows: torch.Tensor) -> torch.Tensor:
    """Logits [n, K] of all windows of a recording's rows [T, F].

    The CNN without padding runs over the recording once, since what neighbouring windows share is the same; the others take
    the windows one by one.
    """
    network = fitted.modules["network"]
    width = int(fitted.preprocessing["width"])
    if isinstance(network, WindowCNN) and network.slides:
        return network.over_recording(rows)
    windows = rows.unfold(0, width, 1).transpose(1, 2)  # [n, W, F]
    return torch.cat([network(part) for part in windows.split(_CHUNK)])


def _predict(fitted: Fitted, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    config, classes = fitted.config, fitted.preprocessing["classes"]
    results = []
    for sample in samples:
        require_fields(sample, (config.readings,))
        rows = torch.from_numpy(prepared(sample, config, fitted.preprocessing)).to(fitted.device)
        with torch.no_grad():
            probabilities = window_logits(fitted, rows).float().softmax(dim=1)
        mean = probabilities.mean(dim=0)
        results.append(
            {
                "probabilities": probabilities.cpu().numpy(),
                "predicted": classes[int(mean.argmax())],
                "confidence": float(mean.max()),
            }
        )
    return results


def _score(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Any] | None:
    config, classes = fitted.config, list(fitted.preprocessing["classes"])
    truth = sample.get(config.target)
    if truth is None or str(truth) not in classes:
        return None
    label = classes.index(str(truth))
    found = result["probabilities"].argmax(axis=1)
    # a window that ends before the injection cannot show what is injected
    begun = np.arange(len(found)) + config.skip + config.width > simulator.BASELINE
    after = begun if config.layout == "recording" else np.ones(len(found), bool)
    return {
        "label": label,
        "confusion": np.bincount(found, minlength=len(classes)).tolist(),
        "right": int((found == label).sum()),
        "windows": len(found),
        "right_after": int((found == label)[after].sum()),
        "windows_after": int(after.sum()),
        "vote": int(result["predicted"] == classes[label]),
    }


def _summarise(rows: pl.DataFrame, config: WaterConfig) -> dict[str, Figure]:
    confusion = np.zeros((rows.height, *(2 * (len(rows["confusion"][0]),))))
    confusion[np.arange(rows.height), rows["label"].to_numpy()] = np.array(rows["confusion"].to_list())
    statistics = {
        "accuracy": accuracy(rows["right"], rows["windows"]),
        "macro_f1": macro_f1(confusion),
        "recording_accuracy": accuracy(rows["vote"]),
    }
    if config.layout == "recording":
        statistics["accuracy_after_injection"] = accuracy(rows["right_after"], rows["windows_after"])
    return with_intervals(statistics, rows["id"].to_numpy())


def _results(config: WaterConfig) -> tuple[Field, ...]:  # noqa: ARG001
    return (
        ArrayField("probabilities", "N K", dtypes=("float32",), description="of each window, by class"),
        ScalarField("predicted", pa.string(), description="the class with the highest mean probability"),
        ScalarField("confidence", pa.float64(), minimum=0, maximum=1, description="that probability"),
    )


def _example(config: WaterConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:  # noqa: ARG001
    liquids = ("ammonia", "hydrochloric_acid", simulator.WATER)
    return list(simulator.samples(seed, liquids=liquids, measurements=4)), {}


def _export(fitted: Fitted) -> Export:
    width, features = int(fitted.preprocessing["width"]), len(fitted.preprocessing["mean"])
    windows = torch.zeros(3, width, features)
    return Export(fitted.modules["network"], {"windows": windows}, ("logits",), ("windows", "logits"))


method = Method(
    config=WaterConfig,
    modality=lambda config: "series" if config.layout == "recording" else "table",
    fields=_fields,
    target=lambda config: config.target,
    eligible=lambda config: pl.col(config.target).is_in(list(config.leave_out)).not_(),
    preprocess=preprocess,
    build=_build,
    phases=lambda config: (Phase("classify", _recipe),),  # noqa: ARG005
    predict=_predict,
    score=_score,
    summarise=_summarise,
    results=_results,
    example=_example,
    small={"epochs": 1, "stride": 40, "folds": 4, "validation": 0.34, "batch_size": 32},
    confusion=lambda fitted: list(fitted.preprocessing["classes"]),
    export=_export,
    illustrate=illustrate,
)
