"""The operators: as the paper's steps say, and with P1 and P2. ``SENSORIUM_DEEP=1`` tries fifty times as many."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from sensorium.jobs.shape_tree import Filtered, area_opening, mean_filter, quantise, tree_of_shapes
from sensorium.jobs.shape_tree.filters import changing, grey_values
from sensorium.jobs.shape_tree.levels import InvalidImage
from sensorium.jobs.shape_tree.shifting import FAR, parent_of, shift
from sensorium.platform.errors import InvalidSetting
from tests.jobs.shape_tree.oracles import assert_equal_trees, assert_p1, assert_p2
from tests.jobs.shape_tree.stepwise import Stepwise

TIMES = 50 if os.environ.get("SENSORIUM_DEEP") else 1


def small(rng: np.random.Generator, largest: int = 8) -> NDArray[np.uint8]:
    height, width = rng.integers(1, largest + 1, 2)
    return rng.integers(0, rng.choice([3, 8, 256]), (height, width)).astype(np.uint8)


def checked(image: NDArray[Any], result: Filtered) -> Filtered:
    """P1, P2, and what a result says of itself."""
    assert result.image.dtype == image.dtype
    assert result.image.shape == image.shape
    np.testing.assert_array_equal(result.tree.reconstruct(), result.image)
    assert_p1(result.tree)
    assert_p2(image, result.image)
    counts = [result.nodes_before, *result.node_counts]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == result.tree.node_count
    return result


# -- one shift ---------------------------------------------------------------------------------------------------------


def test_shifts_end_where_the_papers_steps_end() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1500 * TIMES):
        tree = tree_of_shapes(small(rng, 6))
        steps, state = Stepwise(tree), changing(tree)
        live = state.live
        taken = np.empty(tree.node_count, np.int32)
        for _ in range(6):
            if len(steps.nodes) < 2:
                break
            one = int(rng.choice([node for node in steps.nodes if node]))
            target = int(rng.integers(-3, 260)) if rng.random() < 0.3 else int(rng.integers(0, 9))
            steps.shift(one, target)
            top = shift(live, one, target, taken)
            assert top in steps.nodes
            consistent(steps, live)
        state.settle()
        np.testing.assert_array_equal(state.now().altitude[state.now().node_of_pixel], steps.image())


def consistent(steps: Stepwise, live: NDArray[Any]) -> None:
    """What a live tree holds is what the paper's tree is."""
    assert {node for node in range(live.size) if live[node]["up"] == node} == set(steps.nodes)
    for number, node in steps.nodes.items():
        its = live[number]
        altitudes = [steps.nodes[child].altitude for child in node.children]
        assert its["altitude"] == node.altitude
        assert its["pixels"] == len(node.pixels)
        assert its["lead"] == min(node.pixels)
        assert its["children"] == len(altitudes)
        assert its["total"] == sum(altitudes)
        assert its["roof"] <= min([one for one in altitudes if one > node.altitude], default=FAR)
        assert its["floor"] >= max([one for one in altitudes if one < node.altitude], default=-FAR)
        if number:
            assert parent_of(live, number) == node.parent


# -- P1 and P2 ---------------------------------------------------------------------------------------------------------

