"""The committer on a real Ray: many producers, few commits, exactly once."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pytest
import ray

from sensorium.actors import committer
from sensorium.catalog import Catalog
from sensorium.platform.errors import SensoriumError

pytestmark = pytest.mark.usefixtures("ray_cluster")


def rows(prefix: str, count: int) -> pa.Table:
    return pa.table({"id": [f"{prefix}-{n}" for n in range(count)], "value": list(range(count))})


@pytest.fixture
def target(catalog: Catalog) -> Any:
    return catalog.create("rows", modality="table", fields={"value": pa.int64()})


def test_rows_that_arrive_together_become_few_commits(target: Any) -> None:
    actor = committer.start(target.storage, "rows", message="together")
    versions = ray.get([actor.append.remote(rows(f"p{n}", 5), dict(target.fields)) for n in range(60)])
    assert len(target) == 300
    assert max(versions) == target.version
    assert target.version < 30, "every producer had a commit of its own"
    assert set(target.history()["message"].to_list()) == {"", "together"}


def test_an_answer_means_that_the_rows_are_there(target: Any) -> None:
    actor = committer.start(target.storage, "rows")
    for number in range(3):
        version = ray.get(actor.append.remote(rows(f"p{number}", 2), dict(target.fields)))
        assert len(target) == 2 * (number + 1)
        assert version == target.version


def test_rows_sent_twice_land_once(target: Any) -> None:
    actor = committer.start(target.storage, "rows")
    again = [actor.append.remote(rows("same", 4), dict(target.fields)) for _ in range(5)]
    ray.get(again)
    assert target.select().frame()["id"].to_list() == [f"same-{n}" for n in range(4)]


def test_a_failure_reaches_the_producer_and_not_its_neighbours(target: Any) -> None:
    actor = committer.start(target.storage, "rows")
    wrong = pa.table({"id": ["bad"], "value": ["text"]})
    with pytest.raises(SensoriumError, match="value"):
        ray.get(actor.append.remote(wrong, dict(target.fields)))
    ray.get(actor.append.remote(rows("good", 2), dict(target.fields)))
    assert len(target) == 2


@pytest.mark.slow
def test_a_committer_that_dies_starts_again_and_loses_nothing(target: Any) -> None:
    actor = committer.start(target.storage, "rows")
    process = ray.get(actor.process.remote())
    waiting = [actor.append.remote(rows(f"p{n}", 3), dict(target.fields)) for n in range(20)]
    os.kill(process, 9)
    ray.get(waiting)
    assert len(target) == 60
    assert ray.get(actor.process.remote()) != process
