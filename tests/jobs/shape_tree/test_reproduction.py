"""The claim's experiment at a tiny size, and the simulated microtomography."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.jobs.shape_tree import reproduction, tree_of_shapes
from sensorium.jobs.shape_tree.simulation import microtomography
from sensorium.jobs.training.reproduction import Reproduction, reproduce
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.settings import Settings


def test_the_experiment_reports_what_it_measured(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduction, "_QUICK_SIDE", 60)
    monkeypatch.setattr(reproduction, "_SIDES", (40, 60))
    image = microtomography(70, 3)
    samples = [
        {"id": "one", "image": image[..., np.newaxis]},
        {"id": "two", "image": np.stack([image[::-1], image, image], axis=-1)},
        {"id": "small", "image": np.zeros((4, 4, 1), np.uint8)},
    ]
    catalog.create("own", modality="image").append(samples)
    done = reproduce("shape_tree", Reproduction(catalog, Settings(), quick=True, data="own"))
    table, costs = (section.table for section in done.finding.sections)
    assert table["P1, P2"].unique().sort().to_list() == ["1 of 1", "2 of 2"]
    assert set(table["operator"]) >= {"area_opening", "mean_filter", "quantise"}
    assert costs["nodes"][1] > costs["nodes"][0]
    assert "P1 and P2 hold on every result" in done.finding.shown
    assert [str(one) for one in done.finding.inputs] == ["own@1"]
    for content in done.finding.figures.values():
        assert Image.open(io.BytesIO(content)).size[0] > 800
    assert "simulated" in done.markdown


def test_without_usable_images_it_says_so(catalog: Catalog) -> None:
    catalog.create("floats", modality="image").append([{"id": "a", "image": np.full((12, 12, 1), 7.5, np.float32)}])
    with pytest.raises(InvalidSetting, match="'floats' has no images of 8 bits"):
        reproduce("shape_tree", Reproduction(catalog, Settings(), quick=True, data="floats"))
    with pytest.raises(InvalidSetting, match="leave --set and --folds out"):
        reproduce("shape_tree", Reproduction(catalog, Settings(), changes=("area=3",)))


def test_a_simulated_slice_is_determined_and_as_rich_as_the_papers() -> None:
    slice_ = microtomography(400, 1)
    np.testing.assert_array_equal(slice_, microtomography(400, 1))
    assert (slice_ != microtomography(400, 2)).any()
    assert tree_of_shapes(slice_).node_count / slice_.size == pytest.approx(1_205_028 / 2050**2, rel=0.1)
