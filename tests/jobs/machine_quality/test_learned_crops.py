"""Crops for the learned metrics: from a real sweep, cut where the objects are, and refused where the bytes are others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.fields import ScalarField
from sensorium.jobs import codecs, image_metrics
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality.config import SweepConfig
from sensorium.jobs.machine_quality.learned.config import LearnedConfig
from sensorium.jobs.machine_quality.learned.crops import CropRequest, make_crops, make_subsets
from sensorium.jobs.machine_quality.sweep import plan_sweep, run_sweep
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import FitRequest, cross_validate
from sensorium.platform.errors import CorruptData, InvalidSetting
from sensorium.platform.settings import Settings

onnx = pytest.importorskip("onnx")
pa = pytest.importorskip("pyarrow")

BOX = [20, 30, 48, 24]
METRICS = ("psnr", "ssim")


def embedding(path: Path) -> Path:
    """A network that embeds a picture as the mean of each colour."""
    helper, kinds = onnx.helper, onnx.TensorProto
    images = helper.make_tensor_value_info("images", kinds.FLOAT, [1, 3, 16, 16])
    vector = helper.make_tensor_value_info("vector", kinds.FLOAT, [1, 3, 1, 1])
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["images"], ["vector"])], "mean", [images], [vector]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def picture(number: int) -> np.ndarray:
    random = np.random.default_rng(number)
    found: np.ndarray = cv2.resize(
        random.integers(0, 256, (24, 32, 3), np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC
    )
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Catalog, str]:
    """A lake with a sweep of four pictures, and the task that looked at them."""
    folder = tmp_path_factory.mktemp("swept")
    catalog = Catalog(folder / "lake")
    boxes = ScalarField("boxes", pa.list_(pa.list_(pa.int64())))
    catalog.create("pictures", modality="image", fields=[boxes]).append(
        {"id": f"p{number}", "image": picture(number), "boxes": [BOX]} for number in range(4)
    )
    task = f"recognise={embedding(folder / 'mean.onnx')}"
    qualities = {"jpeg": (10, 60), "x264": (40,)}
    config = SweepConfig(data="pictures", into="sweep", qualities=qualities, metrics=("psnr",), tasks=(task,))
    run_sweep(catalog, plan_sweep(catalog, config))
    return catalog, task


def request(task: str, into: str, **settings: Any) -> CropRequest:
    return CropRequest("pictures", "sweep", (task,), into, **{"size": (24, 48), "metrics": METRICS, **settings})


@pytest.fixture(scope="module")
def cut(swept: tuple[Catalog, str]) -> Catalog:
    catalog, task = swept
    make_crops(catalog, request(task, "crops", margin=0.0))
    return catalog


def test_each_object_of_each_cell_is_cut_out(cut: Catalog) -> None:
    objects = cut["sweep_recognise"].select().frame()
    crops = cut["crops"].select().frame()
    assert cut["crops"].verify().is_empty()
    assert crops.height == objects.height == 4 * 3
    joined = crops.join(objects.with_columns(id="recognise-" + pl.col("id")), on="id")
    assert joined["score"].to_list() == joined["delta"].to_list()
    assert joined["recognise_cosine"].to_list() == joined["cosine"].to_list()


def test_crops_are_the_pixels_of_the_codec_and_metrics_are_of_them(cut: Catalog) -> None:
    crops = cut["crops"].select((pl.col("image_id") == "p2") & (pl.col("codec") == "jpeg") & (pl.col("quality") == 10))
    sample = crops[0]
    codec, original = codecs.get("jpeg"), Picture.of(picture(2))
    decoded = codec.decode(codec.encode(original, 10).data, original.size)
    x, y, width, height = BOX
    before, after = (np.ascontiguousarray(one[y : y + height, x : x + width]) for one in (original.rgb, decoded))
    np.testing.assert_array_equal(sample["reference"], before)
    np.testing.assert_array_equal(sample["compressed"], after)
    for name in METRICS:
        assert sample[name] == pytest.approx(image_metrics.get(name).compute(before, after))


def test_a_margin_shows_more_and_sizes_are_kept(swept: tuple[Catalog, str]) -> None:
    catalog, task = swept
    make_crops(catalog, request(task, "wide", margin=0.5, size=(32, 40)))
    sample = catalog["wide"].select(pl.col("image_id") == "p0")[0]
    x, y, width, height = BOX
    around = picture(0)[y - 12 : y + height + 12, max(0, x - 24) : x + width + 24]
    expected = cv2.resize(around, (40, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(sample["reference"], expected)


def test_what_is_there_is_not_made_again(cut: Catalog, swept: tuple[Catalog, str]) -> None:
    catalog, task = swept
    version = catalog["crops"].version
    assert make_crops(catalog, request(task, "crops", margin=0.0)).version == version
    gone = catalog["crops"].delete(pl.col("image_id") == "p1")
    assert gone > version
    make_crops(catalog, request(task, "crops", margin=0.0))
    assert len(catalog["crops"]) == 12


def test_other_bytes_than_in_the_sweep_are_refused(swept: tuple[Catalog, str], tmp_path: Path) -> None:
    catalog, task = swept
    rows = catalog["sweep"].select().frame()
    spoilt = rows.with_columns(bitstream_hash=pl.lit("00" * 16))
    objects = catalog["sweep_recognise"].select().frame()
    declared = list(catalog["sweep"].fields.values())
    catalog.create("spoilt", modality="table", fields=declared).append(spoilt)
    catalog.create("spoilt_recognise", modality="table").append(objects)
    with pytest.raises(CorruptData, match="run the sweep again"):
        make_crops(catalog, CropRequest("pictures", "spoilt", (task,), "none", metrics=METRICS))
    catalog.create("older", modality="table", fields=declared).append(rows.with_columns(codec_version=pl.lit("0.1")))
    catalog.create("older_recognise", modality="table").append(objects)
    with pytest.raises(InvalidSetting, match=r"0\.1"):
        make_crops(catalog, CropRequest("pictures", "older", (task,), "none_either", metrics=METRICS))


def test_tiles_are_refused(swept: tuple[Catalog, str]) -> None:
    catalog, task = swept
    rows = catalog["sweep"].select().frame().with_columns(extent=pl.lit("0,0,64,64"))
    catalog.create("tiles", modality="table", fields=list(catalog["sweep"].fields.values())).append(rows)
    with pytest.raises(InvalidSetting, match="tiles"):
        make_crops(catalog, CropRequest("pictures", "tiles", (task,), "from_tiles", metrics=METRICS))


@pytest.mark.parametrize("wrong", [{"size": (4, 64)}, {"margin": -0.1}, {"tasks": ()}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        CropRequest(**{"data": "a", "rows": "b", "tasks": ("detect",), "into": "c", **wrong})


def test_subsets_hold_one_crop_of_each_image_and_no_image_twice(cut: Catalog) -> None:
    make_subsets(cut, "crops", "subsets", task="recognise", count=2)
    subsets = cut["subsets"].select()
    crops = cut["crops"].select().frame()
    assert len(subsets) == 2 * 3
    assert cut["subsets"].verify().is_empty()
    sample = subsets[0]
    assert sample["reference"].shape == (2, 24, 48, 3)
    alike = crops.filter((pl.col("codec") == sample["codec"]) & (pl.col("quality") == sample["quality"]))
    pairs = [alike["score"][i] + alike["score"][j] for i in range(4) for j in range(i)]
    assert any(sample["score"] == pytest.approx(total / 2) for total in pairs)
    halves = subsets.frame().filter((pl.col("codec") == sample["codec"]) & (pl.col("quality") == sample["quality"]))
    assert halves["score"].mean() == pytest.approx(alike["score"].mean())
    with pytest.raises(InvalidSetting):
        make_subsets(cut, "crops", "too_large", task="recognise", count=9)


def test_a_network_is_fitted_on_crops_and_on_subsets(cut: Catalog) -> None:
    small = {"epochs": 1, "width": 0.125, "folds": 2, "batch_size": 4, "validation": 0.0}
    for data, name in (("crops", "mobilenet_pair"), ("fitted_subsets", "resnet_subset")):
        if data not in cut:
            make_subsets(cut, "crops", data, task="recognise", count=2)
        config = overridden(LearnedConfig(), {**small, "network": name})
        found = cross_validate(cut, FitRequest("machine_quality", data, config), Settings(), parallel=False)
        assert found.rows.height == len(cut[data])
