"""One model at work: what arrives while it computes is its next batch.

No request waits for a batch to fill: a model that is idle begins at once, so that batching costs a single client nothing.
A model that takes no longer than handing work to a thread and back runs on the event loop itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sensorium.jobs.training.method import load_model, png
from sensorium.jobs.training.operators import referred
from sensorium.platform.errors import SensoriumError

if TYPE_CHECKING:
    from sensorium.catalog.models import Models

__all__ = ["NEWEST", "QUICK_S", "Outcome", "Worker", "opened"]


@dataclass(frozen=True)
class Outcome:
    """What became of one sample.

    Attributes:
        result: fields of the prediction, arrays as NumPy.
        pictures: PNG files by name, where they were asked for.
        error: why there is no result; empty where there is one.
        batch: samples that were computed together.
        seconds: that the batch took.
    """

    result: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    error: str = ""
    batch: int = 1
    seconds: float = 0.0


@dataclass
class _Job:
    sample: Mapping[str, Any]
    pictures: bool
    answer: asyncio.Future[Outcome]


#: what is quicker than this is computed on the event loop: a change of threads costs half a millisecond of CPU
QUICK_S = 0.002
#: weight of the newest batch in the mean that says how quick a model is
NEWEST = 0.2


def opened(models: Models, reference: str) -> tuple[Any, Any]:
    """What a :class:`Worker` works with: a method and its fitted model, or an operator and its configuration.

    Raises:
        UnknownModel, UnknownVersion: there is no such model.
        CorruptData: its weights are damaged.
    """
    subject = referred(reference)
    return load_model(models.get(reference)) if subject is None else (subject.load(), subject.config)


class Worker:
    """A fitted model, and the queue before it. Belongs to one event loop; the model runs in one thread beside it.

    An operator is used in the same way, its configuration in place of the fitted model.
    """

    def __init__(self, method: Any, fitted: Any, executor: ThreadPoolExecutor, largest: int) -> None:
        self._method, self._fitted, self._executor, self._largest = method, fitted, executor, largest
        self._waiting: deque[_Job] = deque()
        self._running: asyncio.Task[None] | None = None
        self._mean_s = math.inf  # a sample takes; not quick until it has shown it

    async def predict(self, samples: Sequence[Mapping[str, Any]], *, pictures: bool = False) -> list[Outcome]:
        """Outcomes of samples, in their order; errors that are a sample's are in its outcome."""
        loop = asyncio.get_running_loop()
        jobs = [_Job(sample, pictures, loop.create_future()) for sample in samples]
        self._waiting.extend(jobs)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        return [await jobs[0].answer] if len(jobs) == 1 else await asyncio.gather(*(job.answer for job in jobs))

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(0)  # whatever has arrived by now belongs to the batch
            jobs = [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]
            jobs = [job for job in jobs if not job.answer.done()]  # whoever has gone away needs no answer
            if not jobs:
                continue
            started = time.perf_counter()
            try:
                if self._mean_s * len(jobs) < QUICK_S and not any(job.pictures for job in jobs):
                    outcomes = self._compute(jobs)
                else:
                    outcomes = await loop.run_in_executor(self._executor, self._compute, jobs)
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked
                for job in jobs:
                    if not job.answer.done():
                        job.answer.set_exception(error)
                continue
            spent = (time.perf_counter() - started) / len(jobs)
            known = math.isfinite(self._mean_s)
            self._mean_s = (1 - NEWEST) * self._mean_s + NEWEST * spent if known else spent
            for job, outcome in zip(jobs, outcomes, strict=True):
                if not job.answer.done():
                    job.answer.set_result(outcome)

    def _compute(self, jobs: Sequence[_Job]) -> list[Outcome]:
        started = time.perf_counter()
        samples = [job.sample for job in jobs]
        results = self._results(samples)
        seconds = time.perf_counter() - started
        outcomes = []
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, str):
                outcomes.append(Outcome(error=result, batch=len(jobs), seconds=seconds))
                continue
            drawn: dict[str, bytes] = {}
            if job.pictures and self._method.illustrate is not None:
                pictures = self._method.illustrate(self._fitted, job.sample, result)
                drawn = {name: png(draw) for name, draw in pictures.items()}
            outcomes.append(Outcome(result, drawn, "", len(jobs), seconds))
        return outcomes

    def _results(self, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | str]:
        """Results of all samples; one that cannot be predicted does not spoil the others of its batch."""
        try:
            return list(self._method.predict(self._fitted, samples))
        except SensoriumError as error:
            if len(samples) == 1:
                return [str(error)]
        results: list[dict[str, Any] | str] = []
        for sample in samples:
            try:
                results += self._method.predict(self._fitted, [sample])
            except SensoriumError as error:
                results.append(str(error))
        return results