OPERATORS = {
    "mean filter": lambda image: mean_filter(image, 2),
    "area opening": lambda image: area_opening(image, 4),
    "area opening, one size after another": lambda image: area_opening(image, 4, "consecutive"),
    "quantisation": lambda image: quantise(image, 7),
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_thousands_of_small_images_keep_p1_and_p2(operator: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(700 * TIMES):
        image = small(rng)
        checked(image, operator(image))


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@settings(max_examples=60 * TIMES, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_any_small_image_keeps_p1_and_p2(operator: Any, image: NDArray[Any]) -> None:
    checked(image, operator(image))


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_larger_images_keep_p1_and_p2(operator: Any) -> None:
    rng = np.random.default_rng(2)
    smooth = np.add.outer(np.arange(200), np.arange(150)) / 2
    noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    for image in (noisy, noisy.astype(np.uint16) * 257, rng.integers(0, 256, (90, 120)).astype(np.uint8)):
        assert checked(image, operator(image)).tree.node_count < tree_of_shapes(image).node_count


# -- the mean filter ---------------------------------------------------------------------------------------------------


def test_the_mean_filter_takes_the_papers_steps() -> None:
    rng = np.random.default_rng(3)
    for _ in range(400 * TIMES):
        image = small(rng)
        tree = tree_of_shapes(image)
        steps = Stepwise(tree)
        steps.modify(range(tree.node_count), lambda _: True, steps.mean)
        np.testing.assert_array_equal(mean_filter(image).image, steps.image()[1:-1, 1:-1])


def test_passes_of_the_mean_filter_are_filters_one_after_another() -> None:
    image = np.random.default_rng(4).integers(0, 256, (40, 50)).astype(np.uint8)
    once = mean_filter(image, 1)
    thrice = mean_filter(image, 3)
    assert_equal_trees(thrice.tree, mean_filter(once.image, 2).tree)
    assert thrice.node_counts[0] == once.tree.node_count
    assert len(thrice.node_counts) == 3
    none = mean_filter(image, 0)
    assert none.node_counts == ()
    np.testing.assert_array_equal(none.image, image)


def test_a_mean_is_of_the_neighbours_alone_and_is_rounded_half_to_even() -> None:
    image = np.full((5, 5), 3, np.uint8)
    image[1:4, 1:4] = 90
    image[2, 2] = 200
    result = mean_filter(image, 1).image
    assert result[0, 0] == 45  # of 0 and 90
    assert result[1, 1] == 122  # of 45 and 200: 122.5
    assert result[2, 2] == 122  # of its parent alone


# -- the area opening --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["paper", "consecutive"])
def test_the_area_opening_takes_the_papers_steps(variant: Literal["paper", "consecutive"]) -> None:
    rng = np.random.default_rng(5)
    for _ in range(300 * TIMES):
        image = small(rng)
        area = int(rng.integers(1, 9))
        tree = tree_of_shapes(image)
        for size in [area] if variant == "paper" else range(2, area + 1):
            steps = Stepwise(tree)

            def pixels(node: int, steps: Stepwise = steps) -> int:
                return len(steps.nodes[node].pixels)

            def small_still(node: int, size: int = size, pixels: Any = pixels) -> bool:
                return bool(pixels(node) < size)

            def above(node: int, steps: Stepwise = steps) -> int:
                return steps.nodes[steps.nodes[node].parent].altitude

            steps.modify(sorted(steps.nodes, key=pixels), small_still, above)
            tree = tree_of_shapes(steps.image()[1:-1, 1:-1].astype(np.uint8))
        result = area_opening(image, area, variant)
        np.testing.assert_array_equal(result.image, tree.reconstruct())
        assert (result.tree.attribute("proper_part")[1:] >= area).all()


def test_the_two_variants_differ() -> None:
    rng = np.random.default_rng(6)
    images = [rng.integers(0, 8, (12, 12)).astype(np.uint8) for _ in range(20)]
    assert any((area_opening(one, 9).image != area_opening(one, 9, "consecutive").image).any() for one in images)


def test_an_area_of_one_changes_nothing_and_a_huge_one_leaves_the_root() -> None:
    image = np.random.default_rng(7).integers(1, 9, (12, 12)).astype(np.uint8)
    np.testing.assert_array_equal(area_opening(image, 1).image, image)
    assert area_opening(image, 1 << 20).tree.node_count == 1
    assert not area_opening(image, 1 << 20).image.any()


# -- quantisation ------------------------------------------------------------------------------------------------------


def test_a_quantisation_is_that_of_the_pixels() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200 * TIMES):
        image, levels = small(rng), int(rng.integers(2, 257))
        values = np.rint(np.linspace(0, 255, levels)).astype(int)
        nearest = values[np.abs(values - image[..., np.newaxis].astype(int)).argmin(axis=-1)]
        np.testing.assert_array_equal(quantise(image, levels).image, nearest)


@pytest.mark.parametrize("levels", [2, 16, 32, 256])
def test_there_are_exactly_so_many_levels(levels: int) -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = np.unique(quantise(every, levels).image)
    assert values.size == levels
    assert (values[0], values[-1]) == (0, 255)
    assert set(np.diff(values.astype(int))) <= {255 // (levels - 1), 255 // (levels - 1) + 1}
    np.testing.assert_array_equal(values, grey_values(0, 255, levels))


def test_levels_span_what_the_dtype_holds() -> None:
    assert set(np.unique(quantise(np.arange(400, dtype=np.int16).reshape(20, 20) - 200, 3).image)) == {0}
    wide = np.array([[-100, 0, 40, 300]], np.int32)
    np.testing.assert_array_equal(quantise(wide, 5).image, [[-100, 0, 0, 300]])
    assert set(np.unique(quantise(np.array([[True, False]]), 2).image)) == {False, True}


# -- what cannot be done -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda image: mean_filter(image, -1), "iterations must be 0 or more; got -1"),
        (lambda image: area_opening(image, 0), "area must be 1 pixel or more; got 0"),
        (lambda image: area_opening(image, 5, "other"), "variant must be paper or consecutive; got 'other'"),  # type: ignore[arg-type]
        (lambda image: quantise(image, 1), "levels must be from 2 to 256"),
        (lambda image: quantise(image, 257), "got 257"),
    ],
)
def test_settings_out_of_range_are_named(call: Any, why: str) -> None:
    with pytest.raises(InvalidSetting, match=why):
        call(np.zeros((3, 3), np.uint8))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InvalidImage):
        mean_filter(np.array([[np.nan]]))


def test_extreme_images() -> None:
    for image in (
        np.zeros((1, 1), np.uint8),
        np.full((3, 3), 9, np.uint8),
        np.arange(65536, dtype=np.uint16).reshape(1, -1),
    ):
        for operator in OPERATORS.values():
            checked(image, operator(image))


def test_values_beyond_eight_bits_below_zero_and_floats() -> None:
    rng = np.random.default_rng(9)
    for kind in (np.int16, np.int32, np.float32, np.float64):
        image = rng.integers(-300, 300, (15, 15)).astype(kind)
        for operator in OPERATORS.values():
            checked(image, operator(image))
