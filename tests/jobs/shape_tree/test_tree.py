"""The tree of shapes: equal to Higra's, and the laws that it must obey. ``SENSORIUM_DEEP=1`` tries fifty times as many."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any

import higra
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from sensorium.jobs.shape_tree import tree_of_shapes
from sensorium.jobs.shape_tree.levels import InvalidImage, levels_of
from sensorium.platform.errors import InvalidSetting
from tests.jobs.shape_tree.oracles import assert_equal_trees, assert_higra, bordered, spiral

TIMES = 50 if os.environ.get("SENSORIUM_DEEP") else 1
IMAGES = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 9)
)


def small(rng: np.random.Generator) -> NDArray[Any]:
    height, width = rng.integers(1, 9, 2)
    return rng.integers(0, rng.choice([2, 3, 5, 256]), (height, width)).astype(np.uint8)


def test_thousands_of_small_images_equal_higra() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000 * TIMES):
        assert_higra(small(rng))


@settings(max_examples=200 * TIMES, deadline=None)
@given(IMAGES)
def test_any_small_image_equals_higra(image: NDArray[Any]) -> None:
    assert_higra(image)


def test_larger_images_equal_higra() -> None:
    rng = np.random.default_rng(1)
    for shape, most, kind in (((60, 41), 256, np.uint8), ((45, 70), 65536, np.uint16), ((64, 64), 4, np.uint8)):
        for _ in range(2 * TIMES):
            noise = rng.integers(0, most, shape)
            assert_higra(noise.astype(kind))
            smooth = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, 3, 1)) // 4
            assert_higra(smooth.astype(kind))


def test_signed_and_float_images_equal_higra() -> None:
    rng = np.random.default_rng(2)
    for kind, low, high in ((np.int16, -30000, 30000), (np.int8, -128, 128), (np.int64, -9, 9), (np.float32, 0, 999)):
        for _ in range(20 * TIMES):
            assert_higra(rng.integers(low, high, (9, 11)).astype(kind))
    assert_higra(rng.random((9, 9)) < 0.5)


CHECKERED = np.indices((16, 17)).sum(0) % 2
RAMP = np.arange(1 << 16).reshape(1, -1)
EXTREMES = {
    "one pixel": np.array([[7]], np.uint8),
    "nothing but zeros": np.zeros((5, 6), np.uint8),
    "constant": np.full((5, 6), 255, np.uint8),
    "checkerboard": (255 * CHECKERED).astype(np.uint8),
    "checkerboard of the ends of 16 bits": (65535 * CHECKERED).astype(np.uint16),
    "one row": np.random.default_rng(3).integers(0, 256, (1, 500)).astype(np.uint8),
    "one column": np.random.default_rng(4).integers(0, 256, (500, 1)).astype(np.uint8),
    "spiral": spiral(41),
    "nested rings": np.minimum.reduce([*np.indices((81, 81)), *(80 - np.indices((81, 81)))]).astype(np.uint8),
    "nested rings, up and down": (
        65535 * (np.minimum.reduce([*np.indices((41, 41)), *(40 - np.indices((41, 41)))]) % 2)
    ).astype(np.uint16),
}


@pytest.mark.parametrize("image", EXTREMES.values(), ids=EXTREMES)
def test_extreme_images_equal_higra(image: NDArray[Any]) -> None:
    assert_higra(image)


def test_a_ramp_of_all_16_bits_is_a_chain() -> None:
    tree = tree_of_shapes(np.repeat(RAMP, 3, axis=0).astype(np.uint16))
    assert tree.node_count == 1 << 16
    np.testing.assert_array_equal(tree.attribute("depth"), np.arange(1 << 16))
    np.testing.assert_array_equal(tree.altitude, np.arange(1 << 16))
    assert tree.attribute("perimeter")[-1] == 8  # three pixels, one above the other


def test_no_recursion(monkeypatch: pytest.MonkeyPatch) -> None:
    tree_of_shapes(np.zeros((2, 2), np.uint16))  # compiles, which recurses
    image = np.repeat(RAMP, 2, axis=0).astype(np.uint16)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 40)
    try:
        assert tree_of_shapes(image).node_count == 1 << 16
    finally:
        sys.setrecursionlimit(limit)


# -- laws --------------------------------------------------------------------------------------------------------------


@settings(max_examples=150 * TIMES, deadline=None)
@given(IMAGES, st.lists(st.integers(1, 500), min_size=10, max_size=10))
def test_contrast_invariance(image: NDArray[Any], steps: list[int]) -> None:
    """Property 6; the 0 of the border stays."""
    gamma = np.concatenate([[0], np.cumsum(steps)])
    one, other = tree_of_shapes(image), tree_of_shapes(gamma[image].astype(np.uint16))
    np.testing.assert_array_equal(one.parent, other.parent)
    np.testing.assert_array_equal(one.node_of_pixel, other.node_of_pixel)
    np.testing.assert_array_equal(gamma[one.altitude], other.altitude)


@settings(max_examples=150 * TIMES, deadline=None)
@given(IMAGES)
def test_self_duality(image: NDArray[Any]) -> None:
    """Where light and dark change places, the tree is the same: around 0, which the border keeps."""
    one, other = tree_of_shapes(image.astype(np.int32)), tree_of_shapes(-image.astype(np.int32))
    np.testing.assert_array_equal(one.parent, other.parent)
    np.testing.assert_array_equal(one.node_of_pixel, other.node_of_pixel)
    np.testing.assert_array_equal(one.altitude, -other.altitude)


@settings(max_examples=60 * TIMES, deadline=None)
@given(IMAGES)
def test_a_turned_image_has_the_turned_tree(image: NDArray[Any]) -> None:
    one, other = tree_of_shapes(image), tree_of_shapes(image[::-1].T.copy())
    for name in ("proper_part", "area", "altitude", "perimeter", "depth", "volume"):
        np.testing.assert_array_equal(np.sort(one.attribute(name)), np.sort(other.attribute(name)))


@settings(max_examples=60 * TIMES, deadline=None)
@given(IMAGES)
def test_nodes_are_numbered_breadth_first_by_first_pixels(image: NDArray[Any]) -> None:
    tree = tree_of_shapes(image)
    _, first = np.unique(tree.node_of_pixel, return_index=True)
    key = list(zip(tree.attribute("depth").tolist(), tree.parent.tolist(), first.tolist(), strict=True))
    assert key == sorted(key)
    assert (tree.altitude[1:] != tree.altitude[tree.parent[1:]]).all()
    assert tree.altitude[0] == tree.node_of_pixel[0, 0] == 0


def test_the_layout_of_memory_does_not_matter() -> None:
    image = np.random.default_rng(5).integers(0, 9, (12, 26)).astype(np.uint8)
    for view in (np.asfortranarray(image), image[:, ::-1][:, ::-1], np.repeat(image, 2, 1)[:, ::2]):
        assert_equal_trees(tree_of_shapes(image), tree_of_shapes(view))
    frozen = image.copy()
    frozen.flags.writeable = False
    assert_equal_trees(tree_of_shapes(image), tree_of_shapes(frozen))
    swapped = image.astype(">u2")
    assert_equal_trees(tree_of_shapes(image), tree_of_shapes(swapped))


# -- attributes --------------------------------------------------------------------------------------------------------


def shape_of(tree: Any, node: int) -> NDArray[np.bool_]:
    """Pixels of a shape, by walking up from every node."""
    inside = np.zeros(tree.node_count, bool)
    for one in range(tree.node_count):
        above = one
        while above > node:
            above = tree.parent[above]
        inside[one] = above == node
    return inside[tree.node_of_pixel]


def test_attributes_are_those_of_the_shapes() -> None:
    rng = np.random.default_rng(6)
    for _ in range(25 * TIMES):
        image = small(rng)
        tree, grey = tree_of_shapes(image), bordered(image)
        for node in range(tree.node_count):
            inside = shape_of(tree, node)
            y, x = np.nonzero(inside)
            framed = np.pad(inside, 1)
            spread = np.cov(np.stack([y, x]), bias=True) + np.eye(2) / 12
            short, long = np.sqrt(np.linalg.eigvalsh(spread))
            found = {
                name: tree.attribute(name)[node] for name in ("area", "perimeter", "mean", "variance", "elongation")
            }
            assert found["area"] == inside.sum()
            assert found["perimeter"] == sum(np.abs(np.diff(framed.astype(int), axis=axis)).sum() for axis in (0, 1))
            assert found["mean"] == pytest.approx(grey[inside].mean())
            assert found["variance"] == pytest.approx(grey[inside].var(), abs=1e-9)
            assert found["elongation"] == pytest.approx(long / short)
            assert tree.attribute("proper_part")[node] == (tree.node_of_pixel == node).sum()
            assert tree.attribute("children")[node] == (tree.parent[1:] == node).sum()


def test_attributes_equal_higra() -> None:
    image = np.random.default_rng(7).integers(0, 40, (40, 33)).astype(np.uint8)
    tree = tree_of_shapes(image)
    other, altitudes = higra.component_tree_tree_of_shapes_image2d(bordered(image).astype(np.float64), "none")
    nodes = other.parents()[: other.num_leaves()]
    for name, theirs in (
        ("area", higra.attribute_area(other)),
        ("depth", higra.attribute_depth(other)),
        ("perimeter", higra.attribute_contour_length(other)),
        ("volume", higra.attribute_volume(other, altitudes)),
    ):
        np.testing.assert_array_equal(tree.attribute(name)[tree.node_of_pixel.ravel()], theirs[nodes], err_msg=name)


def test_the_variance_of_large_values_does_not_cancel() -> None:
    image = np.full((300, 300), 65534, np.uint16)
    image[::2] = 65535
    tree = tree_of_shapes(image)
    inner = tree.attribute("variance")[1]
    assert inner == pytest.approx(image.var(), rel=1e-12)


def test_an_unknown_attribute_is_named() -> None:
    tree = tree_of_shapes(np.zeros((2, 2), np.uint8))
    with pytest.raises(InvalidSetting, match=r"no attribute 'aera'; .* area"):
        tree.attribute("aera")
    with pytest.raises(ValueError, match="read-only"):
        tree.attribute("area")[0] = 1


# -- what is no image --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (np.zeros((2, 2, 3), np.uint8), r"two dimensions .* \(2, 2, 3\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
        (np.array([[0.0, np.nan]]), "not finite"),
        (np.array([[0.0, np.inf]]), "not finite"),
        (np.array([[0.5, 1.0]]), "not whole numbers"),
        (np.array([[0, 65536]]), r"0 to 65536.* more than 65,536"),
        (np.array([[-1, 65535]]), "-1 to 65535"),
        (np.array([[70000, 70001]]), "the border's 0"),
        (np.array([[1, 2**63]], np.uint64), "more than 65,536"),
        (np.array([[1e300, 0]]), "more than 65,536"),
        (np.array([["a"]]), "dtype <U1"),
        (np.array([[1j]]), "dtype complex128"),
        (np.array([[None]]), "dtype object"),
    ],
)
def test_what_is_no_image_is_said_in_words(image: NDArray[Any], why: str) -> None:
    with pytest.raises(InvalidImage, match=why):
        tree_of_shapes(image)


def test_an_image_that_is_too_large_is_refused_before_it_is_copied() -> None:
    huge = np.broadcast_to(np.uint8(0), (1 << 14, (1 << 14) + 1))
    with pytest.raises(InvalidImage, match="268,435,456 pixels"):
        levels_of(huge)
