"""Ray Data with a bound on how often work that kills its worker is tried again; without one it is tried for ever."""

from __future__ import annotations

import warnings
from typing import Any

import ray

__all__ = ["map_batches"]


def map_batches(dataset: Any, function: Any, *, retries: int, **options: Any) -> Any:
    """``dataset.map_batches(function, **options)``: tasks, or actors and their calls, are tried ``retries`` times more."""
    bounds = {"max_retries": retries}
    if isinstance(function, type):
        bounds = {"max_restarts": retries, "max_task_retries": retries}
    with warnings.catch_warnings():
        # deprecated, but in this release nothing else sets these bounds
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        return dataset.map_batches(function, ray_remote_args_fn=lambda: bounds, **options)
