"""One model at work: batches of what arrived meanwhile, errors that stay with their sample, callers that go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray

from sensorium.jobs.training.method import Fitted
from sensorium.platform.errors import InvalidSample
from sensorium.serve.batching import Outcome, Worker
from sensorium.serve.hosts import ServeHosts
from tests.serve import small_cnn

FITTED = Fitted(small_cnn.Config(), {}, {}, None)  # type: ignore[arg-type]


def worker(predict: Callable[..., list[dict[str, Any]]], largest: int = 8) -> Worker:
    return Worker(replace(small_cnn.method, predict=predict), FITTED, ThreadPoolExecutor(1), largest)


async def one(model: Worker, sample: Mapping[str, Any]) -> Outcome:
    (outcome,) = await model.predict([sample])
    return outcome


def test_what_arrives_while_it_computes_is_the_next_batch() -> None:
    sizes: list[int] = []

    def predict(fitted: Fitted, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        sizes.append(len(samples))
        time.sleep(0.05)
        return [{"x": sample["x"]} for sample in samples]

    async def ask() -> list[Any]:
        model = worker(predict)
        first = asyncio.create_task(one(model, {"x": 0}))
        await asyncio.sleep(0.02)
        return [await first, *await asyncio.gather(*(one(model, {"x": n}) for n in range(1, 21)))]

    outcomes = asyncio.run(ask())
    assert [outcome.result["x"] for outcome in outcomes] == list(range(21))
    assert sizes == [1, 8, 8, 4]
    assert [outcome.batch for outcome in outcomes[:2]] == [1, 8]


def test_an_error_stays_with_its_sample() -> None:
    def predict(fitted: Fitted, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if any(sample["x"] == 2 for sample in samples):
            raise InvalidSample("field 'x' is 2. Choose another.")
        return [{"x": sample["x"]} for sample in samples]

    async def ask() -> list[Any]:
        model = worker(predict)
        return list(await asyncio.gather(*(one(model, {"x": n}) for n in range(4))))

    outcomes = asyncio.run(ask())
    assert [outcome.error for outcome in outcomes] == ["", "", "field 'x' is 2. Choose another.", ""]
    assert [outcome.result.get("x") for outcome in outcomes] == [0, 1, None, 3]


def test_a_fault_of_the_model_reaches_all_who_asked_and_the_next_batch_runs() -> None:
    calls = []

    def predict(fitted: Fitted, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        calls.append(len(samples))
        if len(calls) == 1:
            raise RuntimeError("broken")
        return [{} for _ in samples]

    async def ask() -> Any:
        model = worker(predict)
        found = await asyncio.gather(one(model, {}), one(model, {}), return_exceptions=True)
        return [*found, await one(model, {})]

    first, second, third = asyncio.run(ask())
    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert third.error == ""


def test_nobody_computes_for_those_who_went_away() -> None:
    sizes: list[int] = []

    def predict(fitted: Fitted, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        sizes.append(len(samples))
        time.sleep(0.05)
        return [{} for _ in samples]

    async def ask() -> None:
        model = worker(predict)
        first = asyncio.create_task(one(model, {}))
        await asyncio.sleep(0.02)
        gone = [asyncio.create_task(one(model, {})) for _ in range(3)]
        kept = asyncio.create_task(one(model, {}))
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(first, kept)

    asyncio.run(ask())
    assert sizes == [1, 1]


@pytest.mark.parametrize(("seconds", "threads"), [(0.0, 1), (0.01, 2)])
def test_a_quick_model_runs_on_the_event_loop_once_it_is_known(seconds: float, threads: int) -> None:
    import threading

    seen: list[int] = []

    def predict(fitted: Fitted, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        seen.append(threading.get_ident())
        time.sleep(seconds)
        return [{} for _ in samples]

    async def ask() -> int:
        model = worker(predict)
        for _ in range(12):
            await one(model, {})
        return threading.get_ident()

    loop = asyncio.run(ask())
    assert seen[0] != loop
    assert (seen[-1] == loop) == (threads == 1)


class Replicas:
    """Stands for a handle of Ray Serve: notes the calls, and answers each after a moment."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls, self.fails = seconds, list[list[Any]](), False
        self.predict = self

    def options(self, **_: Any) -> Replicas:
        return self

    def remote(self, samples: Sequence[Mapping[str, Any]], pictures: bool) -> Any:
        self.calls.append([sample["x"] for sample in samples])
        return self._answer(samples)

    async def _answer(self, samples: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        await asyncio.sleep(0.01)
        if self.fails:
            raise ray.exceptions.ActorDiedError
        return [Outcome({"x": sample["x"]}, batch=len(samples), seconds=self.seconds) for sample in samples]


def _asked(replicas: Replicas, samples: Sequence[Mapping[str, Any]], *, pictures: bool = False) -> list[Any]:
    """What becomes of the samples when all are asked for at once, after the model has shown how quick it is."""

    async def ask() -> list[Any]:
        hosts = ServeHosts(replicas)
        await hosts.predict("small@1", [{"x": -1}], False)
        replicas.calls.clear()
        asking = (hosts.predict("small@1", [sample], pictures) for sample in samples)
        return await asyncio.gather(*asking, return_exceptions=True)

    return asyncio.run(ask())


def test_small_samples_that_arrive_together_share_a_call_of_a_quick_model() -> None:
    replicas = Replicas(seconds=0.0001)
    found = _asked(replicas, [{"x": n} for n in range(20)])
    assert [outcomes[0].result["x"] for outcomes in found] == list(range(20))
    assert replicas.calls == [list(range(16)), list(range(16, 20))]


@pytest.mark.parametrize(
    ("seconds", "size", "pictures"), [(0.01, 1, False), (0.0001, 100_000, False), (0.0001, 1, True)]
)
def test_slow_models_and_large_samples_get_calls_of_their_own(seconds: float, size: int, pictures: bool) -> None:
    replicas = Replicas(seconds)
    _asked(replicas, [{"x": n, "signal": np.zeros(size, np.uint8)} for n in range(5)], pictures=pictures)
    assert replicas.calls == [[n] for n in range(5)]


def test_a_replica_that_is_lost_is_told_to_all_who_shared_the_call() -> None:
    replicas = Replicas(seconds=0.0001)

    async def ask() -> list[Any]:
        hosts = ServeHosts(replicas)
        await hosts.predict("small@1", [{"x": -1}], False)
        replicas.fails = True
        asking = (hosts.predict("small@1", [{"x": n}], False) for n in range(3))
        return await asyncio.gather(*asking, return_exceptions=True)

    assert [type(error) for error in asyncio.run(ask())] == [ConnectionError] * 3
