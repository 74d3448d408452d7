"""The system on samples: what comes out, what is refused, what is drawn and exported, the claim's experiment."""

from __future__ import annotations

import io

import networkx
import numpy as np
import pytest
import skimage.data
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.jobs.component_tree import Order, component_tree, order_from_histogram, to_graphml, to_npz, total_order
from sensorium.jobs.component_tree.config import ComponentTreeConfig
from sensorium.jobs.component_tree.drawing import branches, illustrate
from sensorium.jobs.component_tree.grid import ADJACENCIES
from sensorium.jobs.component_tree.operator import operator
from sensorium.jobs.component_tree.reproduction import reproduce
from sensorium.jobs.component_tree.tree import ATTRIBUTES
from sensorium.jobs.training.reproduction import Reproduction
from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.settings import Settings
from tests.jobs.component_tree.definitions import random_parents

_CONFIGURATIONS = {
    "colours by histogram": ComponentTreeConfig(at_least=6),
    "colours by co-occurrence": ComponentTreeConfig(order="cooccurrence", bits=4, adjacency=8, at_least=6),
    "grey levels": ComponentTreeConfig(order="total", at_least=6, rule="max"),
    "labels": ComponentTreeConfig(values="labels", order="cooccurrence", at_least=6, rule="min"),
    "mask": ComponentTreeConfig(values="mask", order="total", at_least=6),
    "volume": ComponentTreeConfig(values="volume", order="cooccurrence", adjacency=26, at_least=6),
}


def _results(config: ComponentTreeConfig):
    samples, _ = operator.example(config, 0)
    return samples, operator.predict(config, samples)


@pytest.mark.parametrize("name", _CONFIGURATIONS)
def test_results_are_the_tree_and_the_filtered_values(name):
    config = _CONFIGURATIONS[name]
    for sample, result in zip(*_results(config), strict=True):
        given = np.asarray(sample[config.values])
        assert set(result) == {field.name for field in operator.results(config)}
        assert result["filtered"].shape == given.shape
        assert 1 <= result["kept"] < result["nodes"]
        assert result["parent"].size == result["omega"].size == result["kept"]
        area = np.bincount(result["node_of_point"].ravel(), minlength=result["kept"])
        assert area.sum() == result["node_of_point"].size
        differs = result["filtered"] != given
        points = differs.any(axis=2) if config.values == "image" else differs
        assert points.mean() <= result["changed"] < 0.3
        assert result["changed"] > 0


@pytest.mark.parametrize("name", _CONFIGURATIONS)
def test_keeping_all_nodes_gives_the_values_back(name):
    config = _CONFIGURATIONS[name]
    everything = ComponentTreeConfig(**{**vars(config), "at_least": 0.0})
    for sample, result in zip(*_results(everything), strict=True):
        np.testing.assert_array_equal(result["filtered"], sample[config.values])
        assert result["changed"] == 0
        assert result["kept"] == result["nodes"]


def test_specks_of_colour_take_the_colour_around_them():
    image = np.full((20, 20, 3), 200, np.uint8)
    image[5, 5] = (255, 0, 0)
    image[12:18, 12:18] = (10, 20, 30)
    result = operator.predict(ComponentTreeConfig(at_least=4), [{"id": "a", "image": image}])[0]
    expected = image.copy()
    expected[5, 5] = np.rint(image.reshape(-1, 3).mean(axis=0))  # the minimum: the colours that are not there
    np.testing.assert_array_equal(result["filtered"], expected)


@pytest.mark.parametrize(
    ("config", "sample", "message"),
    [
        (ComponentTreeConfig(), {}, "no 'image'"),
        (ComponentTreeConfig(), {"image": np.zeros((2, 2, 1), np.uint8)}, "one channel"),
        (ComponentTreeConfig(), {"image": np.zeros((2, 2, 3), np.uint16)}, "must be uint8"),
        (ComponentTreeConfig(order="total"), {"image": np.zeros((2, 2, 3), np.uint8)}, "no total order"),
        (ComponentTreeConfig(order="total"), {"image": np.zeros((2, 2, 1), np.float32)}, "must be integers"),
        (
            ComponentTreeConfig(order="cooccurrence", bits=8),
            {"image": np.random.default_rng(0).integers(0, 256, (70, 70, 3), dtype=np.uint8)},
            "'image': a binary partition tree",
        ),
        (
            ComponentTreeConfig(values="labels", order="cooccurrence"),
            {"labels": np.arange(70 * 70).reshape(70, 70)},
            "'labels': a binary partition tree",
        ),
    ],
)
def test_samples_that_cannot_be_used(config, sample, message):
    sample = {"id": "odd", **sample}
    with pytest.raises(InvalidSample, match=message) as caught:
        operator.predict(config, [sample])
    assert "'odd'" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"values": "pixels"},
        {"order": "size"},
        {"bits": 0},
        {"adjacency": 5},
        {"adjacency": 6},
        {"attribute": "mass"},
        {"at_least": -1.0},
        {"at_least": float("nan")},
        {"rule": "most"},
        {"values": "labels"},
        {"values": "volume", "order": "total", "adjacency": 8},
    ],
)
def test_configurations_that_cannot_be(changes):
    with pytest.raises(InvalidSetting):
        ComponentTreeConfig(**changes)


