"""A small image classifier with random weights: something to serve in tests and benchmarks, not one of the systems.

Installed for a process by :func:`install`, in the way in which a package from outside adds a system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sensorium.catalog import Catalog
from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.catalog.models import Model, ModelDraft
from sensorium.jobs.training import checkpoints, configuration
from sensorium.jobs.training.method import Fitted, Method, Picture, load_model, require_fields
from sensorium.platform.errors import InvalidSample
from sensorium.platform.systems import System

__all__ = ["Config", "install", "method", "predicted", "save", "system"]

CLASSES = ("cat", "cup", "dog", "jug", "owl", "pan")


@dataclass(frozen=True)
class Config:
    """Width of the layers, and the side of the square pictures."""

    width: int = 16
    side: int = 64


def _build(config: Config, preprocessing: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    width = config.width
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(2 * width, len(CLASSES)),
    )
    return {"network": layers}


def _predict(fitted: Fitted, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    side = fitted.config.side
    for sample in samples:
        require_fields(sample, ("image",))
        if sample["image"].shape != (side, side, 3):
            raise InvalidSample(
                f"sample {sample.get('id', '?')!r}, field 'image': shape {sample['image'].shape}; "
                f"({side}, {side}, 3) is needed. Resize it."
            )
    batch = torch.from_numpy(np.stack([sample["image"] for sample in samples]))
    pixels = batch.permute(0, 3, 1, 2).to(fitted.device).float() / 255
    with torch.inference_mode():
        probabilities = fitted.modules["network"](pixels).softmax(1).cpu().numpy()
    return [{"predicted": CLASSES[int(row.argmax())], "probabilities": row} for row in probabilities]


def _illustrate(fitted: Fitted, sample: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Picture]:
    return {"probabilities": lambda axes: axes.barh(CLASSES, result["probabilities"])}


def _results(config: Config) -> tuple[Field, ...]:
    return (
        ScalarField("predicted", pa.string(), description="the class"),
        ArrayField("probabilities", "K", dtypes=("float32",), description="by class"),
    )


method = Method(
    config=Config,
    fields=lambda config: ("image",),
    target=lambda config: "label",
    preprocess=lambda selection, config: {},
    build=_build,
    phases=lambda config: (),
    predict=_predict,
    score=lambda fitted, sample, result: None,
    summarise=lambda rows, config: {},
    results=_results,
    example=lambda config, seed: ([], {}),
    modality=lambda config: "image",
    illustrate=_illustrate,
)

system = System(
    name="small_cnn",
    title="a small classifier with random weights",
    modality="image",
    needs="pictures of 64 × 64",
    claim="none",
    paper=0,
    operations={"predict": "tests.serve.small_cnn:method"},
)


def save(catalog: Catalog, name: str = "small", config: Config | None = None, seed: int = 0) -> Model:
    """Save a model with random weights."""
    chosen = config or Config()
    torch.manual_seed(seed)
    modules = _build(chosen, {})
    weights = checkpoints.to_bytes(checkpoints.module_tensors(modules))
    return catalog.save_model(ModelDraft(name, "small_cnn", weights, configuration.to_json(chosen), run=f"run-{seed}"))


def predicted(model: Model, image: np.ndarray) -> dict[str, Any]:
    """What the model says, in this process."""
    found, fitted = load_model(model)
    return found.predict(fitted, [{"id": "request", "image": image}])[0]


def install(folder: Path) -> dict[str, str]:
    """Make the system installed for processes that have the environment that is returned."""
    about = folder / "small_cnn-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: small_cnn\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[sensorium.systems]\nsmall_cnn = tests.serve.small_cnn:system\n")
    root = Path(__file__).resolve().parents[2]
    return {"PYTHONPATH": f"{folder}:{root}"}
