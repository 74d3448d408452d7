"""A system as it is before its fit, on its own made-up samples: for tests of what is done with a model, not how good it is."""

from __future__ import annotations

from typing import Any

import torch

from sensorium.catalog import Catalog
from sensorium.jobs.training import configuration
from sensorium.jobs.training.method import Fitted, Method, method_of, ready

__all__ = ["unfitted"]


def unfitted(catalog: Catalog, system: str, **changes: Any) -> tuple[Method, Fitted, list[dict[str, Any]]]:
    """The method with fresh weights, ``changes`` in its small configuration, and the samples, attributes included."""
    method = method_of(system)
    config = configuration.overridden(method.config(), {**method.small, **changes})
    samples, attributes = method.example(config, 0)
    catalog.create(system, modality=method.modality(config), attributes=attributes).append(samples)
    torch.manual_seed(0)
    preprocessing = method.preprocess(catalog[system].select(), config)
    modules = method.build(config, preprocessing)
    return (
        method,
        ready(config, preprocessing, modules, torch.device("cpu")),
        [{**attributes, **one} for one in samples],
    )