def test_the_configuration_knows_what_the_tree_knows():
    for attribute in ATTRIBUTES:
        assert ComponentTreeConfig(attribute=attribute).attribute == attribute
    for adjacency, (rank, _) in ADJACENCIES.items():
        values = "volume" if rank == 3 else "image"
        assert ComponentTreeConfig(values=values, order="total", adjacency=adjacency).adjacency == adjacency


@pytest.mark.parametrize("name", _CONFIGURATIONS)
def test_every_picture_is_drawn(name):
    config = _CONFIGURATIONS[name]
    samples, results = _results(config)
    pictures = illustrate(config, samples[0], results[0])
    assert list(pictures) == ["values", "filtered", "tree"]
    for draw in pictures.values():
        axes = Figure().add_subplot()
        draw(axes)
        assert axes.has_data()


def test_branches_are_those_that_are_left_when_small_ones_go():
    rng = np.random.default_rng(0)
    for _ in range(50):
        tree = component_tree(rng.integers(0, 9, (20, 20)), Order(random_parents(9, rng)))
        for leaves in (1, 4, 10_000):
            few = branches(tree, leaves)
            children = few.attribute("children")
            assert (children == 0).sum() <= leaves
            assert (children[1:] != 1).all()
            assert set(few.attribute("area")) <= set(tree.attribute("area"))
        assert (few.attribute("children") == 0).sum() == (tree.attribute("children") == 0).sum()


def test_exports_hold_the_whole_tree():
    image = skimage.data.astronaut()[:60:2, :80:2]
    order = order_from_histogram(image, 4)
    tree = component_tree(order.values, order)
    with np.load(io.BytesIO(to_npz(tree)), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["value"][file["node_of_point"]], order.values)
        again = component_tree(file["value"][file["node_of_point"]], Order(file["order"]))
        np.testing.assert_array_equal(again.parent, file["parent"])
        np.testing.assert_array_equal(again.attribute("remanence"), file["remanence"])
    graph = networkx.read_graphml(io.BytesIO(to_graphml(tree)))
    assert graph.number_of_nodes() == tree.node_count == graph.number_of_edges() + 1
    assert graph.nodes["n0"]["area"] == order.values.size
    assert set(graph.nodes["n0"]) == set(ATTRIBUTES)


def test_reproduction_on_data_of_ones_own(tmp_path):
    catalog = Catalog(tmp_path / "lake")
    pictures = {"cat": skimage.data.chelsea()[:120:2, :160:2], "cup": skimage.data.coffee()[:120:2, :160:2]}
    made = catalog.create("pictures", modality="image")
    made.append([{"id": name, "image": picture} for name, picture in pictures.items()])
    found = reproduce(
        Reproduction(catalog, Settings.load(), quick=True, data="pictures", changes=("at_least=20", "bits=4"))
    )
    assert found.shown.startswith("yes")
    kinds, colours, filtered = (section.table for section in found.sections)
    assert kinds["lossless"].all()
    assert kinds["nodes"][1] == kinds["nodes"][3]  # a plane, and the graph of its flat zones
    assert colours.height == 6
    assert filtered["nodes"].is_sorted(descending=True)
    assert filtered["points with another value"][0] == 0
    assert all(content.startswith(b"\x89PNG") for content in found.figures.values())
    assert [str(source) for source in found.inputs] == ["pictures@1"]


def test_reproduction_says_what_is_wrong_with_empty_data(tmp_path):
    catalog = Catalog(tmp_path / "lake")
    catalog.create("pictures", modality="image")
    with pytest.raises(InvalidSetting, match="no samples"):
        reproduce(Reproduction(catalog, Settings.load(), data="pictures"))


def test_total_orders_of_many_levels_keep_labels_as_they_are():
    labels = np.array([[70_000, -3], [5, 5]])
    config = ComponentTreeConfig(values="labels", order="total", at_least=2)
    result = operator.predict(config, [{"id": "a", "labels": labels}])[0]
    np.testing.assert_array_equal(result["filtered"], [[5, -3], [5, 5]])
    assert total_order(3).size == result["order"].size
