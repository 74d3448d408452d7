"""Streams of examples: the order is a function, nothing is lost, memory is bounded."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.catalog import Catalog
from sensorium.catalog.selection import Selection
from sensorium.jobs.training.examples import Columns, Examples, ExampleStream, to_device
from sensorium.platform.errors import CorruptData, InvalidSetting

LENGTHS = [5, 3, 8, 1, 6, 2, 7, 4]


class _Points:
    """Every value of every signal is an example."""

    loads: list[list[str]] = []  # noqa: RUF012 - what the pools of a test were made from

    def __init__(self, columns: Columns) -> None:
        self.values = np.concatenate([np.asarray(signal)[0] for signal in columns["signal"]])
        self.loads.append(list(columns["id"]))

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return {"value": torch.from_numpy(self.values[indices])}


def _lengths(rows: pl.DataFrame) -> np.ndarray:
    return rows["signal"].struct.field("shape").list.get(1).to_numpy()


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    """Eight signals of 36 values in all: 0.0, 1.0, 2.0 …, each value once."""
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    dataset = catalog.create("points", modality="series", attributes={"sampling_rate": 1.0})
    ends = np.cumsum(LENGTHS)
    dataset.append(
        {"id": f"p{index}", "signal": np.arange(end - length, end, dtype=np.float32)[None]}
        for index, (end, length) in enumerate(zip(ends, LENGTHS, strict=True))
    )
    return dataset.select()


def stream(selection: Selection, *, pools: bool = False, **chosen: Any) -> ExampleStream:
    """Over the points; in several pools where asked for: one byte of payload is said to need a lot of memory."""
    expansion = (1 << 20) * 0.02 if pools else 1.0
    return ExampleStream(
        Examples(selection, _Points, _lengths, expansion),
        **{"batch_size": 4, "memory_mb": 1, "shuffle": True, **chosen},
    )


def values(batches: Any) -> list[list[float]]:
    return [batch["value"].tolist() for batch in batches]


def flat(lists: list[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(lists))


@pytest.mark.parametrize("pools", [False, True])
def test_an_epoch_has_every_example_once_in_an_order_of_its_own(selection: Selection, pools: bool) -> None:
    found = stream(selection, pools=pools)
    first, second = values(found.epoch(0)), values(found.epoch(1))
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(36))
    assert first != second
    assert values(stream(selection, pools=pools).epoch(0)) == first
    assert values(stream(selection, pools=pools, seed=1).epoch(0)) != first
    assert found.batches(0) == len(first)


@settings(max_examples=25, deadline=None)
@given(
    start=st.integers(0, 14),
    pools=st.booleans(),
    batch=st.integers(1, 9),
    world=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_going_on_in_the_middle_gives_the_rest(
    selection: Selection, start: int, pools: bool, batch: int, world: int, epoch: int
) -> None:
    chosen = {"pools": pools, "batch_size": batch, "world_size": world, "rank": world - 1}
    whole = values(stream(selection, **chosen).epoch(epoch))
    assert values(stream(selection, **chosen).epoch(epoch, start)) == whole[start:]


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_workers_share_an_epoch_evenly(selection: Selection, pools: bool, world: int) -> None:
    parts = [values(stream(selection, pools=pools, world_size=world, rank=rank).epoch(2)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1  # as many steps each, or they would wait for each other for ever
    everything = [value for part in parts for batch in part for value in batch]
    assert len(everything) == len(set(everything))
    dropped = 36 - len(everything)
    assert dropped < world * (1 if not pools else 8)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_without_shuffling_examples_are_dealt_out_in_turn(selection: Selection, world: int) -> None:
    parts = [
        flat(values(stream(selection, shuffle=False, world_size=world, rank=rank).epoch())) for rank in range(world)
    ]
    assert [part[:2] for part in parts] == [[rank, rank + world] for rank in range(world)]
    assert sorted(flat(parts)) == list(range(36))


def test_what_fits_into_memory_is_read_once_and_kept(selection: Selection) -> None:
    _Points.loads.clear()
    found = stream(selection)
    for epoch in range(3):
        list(found.epoch(epoch))
    assert len(_Points.loads) == 1


def test_what_does_not_fit_is_read_in_parts(selection: Selection) -> None:
    _Points.loads.clear()
    list(stream(selection, pools=True).epoch(0))
    assert len(_Points.loads) > 2
    assert sorted(flat(_Points.loads)) == [f"p{index}" for index in range(8)]


def test_each_worker_reads_its_own_samples_only_where_each_is_one_example(selection: Selection) -> None:
    class One(_Points):
        def __init__(self, columns: Columns) -> None:
            super().__init__(columns)
            self.values = np.array([signal[0, 0] for signal in columns["signal"]])

    read = []
    for rank in range(2):
        _Points.loads.clear()
        examples = Examples(selection, One, None, expansion=(1 << 20) * 0.02)
        list(ExampleStream(examples, 2, shuffle=True, rank=rank, world_size=2, memory_mb=1).epoch(0))
        read.append(set(flat(_Points.loads)))
    assert not read[0] & read[1]
    assert len(read[0]) == len(read[1]) == 4


def test_a_pool_that_breaks_its_promise_is_refused(selection: Selection) -> None:
    examples = Examples(selection, _Points, lambda rows: _lengths(rows) + 1)
    with pytest.raises(CorruptData, match="gave 36 examples where their shapes promised 44"):
        list(ExampleStream(examples, 4, shuffle=False).epoch())


def test_nothing_to_read_is_told(selection: Selection) -> None:
    with pytest.raises(InvalidSetting, match="36 examples cannot be dealt out to 40 workers"):
        stream(selection, world_size=40)


def test_an_error_of_a_pool_reaches_the_reader(selection: Selection) -> None:
    def broken(columns: Columns) -> Any:
        raise InvalidSetting("this one")

    with pytest.raises(InvalidSetting, match="this one"):
        list(ExampleStream(Examples(selection, broken), 4, shuffle=False).epoch())


def test_batches_move_to_a_device_whatever_they_are() -> None:
    class Box:
        def to(self, device: torch.device) -> str:
            return f"box on {device}"

    moved = to_device({"a": torch.zeros(2), "b": {"c": Box()}, "d": 3}, torch.device("cpu"))
    assert moved["b"] == {"c": "box on cpu"}
    assert moved["a"].device.type == "cpu"
    assert moved["d"] == 3
