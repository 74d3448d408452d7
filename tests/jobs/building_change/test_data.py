"""Tiles, stitching, augmentation, checks of pairs, simulated scenes, differencing and measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.catalog import Catalog
from sensorium.jobs.building_change import measures, oscd, simulator
from sensorium.jobs.building_change.augmentation import augmented
from sensorium.jobs.building_change.config import ChangeConfig
from sensorium.jobs.building_change.data import IGNORED, checked_pair, examples, preprocess
from sensorium.jobs.building_change.differencing import differenced, otsu
from sensorium.jobs.building_change.drawing import agreement
from sensorium.jobs.building_change.method import method, probability_bands
from sensorium.jobs.building_change.tiles import Grid, cut, stitched
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.examples import ExampleStream
from sensorium.jobs.training.method import Fitted
from sensorium.platform.errors import InvalidSample

CONFIG = ChangeConfig(width=0.25, depth=1.0, tile=32, overlap=8)


# -- tiles ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([16, 32]), st.integers(0, 15))
def test_tiles_cover_a_scene_and_stitch_to_it(height: int, width: int, tile: int, overlap: int) -> None:
    scene = np.random.default_rng(height * width).random((height, width)).astype(np.float32)
    grid = Grid(height, width, tile, overlap)
    asked: list[int] = []

    def values(places: Any) -> Any:
        asked.append(len(places))
        return np.stack([cut(scene, row, column, tile) for row, column in places])

    bands = list(stitched(grid, values, 2))
    np.testing.assert_allclose(np.concatenate(bands), scene, rtol=1e-5)
    assert sum(asked) == len(grid)
    assert max(asked) <= 2
    assert all(len(band) <= tile for band in bands)


def test_neighbours_are_blended_where_they_overlap() -> None:
    grid = Grid(16, 24, 16, 8)
    found = np.concatenate(
        list(stitched(grid, lambda places: np.stack([np.full((16, 16), c, np.float32) for _, c in places]), 4))
    )
    assert (found[:, :8] == 0).all()
    assert (found[:, 16:] == 8).all()
    assert (np.diff(found[0, 7:17]) > 0).all()  # no step in between


def test_a_scene_smaller_than_a_tile_is_mirrored() -> None:
    tile = cut(np.arange(6).reshape(2, 3), 0, 0, 4)
    assert tile.tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]]


# -- examples ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    dataset = catalog.create("pairs", modality="image_pair", fields=list(simulator.FIELDS))
    dataset.append([*simulator.samples(2, 80, 0), *simulator.samples(1, 20, 1)])
    return catalog["pairs"].select(fields=["before", "after", "change"])


def _batches(selection: Any, config: ChangeConfig) -> list[dict[str, torch.Tensor]]:
    stream = ExampleStream(examples(selection, config, 3), 4, shuffle=True, seed=1)
    assert stream.examples == 9 + 9 + 1
    return list(stream.epoch(0))


def test_windows_of_large_scenes_are_the_same_as_tiles_in_memory(scenes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = _batches(scenes, CONFIG)
    monkeypatch.setattr("sensorium.jobs.building_change.data._LARGE", 0.0)  # every scene is large now
    windows = _batches(scenes, CONFIG)
    for one, other in zip(inside, windows, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name])


def test_a_scene_that_memory_cannot_hold_is_read_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(tmp_path)
    big = {"id": "big", "before": np.zeros((256, 512, 3), np.uint8), "change": np.zeros((256, 512), np.uint8)}
    big["after"] = np.arange(256 * 512 * 3, dtype=np.uint32).reshape(256, 512, 3).astype(np.uint8)
    catalog.create("big", modality="image_pair").append([big])
    selection = catalog["big"].select(fields=["before", "after", "change"])
    config = overridden(CONFIG, {"memory_mb": 1, "tile": 64})

    def whole(*_: Any, **__: Any) -> None:
        raise RuntimeError("a whole scene was read")

    monkeypatch.setattr("sensorium.catalog.fragments.read", whole)
    monkeypatch.setattr("sensorium.catalog.fragments.read_many", whole)
    stream = ExampleStream(examples(selection, config, 3), 8, shuffle=False)
    found = torch.cat([batch["after"] for batch in stream.epoch(0)])
    assert len(found) == 4 * 8
    np.testing.assert_array_equal(found[9].numpy(), big["after"][64:128, 64:128].transpose(2, 0, 1))


def test_pixels_beyond_the_edge_are_not_learnt(scenes: Any) -> None:
    labels = torch.cat([batch["change"] for batch in _batches(scenes, CONFIG)])
    outside = (labels == IGNORED).sum(dim=(1, 2))
    assert sorted(set(outside.tolist())) == [0, 32 * 32 - 20 * 20]


def test_statistics_are_of_both_dates(scenes: Any) -> None:
    found = preprocess(scenes, CONFIG)
    pixels = np.concatenate([sample[name].reshape(-1, 3) for sample in scenes for name in ("before", "after")])
    np.testing.assert_allclose(found["mean"], pixels.mean(axis=0))
    np.testing.assert_allclose(found["deviation"], pixels.std(axis=0))


def test_augmentation_keeps_dates_and_map_together() -> None:
    torch.manual_seed(0)
    change = torch.zeros(16, 32, 32, dtype=torch.long)
    change[:, 4:14, 6:20] = 1
    picture = change[:, None].float().repeat(1, 3, 1, 1)
    found = augmented({"before": picture, "after": 1 - picture, "change": change})
    assert found["before"].shape == picture.shape
    torch.testing.assert_close(found["before"] + found["after"], torch.ones_like(picture), atol=1e-5, rtol=0)
    agree = ((found["before"][:, 0] > 0.5) == (found["change"] == 1)).float().mean(dim=(1, 2))
    assert float(agree.min()) > 0.97  # but for the edges of what was cropped and blurred
    assert len({tuple(one.flatten().tolist()) for one in found["change"]}) > 8  # not all alike
    assert set(found["change"].unique().tolist()) <= {0, 1, IGNORED}
    torch.manual_seed(0)
    again = augmented({"before": picture, "after": 1 - picture, "change": change})
    torch.testing.assert_close(again["before"], found["before"])


# -- bad input --------------------------------------------------------------------------------------------------------


def _pair(**changes: Any) -> dict[str, Any]:
    picture = np.zeros((40, 40, 3), np.uint8)
    return {"id": "place 7", "before": picture, "after": picture, **changes}


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"after": np.zeros((40, 39, 3), np.uint8)}, "before is 40 × 40 × 3, after is 40 × 39 × 3"),
        ({"after": np.zeros((40, 40, 4), np.uint8)}, "4 bands; the model was fitted on 3"),
        ({"after": None}, "has no 'after'"),
        ({"before": np.zeros((40, 40), np.uint8)}, r"\[H, W, C\] is needed; got shape \[40, 40\]"),
        ({"a": "EPSG:32631", "b": "EPSG:32632"}, "a is 'EPSG:32631', b is 'EPSG:32632'"),
    ],
)
def test_pairs_that_do_not_suit_are_refused(bad: dict[str, Any], told: str) -> None:
    config = overridden(CONFIG, {"same": ("a", "b")}) if "a" in bad else CONFIG
    with pytest.raises(InvalidSample, match=told) as caught:
        checked_pair(_pair(**bad), config, 3)
    assert "'place 7'" in str(caught.value)


def _fitted() -> Fitted:
    torch.manual_seed(0)
    preprocessing = {"mean": [100.0] * 3, "deviation": [50.0] * 3}
    modules = {name: module.eval() for name, module in method.build(CONFIG, preprocessing).items()}
    return Fitted(CONFIG, preprocessing, modules, torch.device("cpu"))


def test_a_map_of_another_size_is_refused() -> None:
    (sample,) = simulator.samples(1, 40)
    fitted = _fitted()
    (result,) = method.predict(fitted, [sample])
    with pytest.raises(InvalidSample, match="Give the map the pictures' grid"):
        method.score(fitted, {**sample, "change": sample["change"][1:]}, result)


def test_predictions_have_the_size_of_the_scene_and_arrays_may_stay_in_storage(scenes: Any) -> None:
    fitted, sample = _fitted(), scenes[0]
    bands = list(probability_bands(fitted, {"id": "it", **{name: sample.view(name) for name in ("before", "after")}}))
    (result,) = method.predict(fitted, [{"id": "it", "before": sample["before"], "after": sample["after"]}])
    assert result["change"].shape == sample["change"].shape
    np.testing.assert_array_equal(np.rint(np.concatenate(bands) * 255).astype(np.uint8), result["probability"])


# -- scenes, differencing, measures -----------------------------------------------------------------------------------


def test_simulated_scenes_are_the_same_every_time_and_changes_are_buildings() -> None:
    first, again = (list(simulator.samples(6, 64, 3)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in ("before", "after", "change"))
    assert 0.005 < np.mean([sample["change"].mean() for sample in first]) < 0.3
    assert all(sample["simulated"] for sample in first)


def test_otsu_finds_the_valley() -> None:
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(1, 0.2, 5000), random.normal(5, 0.4, 1000)])
    assert 2 < otsu(values) < 4
    assert otsu(np.full(10, 3.0)) == 3.0


def test_differencing_sees_a_square_whatever_the_light() -> None:
    random = np.random.default_rng(0)
    before = random.integers(60, 160, (40, 40, 3)).astype(np.uint8)
    before[10:20, 10:20] = 40
    after = (before * 1.5).astype(np.uint8)
    after[10:20, 10:20] = 255
    truth = np.zeros((40, 40), bool)
    truth[10:20, 10:20] = True
    assert np.array_equal(differenced(before, after) != 0, truth)


def test_figures_are_of_summed_counts() -> None:
    rows = pl.DataFrame({"id": ["a", "b"], "tp": [8, 0], "fp": [2, 1], "fn": [0, 4], "tn": [90, 95]})
    found = measures.figures(rows)
    assert found["precision"].value == pytest.approx(8 / 11)
    assert found["recall"].value == pytest.approx(8 / 12)
    assert found["f1"].value == pytest.approx(16 / 23)
    assert found["iou"].value == pytest.approx(8 / 15)
    assert found["f1"].units == 2
    assert found["f1"].low <= found["f1"].value <= found["f1"].high


def test_counts_and_colours_agree() -> None:
    truth = np.array([[1, 1, 0, 0]])
    found = np.array([[1, 0, 1, 0]])
    assert measures.counts(found, truth) == {"tp": 1, "fp": 1, "fn": 1, "tn": 1}
    colours = agreement(found, truth)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 4


def test_parts_of_the_sentinel_scenes_are_disjoint_and_complete(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    rows = np.broadcast_to(np.arange(100, dtype=np.uint16)[:, None, None], (100, 300, 2)).copy()
    change = np.zeros((100, 300), np.uint8)
    catalog.create(oscd.DATASET, modality="image_pair").append(
        [{"id": "x", "before": rows, "after": rows, "change": change}]
    )
    made = oscd.parts(catalog)
    seen = {part: set() for part in ("train", "validation", "test")}
    pixels = 0
    for sample in made.select():
        seen[sample["part"]] |= set(np.unique(sample["before"]).tolist())
        pixels += sample["change"].size
    assert pixels == 100 * 300
    assert seen == {"train": set(range(64)), "validation": set(range(64, 80)), "test": set(range(80, 100))}
    assert oscd.parts(catalog).version == made.version  # made once
