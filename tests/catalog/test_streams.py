"""Streams of batches: which order they come in, where they go on, and whose memory they are in."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.catalog import ArrayField, Catalog, Dataset, fragments, to_torch
from sensorium.catalog.buffers import Buffers
from sensorium.platform.errors import CorruptData, InvalidSetting

COUNT = 103


@pytest.fixture(scope="module", params=["none", "zstd"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    catalog = Catalog(tmp_path_factory.mktemp("streams") / "lake")
    field = ArrayField("x", codec=request.param)
    dataset = catalog.create("d", modality="table", fields=[field])
    values = np.arange(COUNT * 40, dtype=np.int16).reshape(COUNT, 8, 5)
    for part in np.array_split(np.arange(COUNT), 4):
        ids = [f"s{n:03d}" for n in part]
        dataset.append({"id": ids, "x": values[part], "n": part.tolist(), "weight": (part / 2).tolist()})
    return dataset


def numbers(batches: Any) -> list[int]:
    return [n for batch in batches for n in batch["n"].tolist()]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True, "near"])
def test_batches_hold_the_samples_that_they_name(dataset: Dataset, prefetch: int, shuffle: Any) -> None:
    stream = dataset.select().torch(batch_size=10, shuffle=shuffle, prefetch=prefetch)
    seen = []
    for batch in stream:
        assert batch["x"].dtype == torch.int16
        assert batch["n"].dtype == torch.int64
        assert batch["weight"].dtype == torch.float32
        assert batch["x"].shape[1:] == (8, 5)
        torch.testing.assert_close(batch["x"][:, 0, 0].long(), batch["n"] * 40)
        torch.testing.assert_close(batch["weight"], batch["n"] / 2)
        assert batch["id"] == [f"s{n:03d}" for n in batch["n"].tolist()]
        seen += batch["n"].tolist()
    assert sorted(seen) == list(range(COUNT))
    assert (seen == sorted(seen)) is (shuffle is False)


@pytest.mark.parametrize("together", [1, 64])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_stream_goes_on_at_any_position(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, together: int, batch_size: int | None
) -> None:
    monkeypatch.setattr(to_torch, "_TOGETHER", together)

    def stream() -> Any:
        return dataset.select().torch(["n"], batch_size=batch_size, shuffle=True, seed=4)

    whole = [sample["id"] for sample in stream()]
    for taken in (0, 1, 5, len(whole) - 1, len(whole)):
        first = stream()
        begun = [sample["id"] for sample in itertools.islice(iter(first), taken)]
        second = stream()
        second.load_state_dict(first.state_dict())
        assert begun + [sample["id"] for sample in second] == whole


def test_near_by_orders_differ_by_epoch_and_read_a_stretch_at_a_time(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = catalog.create("d", modality="table")
    count = list(range(100))
    dataset.append({"id": [f"{n:03d}" for n in count], "x": np.zeros((100, 40), np.int16), "n": count})
    monkeypatch.setattr(to_torch, "_STRETCH_BYTES", 80 * 10)
    monkeypatch.setattr(to_torch, "_STRETCHES", 2)
    stream = dataset.select().torch(["x", "n"], batch_size=1, shuffle="near", seed=1)
    orders = [numbers(stream) for _ in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    for order in orders:
        for begin in range(0, 100, 20):  # two stretches of ten samples each, wherever they are
            assert len({n // 10 for n in order[begin : begin + 20]}) == 2
    again = dataset.select().torch(["x", "n"], batch_size=1, shuffle="near", seed=1)
    assert numbers(again) == orders[0]


@pytest.mark.parametrize("world_size", [2, 3])
def test_near_by_shares_are_disjoint(dataset: Dataset, world_size: int) -> None:
    shares = [
        numbers(dataset.select().torch(["x", "n"], batch_size=4, shuffle="near", rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    together = [n for share in shares for n in share]
    assert len(set(together)) == len(together) == COUNT - COUNT % world_size


def test_a_stream_goes_on_with_another_number_of_workers(dataset: Dataset) -> None:
    def stream() -> Any:
        return dataset.select().torch(["n"], batch_size=8, shuffle=True, seed=2)

    whole = [batch["id"] for batch in stream()]
    first = stream()
    begun = [batch["id"] for batch in itertools.islice(first.with_workers(2), 5)]
    assert begun == whole[:5]
    second = stream()
    second.load_state_dict(first.state_dict())
    assert [batch["id"] for batch in second.with_workers(1)] == whole[5:]
    assert second.epoch == 1
    third = stream()
    third.load_state_dict(first.state_dict())
    assert [batch["id"] for batch in third] == whole[5:]
    with pytest.raises(InvalidSetting, match="batch_size"):
        next(dataset.select().torch(["n"]).with_workers(2))


def test_items_by_position(dataset: Dataset) -> None:
    stream = dataset.select().torch(["x", "n"])
    batch = stream.__getitems__([5, 2])
    assert batch["id"] == ["s005", "s002"]
    assert stream[7]["n"] == 7
    loader = torch.utils.data.DataLoader(_Indexed(stream), batch_sampler=[[3, 1], [2]], collate_fn=lambda given: given)
    assert [batch["id"] for batch in loader] == [["s003", "s001"], ["s002"]]


class _Indexed(torch.utils.data.Dataset):  # type: ignore[misc]
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getitems__(self, positions: list[int]) -> Any:
        return self.stream.__getitems__(positions)

    def __len__(self) -> int:
        return len(self.stream)


class TestMemory:
    def test_a_batch_that_is_kept_stays_what_it_is(self, catalog: Catalog) -> None:
        values = np.random.default_rng(0).integers(0, 255, (48, 256, 256), dtype=np.uint8)
        dataset = catalog.create("big", modality="table")
        dataset.append({"id": [f"{n:02d}" for n in range(48)], "x": values})
        stream = dataset.select().torch(["x"], batch_size=16)
        kept = [batch["x"][3] for _ in range(3) for batch in stream]
        expected = [values[begin + 3] for begin in (0, 16, 32)] * 3
        for tensor, array in zip(kept, expected, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)

    def test_memory_comes_back_when_the_last_view_is_gone(self) -> None:
        made: list[int] = []

        def allocate(nbytes: int) -> np.ndarray:
            made.append(nbytes)
            return np.empty(nbytes, np.uint8)

        buffers = Buffers(allocate=allocate)
        for _ in range(5):
            tensor = torch.from_numpy(buffers.take((1024, 1024), np.dtype(np.float32)))
            view = tensor[5:7, ::2]
            del tensor
            other = buffers.take((1024, 1024), np.dtype(np.float32))
            view[:] = 1
            other[:] = 2
            assert (view == 1).all()
            del view, other
            gc.collect()
        assert made == [4 << 20] * 2

    def test_no_more_waits_than_the_limit(self) -> None:
        buffers = Buffers(limit=8 << 20)
        arrays = [buffers.take((4 << 20,), np.dtype(np.uint8)) for _ in range(5)]
        del arrays
        assert buffers._held <= 8 << 20

    def test_small_arrays_come_from_the_heap(self) -> None:
        assert Buffers(allocate=lambda _: pytest.fail("not worth it")).take((3, 2), np.dtype("f4")).shape == (3, 2)


@pytest.mark.parametrize("check", [True, False])
def test_checksums_are_compared_where_asked(tmp_path: Path, check: bool) -> None:
    dataset = Catalog(tmp_path / "lake").create("d", modality="table", fields=[ArrayField("x", codec="none")])
    dataset.append({"id": ["a", "b"], "x": np.zeros((2, 100), np.uint8)})
    (shard,) = Path(dataset.storage.at_path("fragments")).rglob("c.*")
    content = bytearray(shard.read_bytes())
    content[150] = 7
    shard.write_bytes(content)
    fragments.forget()
    selection = dataset.select()
    if check:
        with pytest.raises(CorruptData, match=r"committed.*verify"):
            list(selection.torch(batch_size=2, check=True))
        with pytest.raises(CorruptData, match=r"committed.*verify"):
            selection.batch([0, 1], check=True)
    else:
        assert [batch["x"].sum().item() for batch in selection.torch(batch_size=2)] == [7]
        np.testing.assert_array_equal(selection.batch([0])["x"], np.zeros((1, 100)))


def test_batches_without_torch(dataset: Dataset) -> None:
    selection = dataset.select()
    batch = selection.batch([9, 4, 4])
    assert batch["id"] == ["s009", "s004", "s004"]
    np.testing.assert_array_equal(batch["n"], [9, 4, 4])
    assert isinstance(batch["x"], np.ndarray)
    np.testing.assert_array_equal(batch["x"][:, 0, 0], [360, 160, 160])
    assert selection.kind("x") == ((8, 5), np.dtype(np.int16))


def test_fields_that_some_samples_lack(catalog: Catalog) -> None:
    dataset = catalog.create("d", modality="image")
    image = np.zeros((4, 5, 3), np.uint8)
    dataset.append([{"id": "a", "image": image, "mask": image[..., 0]}, {"id": "b", "image": image, "label": 3}])
    batch = dataset.select().batch([1, 0])
    assert batch["label"] == [3, None]
    assert batch["mask"][0] is None
    assert batch["mask"][1].shape == (4, 5)
    assert dataset.select().kind("mask") is None
