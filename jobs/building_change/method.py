"""How building_change is fitted, measured and used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import torch
from torch.nn import functional

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.building_change import measures, simulator
from sensorium.jobs.building_change.augmentation import augmented
from sensorium.jobs.building_change.config import ChangeConfig
from sensorium.jobs.building_change.data import (
    DATES,
    IGNORED,
    TRUTH,
    as_tensor,
    checked_pair,
    checked_truth,
    examples,
    preprocess,
)
from sensorium.jobs.building_change.drawing import illustrate
from sensorium.jobs.building_change.efficientnet import load_weights
from sensorium.jobs.building_change.network import AYANet, build
from sensorium.jobs.building_change.tiles import Grid, stitched
from sensorium.jobs.training.measures import Figure
from sensorium.jobs.training.method import Export, Fitted, Method, Sample
from sensorium.jobs.training.recipe import Moment, Phase, Recipe, Update, Workspace

__all__ = ["method", "probability_bands"]

#: pixels of tiles that the network sees at a time in a prediction
_PIXELS = 8 * 256**2
#: scenes of the example
_EXAMPLES = 6


def _recipe(space: Workspace) -> Recipe:
    config, network = space.config, space.modules["network"]
    bands = len(space.preprocessing["mean"])
    if config.weights and isinstance(network.network, AYANet) and network.network.cnn is not None:
        load_weights(network.network.cnn, config.weights)

    def step(batch: Any, moment: Moment, update: Update) -> dict[str, torch.Tensor]:  # noqa: ARG001
        seen = augmented(batch) if config.augment else batch
        logits = network(seen["before"], seen["after"]).float()
        loss = functional.cross_entropy(logits, seen[TRUTH], ignore_index=IGNORED)
        update(loss)
        return {"loss": loss.detach()}

    def evaluate(batch: Any) -> dict[str, torch.Tensor]:
        logits, truth = network(batch["before"], batch["after"]).float(), batch[TRUTH]
        losses = functional.cross_entropy(logits, truth, ignore_index=IGNORED, reduction="none")
        found, known = logits.argmax(dim=1) == 1, truth != IGNORED
        kinds = {"tp": found & (truth == 1), "fp": found & (truth == 0), "fn": ~found & (truth == 1), "known": known}
        return {"loss": losses.sum(dim=(1, 2)), **{name: kind.sum(dim=(1, 2)) for name, kind in kinds.items()}}

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        totals = {name: float(values.sum(dtype=np.float64)) for name, values in outputs.items()}
        # a validation part without any change that was found or missed is 0, so that any success is better
        scores = {name: float(np.nan_to_num(measures.ratio(totals, name))) for name in ("f1", "iou")}
        return {"loss": totals["loss"] / max(1.0, totals["known"]), **scores}

    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.fit.lr, betas=(0.9, 0.999), weight_decay=config.fit.weight_decay
    )
    kept = space.validation
    return Recipe(
        modules={"network": network},
        optimisers={"main": optimiser},
        examples=examples(space.train, config, bands),
        step=step,
        options=config.fit,
        validation=None if kept is None else examples(kept, config, bands),
        evaluate=evaluate,
        measure=measure,
    )


def probability_bands(fitted: Fitted, sample: Sample) -> Iterator[npt.NDArray[np.float32]]:
    """Probability of change of a scene of any size, from its top down in bands [h, W]; memory holds one row of tiles.

    Args:
        fitted: the model.
        sample: ``before`` and ``after`` as NumPy arrays, or as views of arrays in storage, of which windows are read.

    Raises:
        InvalidSample: the pair does not suit, or a value is not finite.
    """
    config, network = fitted.config, fitted.modules["network"]
    pair = checked_pair(sample, config, len(fitted.preprocessing["mean"]))
    name = str(sample.get("id", "?"))

    def values(places: Sequence[tuple[int, int]]) -> npt.NDArray[np.float32]:
        tensors = [
            as_tensor(picture, places, config.tile, name, date).to(fitted.device)
            for date, picture in zip(DATES, pair, strict=True)
        ]
        with torch.no_grad():
            found: npt.NDArray[np.float32] = network(*tensors).float().softmax(dim=1)[:, 1].cpu().numpy()
        return found

    grid = Grid(pair[0].shape[0], pair[0].shape[1], config.tile, config.overlap)
    return stitched(grid, values, max(1, _PIXELS // config.tile**2))


def _predict(fitted: Fitted, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    results = []
    for sample in samples:
        bands = [np.rint(band * 255).astype(np.uint8) for band in probability_bands(fitted, sample)]
        probability = np.concatenate(bands)
        change = (probability >= 128).astype(np.uint8)
        results.append({"change": change, "probability": probability, "changed": float(change.mean())})
    return results


def _score(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Any] | None:  # noqa: ARG001
    if sample.get(TRUTH) is None:
        return None
    return dict(measures.counts(result["change"], np.asarray(checked_truth(sample, sample["before"]))))


def _summarise(rows: pl.DataFrame, config: ChangeConfig) -> dict[str, Figure]:  # noqa: ARG001
    return measures.figures(rows)


def _results(config: ChangeConfig) -> tuple[Field, ...]:  # noqa: ARG001
    return (
        ArrayField("change", "H W", dtypes=("uint8",), description="1 where a building came, went or became another"),
        ArrayField("probability", "H W", dtypes=("uint8",), description="of change, times 255"),
        ScalarField("changed", pa.float64(), minimum=0, maximum=1, description="share of the pixels that changed"),
    )


def _example(config: ChangeConfig, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    side = config.tile + config.tile // 4  # no multiple of a tile, as scenes are
    return list(simulator.samples(_EXAMPLES, side, seed)), {}


def _export(fitted: Fitted) -> Export:
    tile, bands = fitted.config.tile, len(fitted.preprocessing["mean"])
    inputs = {date: torch.zeros(2, bands, tile, tile) for date in DATES}
    return Export(fitted.modules["network"], inputs, ("logits",), (*DATES, "logits"))


method = Method(
    config=ChangeConfig,
    modality=lambda config: "image_pair",  # noqa: ARG005
    fields=lambda config: (*DATES, *config.same),
    target=lambda config: TRUTH,  # noqa: ARG005
    preprocess=preprocess,
    build=lambda config, preprocessing: {"network": build(config, preprocessing)},
    phases=lambda config: (Phase("find changes", _recipe),),  # noqa: ARG005
    predict=_predict,
    score=_score,
    summarise=_summarise,
    results=_results,
    example=_example,
    small={"width": 0.25, "depth": 1.0, "tile": 32, "overlap": 8, "epochs": 1, "folds": 3, "validation": 0.34,
           "batch_size": 4},
    export=_export,
    illustrate=illustrate,
)  # fmt: skip
