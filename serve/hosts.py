"""Where models run: replicas of Ray Serve behind a handle, or this process."""

from __future__ import annotations

import asyncio
import math
import os
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from sensorium.catalog.models import Models
from sensorium.platform.errors import WorkerFailed, ours
from sensorium.platform.storage import Storage
from sensorium.serve.batching import NEWEST, QUICK_S, Outcome, Worker, opened
from sensorium.serve.gateway import Busy

__all__ = ["LocalHosts", "ServeHosts"]

#: samples above this go through the object store: a message of this size would hold up the small ones behind it
_LARGE_BYTES = 1 << 20
#: samples up to this size may share a call, and how many of them do at most
_SMALL_BYTES, _SHARED = 64 << 10, 16
#: models whose speed is remembered
_REMEMBERED = 256


class _Request(NamedTuple):
    sample: Mapping[str, Any]
    answer: asyncio.Future[Outcome]


class ServeHosts:
    """Replicas of :class:`.host.ModelHost`.

    A call costs about as much as a small model takes to answer. Small samples for a quick model that arrive in the same turn
    of the event loop therefore go as one call; none waits for another. Slow models get a call for each request: Serve counts
    those to decide how many replicas it starts.
    """

    def __init__(self, handle: Any) -> None:
        """``handle``: of the deployment, made in the event loop that it is used in."""
        self._handle = handle
        self._known: OrderedDict[tuple[str, bool], Any] = OrderedDict()
        self._sample_s: OrderedDict[str, float] = OrderedDict()  # that a sample of each model takes
        self._arrived: dict[str, deque[_Request]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def predict(self, reference: str, samples: Sequence[Mapping[str, Any]], pictures: bool) -> list[Outcome]:
        """Outcomes of samples, from a replica that holds the model if there is one with room."""
        size = _nbytes(samples)
        if len(samples) == 1 and size <= _SMALL_BYTES and not pictures and self._is_quick(reference):
            return [await self._shared(reference, samples[0])]
        return await self._call(reference, samples, pictures, size)

    async def _call(
        self, reference: str, samples: Sequence[Mapping[str, Any]], pictures: bool, size: int
    ) -> list[Outcome]:
        handle = self._of(reference, size > _LARGE_BYTES)
        outcomes: list[Outcome] = await _answered(handle.predict.remote(samples, pictures))
        self._learn(reference, outcomes)
        return outcomes

    def _is_quick(self, reference: str) -> bool:
        return self._sample_s.get(reference, math.inf) < QUICK_S

    def _learn(self, reference: str, outcomes: Sequence[Outcome]) -> None:
        spent = max(outcome.seconds / outcome.batch for outcome in outcomes)
        known = self._sample_s.pop(reference, spent)
        self._sample_s[reference] = (1 - NEWEST) * known + NEWEST * spent
        if len(self._sample_s) > _REMEMBERED:
            self._sample_s.popitem(last=False)

    def _shared(self, reference: str, sample: Mapping[str, Any]) -> asyncio.Future[Outcome]:
        """The outcome of one sample, from a call that it shares with what arrives in this turn of the event loop."""
        loop = asyncio.get_running_loop()
        arrived = self._arrived.setdefault(reference, deque())
        if not arrived:
            loop.call_soon(self._send, reference)
        request = _Request(sample, loop.create_future())
        arrived.append(request)
        return request.answer

    def _send(self, reference: str) -> None:
        arrived = self._arrived.pop(reference)
        while arrived:
            requests = [arrived.popleft() for _ in range(min(_SHARED, len(arrived)))]
            call = asyncio.create_task(self._answer(reference, requests))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _answer(self, reference: str, requests: Sequence[_Request]) -> None:
        samples = [request.sample for request in requests]
        try:
            outcomes = await self._call(reference, samples, False, 0)
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            for request in requests:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return
        for request, outcome in zip(requests, outcomes, strict=True):
            if not request.answer.done():
                request.answer.set_result(outcome)

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
        return await worker.predict(samples, pictures=pictures)

    async def warm(self, reference: str) -> None:
        """Load a model."""
        await self._worker(reference)

    def health(self) -> dict[str, Any]:
        """One replica: this process."""
        return {"replicas": 1, "process": os.getpid(), "resident": list(self._workers)}

    async def _worker(self, reference: str) -> Worker:
        async with self._loading:
            if reference not in self._workers:
                method, fitted = await asyncio.to_thread(lambda: opened(self._models, reference))
                self._workers[reference] = Worker(method, fitted, self._executor, self._largest)
                if len(self._workers) > self._resident:
                    self._workers.popitem(last=False)
            self._workers.move_to_end(reference)
            return self._workers[reference]
