"""A selection as Dask, xarray, torch and Ray data: the same samples in every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sensorium.catalog import Catalog, Dataset
from sensorium.platform.errors import DuplicateSample, InvalidQuery, InvalidSample, InvalidSetting, UnknownField

COUNT = 23


def image(number: int, ragged: bool = False) -> np.ndarray:
    height = 6 + number % 3 if ragged else 6
    return np.full((height, 5, 3), number, np.uint8)


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = Catalog(tmp_path_factory.mktemp("uniform") / "lake").create("photos", modality="image")
    with dataset.writer(batch=7) as writer:
        for n in range(COUNT):
            writer.add({"id": f"p{n:02d}", "image": image(n), "label": n % 2, "name": f"n{n}"})
    return dataset


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = Catalog(tmp_path_factory.mktemp("ragged") / "lake").create("photos", modality="image")
    dataset.append({"id": f"p{n:02d}", "image": image(n, ragged=True), "label": n % 2} for n in range(COUNT))
    return dataset


class TestDask:
    def test_uniform_samples_are_one_array(self, uniform: Dataset) -> None:
        array = uniform.select("label = 1").dask("image")
        assert array.shape == (11, 6, 5, 3)
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array[:, 0, 0, 0].compute(), np.arange(1, COUNT, 2))

    def test_one_task_reads_neighbours_together(self, uniform: Dataset) -> None:
        assert len(uniform.select().dask("image").chunks[0]) == 4  # as many as fragments

    def test_ragged_samples_are_a_list(self, ragged: Dataset) -> None:
        arrays = ragged.select().dask("image")
        assert isinstance(arrays, list)
        for number, array in enumerate(arrays):
            np.testing.assert_array_equal(array.compute(), image(number, ragged=True))

    def test_a_scalar_is_refused(self, uniform: Dataset) -> None:
        with pytest.raises(UnknownField, match=r"label.*image"):
            uniform.select().dask("label")

    def test_samples_without_the_array_are_named(self, catalog: Catalog) -> None:
        dataset = catalog.create("d", modality="image")
        dataset.append(
            [{"id": "a", "image": image(1), "mask": np.ones((6, 5), np.uint8)}, {"id": "b", "image": image(2)}]
        )
        with pytest.raises(InvalidQuery, match=r"'b'.*mask"):
            dataset.select().dask("mask")


class TestXarray:
    def test_dims_coordinates_and_units(self, catalog: Catalog) -> None:
        dataset = catalog.create("cubes", modality="hyperspectral", attributes={"wavelength": [450.0, 550.0]})
        dataset.append([{"id": f"c{n}", "cube": np.full((3, 4, 2), n, np.float32), "brix": float(n)} for n in range(3)])
        data = dataset.select().xarray()
        assert data["cube"].dims == ("sample", "H", "W", "L")
        assert data["sample"].to_numpy().tolist() == ["c0", "c1", "c2"]
        assert data["wavelength"].to_numpy().tolist() == [450.0, 550.0]
        assert data["wavelength"].attrs["units"] == "nm"
        assert float(data["cube"].sel(sample="c2").mean()) == 2.0
        assert data["brix"].to_numpy().tolist() == [0.0, 1.0, 2.0]

    def test_ragged_samples_are_refused_with_a_remedy(self, ragged: Dataset) -> None:
        with pytest.raises(InvalidQuery, match=r"image.*dask"):
            ragged.select().xarray()


class TestTorch:
    def test_batches(self, uniform: Dataset) -> None:
        batches = list(uniform.select().torch(["image", "label", "name"], batch_size=10))
        assert [len(batch["id"]) for batch in batches] == [10, 10, 3]
        assert batches[0]["image"].shape == (10, 6, 5, 3)
        assert batches[0]["image"].dtype == torch.uint8
        assert batches[0]["label"].tolist() == [n % 2 for n in range(10)]
        assert batches[2]["name"] == ["n20", "n21", "n22"]

    def test_ragged_batches_are_lists(self, ragged: Dataset) -> None:
        batch = next(iter(ragged.select().torch(["image"], batch_size=4)))
        assert [tuple(tensor.shape) for tensor in batch["image"]] == [image(n, ragged=True).shape for n in range(4)]

    def test_single_samples_and_transform(self, uniform: Dataset) -> None:
        stream = uniform.select().torch(["image"], transform=lambda sample: int(sample["image"][0, 0, 0]))
        assert list(stream) == list(range(COUNT))
        assert len(stream) == COUNT

    def test_transform_in_batches(self, uniform: Dataset) -> None:
        stream = uniform.select().torch(["image"], lambda s: {"mean": s["image"].float().mean()}, batch_size=COUNT)
        assert next(iter(stream))["mean"].tolist() == [float(n) for n in range(COUNT)]

    def test_the_order_is_a_function_of_seed_and_epoch(self, uniform: Dataset) -> None:
        def epochs(seed: int) -> list[list[str]]:
            stream = uniform.select().torch(["label"], shuffle=True, seed=seed, batch_size=4)
            return [[i for batch in stream for i in batch["id"]] for _ in range(2)]

        first, again, other = epochs(1), epochs(1), epochs(2)
        assert first == again
        assert first[0] != first[1]
        assert first != other
        assert sorted(first[0]) == sorted(first[1]) == [f"p{n:02d}" for n in range(COUNT)]

    @pytest.mark.parametrize("stop", [0, 1, 3, 5])
    def test_a_stream_goes_on_exactly_where_it_stopped(self, uniform: Dataset, stop: int) -> None:
        def stream() -> Any:
            return uniform.select().torch(["label"], shuffle=True, seed=3, batch_size=4)

        whole = [batch["id"] for batch in stream()]
        first = stream()
        iterator = iter(first)
        seen = [next(iterator)["id"] for _ in range(stop)]
        second = stream()
        second.load_state_dict(first.state_dict())
        assert seen + [batch["id"] for batch in second] == whole

    def test_a_position_in_other_data_is_refused(self, uniform: Dataset) -> None:
        state = uniform.select().torch(["label"], shuffle=True, seed=3).state_dict()
        with pytest.raises(InvalidSetting, match=r"seed.*3.*4"):
            uniform.select().torch(["label"], shuffle=True, seed=4).load_state_dict(state)
        with pytest.raises(InvalidSetting, match="samples"):
            uniform.select("label = 0").torch(["label"], shuffle=True, seed=3).load_state_dict(state)

    @pytest.mark.parametrize("world_size", [1, 2, 3, 4])
    def test_ranks_share_the_samples(self, uniform: Dataset, world_size: int) -> None:
        def ids(shuffle: bool) -> list[list[str]]:
            return [
                [s["id"] for s in uniform.select().torch(["label"], shuffle=shuffle, rank=r, world_size=world_size)]
                for r in range(world_size)
            ]

        every = [i for part in ids(shuffle=False) for i in part]
        assert sorted(every) == [f"p{n:02d}" for n in range(COUNT)]
        even = ids(shuffle=True)
        assert {len(part) for part in even} == {COUNT // world_size}
        assert len({i for part in even for i in part}) == COUNT - COUNT % world_size

    def test_a_loader_with_workers_gives_every_sample_once(self, uniform: Dataset) -> None:
        stream = uniform.select().torch(["label"], shuffle=True, batch_size=4, prefetch=0)
        loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="spawn")
        assert sorted(i for batch in loader for i in batch["id"]) == [f"p{n:02d}" for n in range(COUNT)]

    def test_an_epoch_can_be_named(self, uniform: Dataset) -> None:
        """In a loader with workers the passes happen elsewhere: whoever counts them says which one is next."""

        def ids(stream: Any) -> list[str]:
            return [sample["id"] for sample in stream]

        counted = uniform.select().torch(["label"], shuffle=True, seed=5)
        passes = [ids(counted) for _ in range(3)]
        named = uniform.select().torch(["label"], shuffle=True, seed=5)
        named.set_epoch(2)
        assert ids(named) == passes[2]

    def test_forked_workers_are_refused_before_they_hang(self, uniform: Dataset) -> None:
        stream = uniform.select().torch(["label"], batch_size=4)
        loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="fork")
        with pytest.raises(InvalidSetting, match=r"forked.*num_workers=0.*spawn"):
            list(loader)

    def test_wrong_settings(self, uniform: Dataset) -> None:
        for settings in ({"batch_size": 0}, {"rank": 2, "world_size": 2}, {"prefetch": -1}):
            with pytest.raises(InvalidSetting):
                uniform.select().torch(["label"], **settings)


@pytest.mark.usefixtures("ray_cluster")
class TestRay:
    def test_rows_arrive_whole(self, uniform: Dataset, ragged: Dataset) -> None:
        for dataset, is_ragged in ((uniform, False), (ragged, True)):
            rows = {row["id"]: row for row in dataset.select().ray(batch=5).iter_rows()}
            assert len(rows) == COUNT
            for number in range(COUNT):
                row = rows[f"p{number:02d}"]
                np.testing.assert_array_equal(row["image"], image(number, is_ragged))
                assert row["label"] == number % 2

    def test_an_order_is_kept(self, uniform: Dataset) -> None:
        rows = uniform.select(order="-label", fields=["label"]).ray(batch=4).take_all()
        assert [row["label"] for row in rows] == sorted((n % 2 for n in range(COUNT)), reverse=True)

    def test_samples_may_lack_a_field(self, catalog: Catalog) -> None:
        dataset = catalog.create("d", modality="image")
        mask = np.ones((6, 5), np.uint8)
        dataset.append([{"id": f"p{n}", "image": image(n), "mask": mask if n % 2 else None} for n in range(6)])
        rows = {row["id"]: row for row in dataset.select().ray(batch=2).iter_rows()}
        assert [rows[f"p{n}"]["mask"] is None for n in range(6)] == [True, False] * 3
        copy = catalog.create("copy", modality="image")
        copy.write_ray(dataset.select().ray(batch=3))
        for sample in copy.select():
            assert ("mask" in sample) == (int(sample.id[1:]) % 2 == 1)
            np.testing.assert_array_equal(sample["image"], image(int(sample.id[1:])))

    def test_writing_gives_the_same_samples_in_one_commit(self, ragged: Dataset, catalog: Catalog) -> None:
        copy = catalog.create("copy", modality="image")
        assert copy.write_ray(ragged.select().ray(batch=5)) == 1
        for sample in copy.select():
            np.testing.assert_array_equal(sample["image"], ragged.select()[sample.id]["image"])
        assert copy.verify().is_empty()

    def test_a_write_is_idempotent_by_its_key(self, uniform: Dataset, catalog: Catalog) -> None:
        copy = catalog.create("copy", modality="image")
        first = copy.write_ray(uniform.select().ray(), key="once")
        assert copy.write_ray(uniform.select().ray(), key="once") == first
        with pytest.raises(DuplicateSample, match=r"copy.*p00"):
            copy.write_ray(uniform.select().ray())
        assert len(copy) == COUNT

    def test_a_bad_row_is_our_error_and_commits_nothing(self, uniform: Dataset, catalog: Catalog) -> None:
        copy = catalog.create("copy", modality="image")

        def spoil(batch: dict[str, Any]) -> dict[str, Any]:
            batch["image"] = batch["image"].astype(np.float32) * np.float32("nan")
            return batch

        with pytest.raises(InvalidSample, match=r"copy.*p\d\d.*image.*NaN"):
            copy.write_ray(uniform.select().ray().map_batches(spoil))
        assert len(copy) == 0

    def test_the_same_id_twice_in_the_data_is_refused(self, uniform: Dataset, catalog: Catalog) -> None:
        copy = catalog.create("copy", modality="image")
        twice = uniform.select().ray().union(uniform.select().ray())
        with pytest.raises(DuplicateSample, match="p00"):
            copy.write_ray(twice)
        assert len(copy) == 0

    @pytest.mark.slow
    def test_a_worker_that_dies_leaves_no_sample_twice(
        self, uniform: Dataset, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        import os
        from pathlib import Path

        mark = tmp_path_factory.mktemp("died") / "once"

        def die_once(batch: dict[str, Any]) -> dict[str, Any]:
            if "p11" in batch["id"] and not Path(mark).exists():
                Path(mark).touch()
                os._exit(1)
            return batch

        copy = catalog.create("copy", modality="image")
        copy.write_ray(uniform.select().ray(batch=4).map_batches(die_once, batch_size=None))
        assert mark.exists()
        assert copy.select(fields=[]).frame()["id"].to_list() == [f"p{n:02d}" for n in range(COUNT)]
