"""The model host: replicas that load fitted models when they are asked for, and keep those that are."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve

from sensorium.catalog.models import Models
from sensorium.platform.storage import Storage
from sensorium.serve.batching import Outcome, Worker, opened

__all__ = ["ModelHost"]

logger = logging.getLogger(__name__)


class ModelHost:
    """One replica. Calls name their model by ``multiplexed_model_id`` of the handle: ``NAME@VERSION``."""

    def __init__(self, lake: Storage, resident: int, largest: int) -> None:
        """``lake``: where the models are. ``resident``: models that stay loaded. ``largest``: samples of a batch."""
        import torch

        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self._models, self._largest = Models(lake), largest
        # one thread for all models: two that compute at a time on one core would both be late
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")

        @serve.multiplexed(max_num_models_per_replica=resident)  # type: ignore[untyped-decorator]
        async def load(reference: str) -> Worker:
            return await self._opened(reference)

        self._load = load

    async def predict(self, samples: Sequence[Mapping[str, Any]], pictures: bool = False) -> list[Outcome]:
        """Outcomes of samples (fields by name, arrays as NumPy), in their order."""
        worker = await self._worker()
        return await worker.predict(samples, pictures=pictures)

    async def warm(self) -> float:
        """Load the model, so that the first request does not wait for it; seconds that it took."""
        started = time.perf_counter()
        await self._worker()
        return time.perf_counter() - started

    def process(self) -> int:
        """Id of the replica's process."""
        return os.getpid()

    async def _worker(self) -> Worker:
        worker: Worker = await self._load(serve.get_multiplexed_model_id())
        return worker

    async def _opened(self, reference: str) -> Worker:
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        method, fitted = await loop.run_in_executor(None, lambda: opened(self._models, reference))
        logger.info("model %s loaded in %.2f s", reference, time.perf_counter() - started)
        return Worker(method, fitted, self._executor, self._largest)
