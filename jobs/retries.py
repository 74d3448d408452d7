"""Work on Ray that is tried again: bounded where it kills its worker, and gone on with where a machine was lost."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import ray

from sensorium.platform.errors import WorkerFailed

__all__ = ["map_batches", "through_losses"]

logger = logging.getLogger(__name__)

#: what Ray raises of a worker, an actor, an object or a node that is gone
_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.LocalRayletDiedError,
)


def through_losses(work: Callable[[], None], left: Callable[[], int]) -> None:
    """Do ``work``, which does what is left, again where workers were lost: as long as there is less left, and once more.

    The bounds of :func:`map_batches` are used up within seconds by calls to an actor of a machine that is gone, before the
    cluster knows that it is; and an actor that is to start again waits where no other machine has room. What is begun anew asks
    what machines there are.

    Raises:
        WorkerFailed: they are lost again and again.
    """
    before = left()
    patient = True
    while True:
        try:
            work()
        except _LOST as error:
            now = left()
            if now >= before and not patient:
                raise WorkerFailed(
                    f"workers are lost again and again, with {now} samples left ({type(error).__name__}). See the logs of the "
                    "cluster; what is done stays, and the same command goes on with the rest."
                ) from error
            patient = now < before
            logger.warning("workers were lost (%s); the %d samples left go on", type(error).__name__, now)
            before = now
        else:
            return


def map_batches(dataset: Any, function: Any, *, retries: int, **options: Any) -> Any:
    """``dataset.map_batches(function, **options)``: tasks, or actors and their calls, are tried ``retries`` times more."""
    bounds = {"max_retries": retries}
    if isinstance(function, type):
        bounds = {"max_restarts": retries, "max_task_retries": retries}
    with warnings.catch_warnings():
        # deprecated, but in this release nothing else sets these bounds
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        return dataset.map_batches(function, ray_remote_args_fn=lambda: bounds, **options)
