"""How the learned metrics are fitted, measured and used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch.nn import functional

from sensorium.catalog.fields import Field, ScalarField
from sensorium.jobs.machine_quality.correlations import srcc
from sensorium.jobs.machine_quality.learned.config import LearnedConfig
from sensorium.jobs.machine_quality.learned.correlations import correlations
from sensorium.jobs.machine_quality.learned.data import PICTURES, examples, pair, preprocess
from sensorium.jobs.machine_quality.learned.network import build
from sensorium.jobs.training.measures import Figure
from sensorium.jobs.training.method import Export, Fitted, Method, Picture, Sample, require_fields
from sensorium.jobs.training.recipe import Moment, Phase, Recipe, Update, Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["method"]


def _recipe(space: Workspace) -> Recipe:
    config, network = space.config, space.modules["network"]

    def step(batch: Any, moment: Moment, update: Update) -> dict[str, torch.Tensor]:  # noqa: ARG001
        loss = functional.mse_loss(network(batch["reference"], batch["compressed"]).float(), batch["score"])
        update(loss)
        return {"loss": loss.detach()}

    def evaluate(batch: Any) -> dict[str, torch.Tensor]:
        return {"predicted": network(batch["reference"], batch["compressed"]).float(), "score": batch["score"]}

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        predicted, score = (outputs[name].astype(np.float64) for name in ("predicted", "score"))
        # where nothing varies there is no correlation, and one epoch is as good as another
        ranked = np.nan_to_num(srcc(predicted, score))
        return {"loss": float(np.mean((predicted - score) ** 2)), "srcc": float(ranked)}

    kept = space.validation
    return Recipe(
        modules={"network": network},
        optimisers={
            "main": torch.optim.AdamW(network.parameters(), lr=config.fit.lr, weight_decay=config.fit.weight_decay)
        },
        examples=examples(space.train, config, space.preprocessing),
        step=step,
        options=config.fit,
        validation=None if kept is None else examples(kept, config, space.preprocessing),
        evaluate=evaluate,
        measure=measure,
    )


def _predict(fitted: Fitted, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    network, known = fitted.modules["network"], fitted.preprocessing
    results = []
    for sample in samples:
        require_fields(sample, PICTURES)
        batch = [torch.from_numpy(crops[None]).to(fitted.device).float() / 255 for crops in pair(sample, known)]
        with torch.no_grad():
            score = network(*batch).float()
        results.append({"predicted": float(score) * known["deviation"] + known["mean"]})
    return results


def _score(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Any] | None:
    truth = sample.get(fitted.config.target)
    return None if truth is None else {"predicted": float(result["predicted"]), "true": float(truth)}


def _summarise(rows: pl.DataFrame, config: LearnedConfig) -> dict[str, Figure]:  # noqa: ARG001
    return correlations(rows["predicted"], rows["true"], rows["group"])


def _pictures(rows: pl.DataFrame, fitted: Fitted) -> dict[str, Picture]:
    def draw(axes: Axes) -> None:
        axes.plot(rows["predicted"], rows["true"], ".", alpha=0.4)
        axes.set_xlabel("predicted")
        axes.set_ylabel(fitted.config.target)
        axes.grid(alpha=0.3)

    return {"predictions": draw}


def _illustrate(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Picture]:
    """The first pair of crops, and where they differ."""
    reference, compressed = (np.moveaxis(crops[0], 0, 2) for crops in pair(sample, fitted.preprocessing))
    difference = np.abs(reference.astype(np.int16) - compressed).astype(np.uint8)
    greatest = max(1, int(difference.max()))
    panels = [reference, compressed, (difference.astype(np.float64) * 255 / greatest).astype(np.uint8)]
    gap = np.full((len(reference), max(1, reference.shape[1] // 20), 3), 255, np.uint8)

    def draw(axes: Axes) -> None:
        axes.imshow(np.hstack([panels[0], gap, panels[1], gap, panels[2]]), interpolation="nearest")
        width = reference.shape[1] + gap.shape[1]
        titles = ("reference", "compressed", f"difference, times {255 / greatest:.3g}")
        axes.set_xticks([width * number + reference.shape[1] / 2 for number in range(3)], titles)
        axes.set_yticks([])
        axes.set_title(f"expected {fitted.config.target}: {result['predicted']:.4g}")

    return {"crops": draw}


def _example(config: LearnedConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Noise that loses contrast, and how much of it."""
    random = np.random.default_rng(seed)
    samples = []
    for number in range(24):
        reference = random.integers(0, 256, (32, 32, 3)).astype(np.float64)
        share = random.uniform()
        compressed = 128 + (reference - 128) * (1 - share)
        samples.append(
            {
                "id": f"crop-{number}",
                "reference": reference.astype(np.uint8),
                "compressed": compressed.astype(np.uint8),
                config.target: float(share),
                "image_id": f"image-{number // 2}",
            }
        )
    return samples, {}


def _export(fitted: Fitted) -> Export:
    height, width = int(fitted.preprocessing["height"]), int(fitted.preprocessing["width"])
    pictures = {name: torch.rand(2, 1, 3, height, width) for name in PICTURES}
    return Export(fitted.modules["network"], pictures, ("score",), (*PICTURES, "score"))


def _results(config: LearnedConfig) -> tuple[Field, ...]:
    return (ScalarField("predicted", pa.float64(), description=f"what {config.target} is expected to be"),)


method = Method(
    config=LearnedConfig,
    modality=lambda config: "table",  # noqa: ARG005
    fields=lambda config: PICTURES,  # noqa: ARG005
    target=lambda config: config.target,
    eligible=lambda config: pl.col(config.target).is_not_null(),
    preprocess=preprocess,
    build=lambda config, preprocessing: {"network": build(config)},  # noqa: ARG005
    phases=lambda config: (Phase("regress", _recipe),),  # noqa: ARG005
    predict=_predict,
    score=_score,
    summarise=_summarise,
    results=_results,
    example=_example,
    small={"epochs": 1, "width": 0.25, "hidden": 8, "folds": 4, "batch_size": 8},
    pictures=_pictures,
    export=_export,
    illustrate=_illustrate,
)
