"""Trees as files, and pictures of them."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sensorium.jobs.shape_tree import tree_of_shapes
from sensorium.jobs.shape_tree.drawing import draw_level_lines, draw_shapes, level_lines
from sensorium.jobs.shape_tree.export import from_npz, to_graphml, to_npz
from sensorium.jobs.shape_tree.grey import grey_of
from sensorium.jobs.shape_tree.levels import InvalidImage
from sensorium.platform.errors import CorruptData, InvalidSetting
from tests.jobs.shape_tree.oracles import assert_equal_trees

IMAGE = np.random.default_rng(0).integers(0, 30, (12, 15)).astype(np.int16) - 9


def axes() -> Axes:
    return Figure().add_subplot()


def test_an_npz_file_holds_the_tree(tmp_path: Path) -> None:
    tree = tree_of_shapes(IMAGE)
    path = tmp_path / "tree.npz"
    path.write_bytes(to_npz(tree))
    for read in (from_npz(path), from_npz(path.read_bytes())):
        assert_equal_trees(read, tree)
        assert read.dtype == IMAGE.dtype
        np.testing.assert_array_equal(read.reconstruct(), IMAGE)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"parent": np.array([0, 5], np.int32)},
        {"parent": np.array([0.0, 0.0])},
        {"altitude": np.zeros(3, np.int32)},
        {"node_of_pixel": np.full((4, 4), 7, np.int32)},
        {"dtype": np.array("object")},
        {"dtype": np.array("no dtype")},
    ],
)
def test_a_file_of_something_else_is_refused(spoilt: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "parent": np.zeros(2, np.int32),
        "altitude": np.array([0, 1], np.int32),
        "node_of_pixel": np.eye(4, dtype=np.int32),
        "dtype": np.array("|u1"),
    }
    content = io.BytesIO()
    np.savez(content, **whole)
    assert from_npz(content.getvalue()).node_count == 2
    content = io.BytesIO()
    np.savez(content, **{**whole, **spoilt})
    with pytest.raises(CorruptData, match="the NPZ file"):
        from_npz(content.getvalue())


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 torn"])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptData, match="holds no tree of shapes"):
        from_npz(content)


def test_graphml_has_every_node_edge_and_attribute() -> None:
    tree = tree_of_shapes(IMAGE)
    graph = ElementTree.fromstring(to_graphml(tree, ("altitude", "elongation")))
    space = "{http://graphml.graphdrawing.org/xmlns}"
    nodes, edges = list(graph.iter(f"{space}node")), list(graph.iter(f"{space}edge"))
    assert len(nodes) == tree.node_count
    assert {(edge.get("source"), edge.get("target")) for edge in edges} == {
        (f"n{node}", f"n{above}") for node, above in enumerate(tree.parent.tolist()) if node
    }
    assert [int(node[0].text or "") for node in nodes] == tree.altitude.tolist()
    with pytest.raises(InvalidSetting, match="no attribute 'colour'"):
        to_graphml(tree, ("colour",))


def test_level_lines_part_pixels_of_different_nodes() -> None:
    tree = tree_of_shapes(np.array([[1, 1], [1, 2]], np.uint8))
    across, below = level_lines(tree)
    assert {tuple(one) for one in across.tolist()} == {(0, -1), (1, -1), (0, 1), (1, 1), (1, 0)}
    assert {tuple(one) for one in below.tolist()} == {(-1, 0), (-1, 1), (1, 0), (1, 1), (0, 1)}
    large = level_lines(tree, least_area=2)
    assert {tuple(one) for one in large[0].tolist()} == {(0, -1), (1, -1), (0, 1), (1, 1)}


def test_pictures_are_drawn() -> None:
    tree = tree_of_shapes(IMAGE)
    shown = axes()
    draw_level_lines(shown, IMAGE, tree, least_area=3)
    (lines,) = shown.collections
    assert len(lines.get_paths()) == sum(len(one) for one in level_lines(tree, least_area=3))
    draw_shapes(axes(), tree)
    with pytest.raises(InvalidSetting, match="cannot be read when drawn"):
        draw_shapes(axes(), tree_of_shapes(np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8)))


def test_grey_of_catalog_images() -> None:
    colour = np.array([[[10, 20, 30], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(grey_of(colour), [[18, 255]])
    np.testing.assert_array_equal(grey_of(np.dstack([colour, colour[..., :1]])), [[18, 255]])
    assert grey_of(colour.astype(np.uint16)).dtype == np.uint16
    np.testing.assert_array_equal(grey_of(np.array([[[0.0], [1.0], [0.5]]])), [[0, 255, 128]])
    assert grey_of(np.array([[[1.0]]]), 65536).tolist() == [[65535]]
    for spoilt in (
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((2, 2), np.uint8),
        np.full((2, 2, 1), -0.1),
        np.full((2, 2, 1), np.nan),
    ):
        with pytest.raises(InvalidImage):
            grey_of(spoilt)
