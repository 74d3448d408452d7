"""Where models run: replicas of Ray Serve behind a handle, or this process."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sensorium.catalog.models import Models
from sensorium.jobs.training.method import load_model
from sensorium.platform.errors import WorkerFailed, ours
from sensorium.platform.storage import Storage
from sensorium.serve.batching import Outcome, Worker
from sensorium.serve.gateway import Busy

__all__ = ["LocalHosts", "ServeHosts"]

#: samples above this go through the object store: a message of this size would hold up the small ones behind it
_LARGE_BYTES = 1 << 20


class ServeHosts:
    """Replicas of :class:`.host.ModelHost`."""

    def __init__(self, handle: Any) -> None:
        """``handle``: of the deployment, made in the event loop that it is used in."""
        self._handle = handle
        self._known: OrderedDict[tuple[str, bool], Any] = OrderedDict()

    async def predict(self, reference: str, samples: Sequence[Mapping[str, Any]], pictures: bool) -> list[Outcome]:
        """Outcomes of samples, from a replica that holds the model if there is one with room."""
        handle = self._of(reference, _nbytes(samples) > _LARGE_BYTES)
        outcomes: list[Outcome] = await _answered(handle.predict.remote(samples, pictures))
        return outcomes

    async def warm(self, reference: str) -> None:
        """Load a model in one replica."""
        await _answered(self._of(reference, False).warm.remote())

    def health(self) -> dict[str, Any]:
        """Replicas that run."""
        from ray import serve

        application = next(iter(serve.status().applications.values()), None)
        if application is None:
            return {"replicas": 0}
        states = application.deployments["ModelHost"].replica_states
        return {"replicas": int(states.get("RUNNING", 0)), "application": str(application.status.value)}

    def _of(self, reference: str, large: bool) -> Any:
        key = reference, large
        if key not in self._known:
            # said in either case: the handle was made in a process where the default is another
            self._known[key] = self._handle.options(multiplexed_model_id=reference, _by_reference=large)
            if len(self._known) > 256:
                self._known.popitem(last=False)
        return self._known[key]


async def _answered(response: Any) -> Any:
    import ray
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    try:
        return await response
    except BackPressureError as error:
        raise Busy("all replicas are busy and their queues are full. Try again in a moment.") from error
    except (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError) as error:
        raise ConnectionError(str(error).splitlines()[0]) from error
    except DeploymentUnavailableError as error:
        raise Busy("the models are being started. Try again in a moment.") from error
    except ray.exceptions.RayError as error:
        raise ours(error) or WorkerFailed(f"a replica failed: {error}") from error


def _nbytes(samples: Sequence[Mapping[str, Any]]) -> int:
    return sum(value.nbytes for sample in samples for value in sample.values() if isinstance(value, np.ndarray))


class LocalHosts:
    """Models in this process: for tests, and for programs that want the gateway without a cluster."""

    def __init__(self, lake: Storage, *, resident: int = 4, largest: int = 32) -> None:
        """As :class:`.host.ModelHost`."""
        self._models, self._resident, self._largest = Models(lake), resident, largest
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._workers: OrderedDict[str, Worker] = OrderedDict()
        self._loading = asyncio.Lock()

    async def predict(self, reference: str, samples: Sequence[Mapping[str, Any]], pictures: bool) -> list[Outcome]:
        """Outcomes of samples."""
        worker = await self._worker(reference)
        return list(await asyncio.gather(*(worker.predict(sample, pictures=pictures) for sample in samples)))

    async def warm(self, reference: str) -> None:
        """Load a model."""
        await self._worker(reference)

    def health(self) -> dict[str, Any]:
        """One replica: this process."""
        return {"replicas": 1, "process": os.getpid(), "resident": list(self._workers)}

    async def _worker(self, reference: str) -> Worker:
        async with self._loading:
            if reference not in self._workers:
                method, fitted = await asyncio.to_thread(lambda: load_model(self._models.get(reference)))
                self._workers[reference] = Worker(method, fitted, self._executor, self._largest)
                if len(self._workers) > self._resident:
                    self._workers.popitem(last=False)
            self._workers.move_to_end(reference)
            return self._workers[reference]
