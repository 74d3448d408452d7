"""One model at work: batches of what arrived meanwhile, errors that stay with their sample, callers that go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from sensorium.jobs.training.method import Fitted
from sensorium.platform.errors import InvalidSample
from sensorium.serve.batching import Worker
from tests.serve import small_cnn

FITTED = Fitted(small_cnn.Config(), {}, {}, None)  # type: ignore[arg-type]


def worker(predict: Callable[..., list[dict[str, Any]]], largest: int = 8) -> Worker:
    return Worker(replace(small_cnn.method, predict=predict), FITTED, ThreadPoolExecutor(1), largest)


def test_what_arrives_while_it_computes_is_the_next_batch() -> None:
    sizes: list[int] = []

    def predict(fitted: Fitted, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        sizes.append(len(samples))
        time.sleep(0.05)
        return [{"x": sample["x"]} for sample in samples]

    async def ask() -> list[Any]:
        model = worker(predict)
        first = asyncio.create_task(model.predict({"x": 0}))
        await asyncio.sleep(0.02)
        return [await first, *await asyncio.gather(*(model.predict({"x": n}) for n in range(1, 21)))]

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
        return list(await asyncio.gather(*(model.predict({"x": n}) for n in range(4))))

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
        found = await asyncio.gather(model.predict({}), model.predict({}), return_exceptions=True)
        return [*found, await model.predict({})]

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
        first = asyncio.create_task(model.predict({}))
        await asyncio.sleep(0.02)
        gone = [asyncio.create_task(model.predict({})) for _ in range(3)]
        kept = asyncio.create_task(model.predict({}))
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
            await model.predict({})
        return threading.get_ident()

    loop = asyncio.run(ask())
    assert seen[0] != loop
    assert (seen[-1] == loop) == (threads == 1)
