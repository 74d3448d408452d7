"""Bulk predictions for the service: a Ray task that drives Ray Data, beside the replicas that answer requests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sensorium.catalog.lake import Catalog
from sensorium.jobs.training import prediction
from sensorium.jobs.training.operators import referred
from sensorium.platform.errors import WorkerFailed, ours
from sensorium.platform.settings import Settings

__all__ = ["predict_in_bulk"]


async def predict_in_bulk(
    catalog: Catalog, reference: str, data: str, into: str, where: str, workers: int
) -> dict[str, Any]:
    """Predict a data set into another, see :func:`.prediction.predict`; what it did.

    Raises:
        UserError: what the prediction says.
    """
    import ray

    driven = ray.remote(num_cpus=0, max_retries=0)(_driven)
    reference_of_result = driven.remote(catalog.storage, reference, data, into, where, workers)
    try:
        found: dict[str, Any] = await reference_of_result
    except ray.exceptions.RayError as error:
        raise ours(error) or WorkerFailed(f"the bulk prediction failed: {error}") from error
    finally:  # without effect where it has ended
        ray.cancel(reference_of_result, force=False)
    return found


def _driven(storage: Any, reference: str, data: str, into: str, where: str, workers: int) -> dict[str, Any]:
    catalog = Catalog(storage.url if storage.local is False else storage.root, options=storage.options)
    subject, own = referred(reference), Settings.load()
    if subject is None:
        done = prediction.predict(catalog, reference, data, into, own, where=where, workers=workers)
    else:
        done = prediction.operate(catalog, subject, data, into, own, where=where, workers=workers)
    return asdict(done)
