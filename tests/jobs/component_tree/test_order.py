"""Hierarchical orders: what is one, infima, and the two ways of the paper to make one."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from sensorium.jobs.component_tree import (
    HistogramOrder,
    Order,
    component_tree,
    order_from_cooccurrence,
    order_from_histogram,
    palette,
    total_order,
)
from sensorium.jobs.component_tree.cooccurrence import cooccurrence
from sensorium.jobs.component_tree.order import InvalidOrder
from sensorium.jobs.component_tree.tree import InvalidValues
from tests.jobs.component_tree.definitions import lower_values, neighbours, nodes_of, random_parents


def test_infima_and_comparisons_are_those_of_the_hierarchy():
    rng = np.random.default_rng(0)
    for _ in range(300):
        parent = random_parents(int(rng.integers(1, 14)), rng)
        order = Order(parent)
        lower = [lower_values(parent.tolist(), value) for value in range(order.size)]
        u, v = np.indices((order.size, order.size))
        expected = [[next(w for w in lower[a] if w in lower[b]) for b in range(order.size)] for a in range(order.size)]
        np.testing.assert_array_equal(order.infimum(u, v), expected)
        np.testing.assert_array_equal(order.lower_or_equal(u, v), [[a in lower[b] for b in range(order.size)]
                                                                   for a in range(order.size)])  # fmt: skip
        np.testing.assert_array_equal(order.depth, [len(one) - 1 for one in lower])
        assert order.minimum == lower[0][-1]


def test_a_chain_of_65536_values():
    chain = total_order(65_536)
    assert chain.depth[-1] == 65_535
    assert chain.infimum(65_535, 17) == 17
    backwards = Order(np.minimum(np.arange(1, 65_537), 65_535))
    assert backwards.minimum == 65_535
    assert backwards.infimum(0, 65_000) == 65_000


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ([1, 2, 0], "got 0 .none"),
        ([0, 1, 1], "got 2 .0, 1"),
        ([0, 2, 1], "leads back"),
        ([0, 0, 4, 2, 3, 4], r"from value [234] the way down"),
        ([0, 5], r"parent\[1\] is 5"),
        ([0, -1], r"parent\[1\] is -1"),
        ([], "integers"),
        (np.zeros(0, int), "parent has 0"),
        ([0.0, 0.0], "integers"),
        ([[0, 0]], "integers"),
        (np.zeros((1 << 20) + 1, int), "1048577"),
    ],
)
def test_what_is_no_hierarchy(parent, message):
    with pytest.raises(InvalidOrder, match=message):
        Order(parent)


def test_a_long_cycle_is_found_without_recursion():
    parent = np.arange(-1, 65_535)
    parent[0], parent[1] = 0, 65_535
    with pytest.raises(InvalidOrder, match="leads back"):
        Order(parent)


def test_an_order_cannot_be_changed():
    parent = np.array([0, 0])
    order = Order(parent)
    parent[1] = 1
    assert order.parent[1] == 0
    with pytest.raises(ValueError, match="read-only"):
        order.parent[1] = 1


def test_values_that_an_order_does_not_have():
    with pytest.raises(InvalidOrder, match="value 3 is not in the order"):
        total_order(3).infimum(0, [1, 3])


# (a): the histogram


def _histogram_definition(image: np.ndarray, bits: int) -> dict[frozenset[int], tuple[frozenset[int], int]]:
    """Nodes of the component tree of the whole cube: points, proper part, parent's points' number of elements."""
    cube = np.zeros((1 << bits,) * 3, int)
    np.add.at(cube, tuple((image.reshape(-1, 3) >> (8 - bits)).T), 1)
    found = nodes_of(
        cube.ravel().tolist(), [max(0, level - 1) for level in range(cube.max() + 1)], neighbours(cube.shape, 6)
    )
    return {points: (node.proper, node.parent) for points, node in found.items()}


@pytest.mark.parametrize("pixels", [1, 3, 6, 40])
def test_the_histograms_order_is_the_component_tree_of_the_cube(pixels):
    """Against the definition on cubes of 2 and of 8 colours a side; the many pixels fill the small cube."""
    rng = np.random.default_rng(pixels)
    for bits, rounds in ((1, 40), (2, 6)):
        for _ in range(rounds):
            image = rng.integers(0, 256, (pixels, 2, 3)).astype(np.uint8)
            order = order_from_histogram(image, bits)
            expected = _histogram_definition(image, bits)
            codes = (order.colours.astype(int) >> (8 - bits)) @ [1 << 2 * bits, 1 << bits, 1]
            classes = {frozenset(codes[order.class_of_colour == k].tolist()) for k in range(order.size)}
            present = set(codes.tolist())
            assert classes == {frozenset(proper & present) for proper, _ in expected.values()}
            number = dict(zip(codes.tolist(), order.class_of_colour.tolist(), strict=True))
            for proper, around in expected.values():
                for code in proper & present:
                    above = expected[around][0] & present
                    found = order.parent[number[code]]
                    assert {code for code, kind in number.items() if kind == found} == above


def test_colours_that_the_image_does_not_have_are_the_minimum():
    order = order_from_histogram(skimage.data.astronaut()[:64, :64])
    assert isinstance(order, HistogramOrder)
    assert order.minimum == 0
    assert 0 not in order.class_of_colour
    assert order.counts.sum() == 64 * 64
    tree = component_tree(order.values, order)
    np.testing.assert_array_equal(tree.reconstruct(), order.values)
    at = np.argmax(order.counts)
    assert order.size > 10
    assert (order.parent == order.class_of_colour[at]).sum() == 0  # the most frequent colour is a maximum


def test_a_cube_that_is_full_has_the_rarest_colours_as_its_minimum():
    cube = np.stack(np.meshgrid(*[[0, 255]] * 3), axis=-1).reshape(8, 1, 3).astype(np.uint8)
    image = np.repeat(cube, [1, 1, 2, 1, 1, 1, 1, 1], axis=0)
    order = order_from_histogram(image, bits=1)
    assert order.size == 2
    assert order.values.ravel().tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("image", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)])
def test_images_without_colours(image):
    with pytest.raises(InvalidValues, match="colour image"):
        order_from_histogram(image)
    with pytest.raises(InvalidValues, match="bits"):
        order_from_histogram(np.zeros((2, 2, 3), np.uint8), bits=9)


def test_palette_is_the_mean_of_what_is_there():
    order = Order([0, 0, 0, 1])  # nothing has the value 0 or 1
    image = np.array([[[10, 0, 0], [30, 0, 0]], [[0, 6, 0], [0, 6, 0]]])
    colours = palette(order, [[3, 3], [2, 2]], image)
    np.testing.assert_allclose(colours, [[10, 3, 0], [20, 0, 0], [0, 6, 0], [20, 0, 0]])


# (b): co-occurrence


def test_the_example_of_the_paper():
    """Fig. 6: its image, whose ninth value (6) no point has, and its binary partition tree."""
    a, b, c, d, e, f, _, h, i = range(9)
    image = np.array([[b, c, d, f, i], [b, i, d, f, i], [a, i, a, e, f], [e, i, a, e, f], [e, e, c, a, h]])
    order = order_from_cooccurrence(image, 9)
    unions = [(9, 0, 4), (10, 5, 8), (11, 9, 10), (12, 2, 11), (13, 3, 12), (14, 1, 13), (15, 7, 14), (16, 6, 15)]
    expected = np.arange(17)
    for union, one, other in unions:
        expected[[one, other]] = union
    np.testing.assert_array_equal(order.parent, expected)
    tree = component_tree(image, order)
    np.testing.assert_array_equal(tree.reconstruct(), image)


def _merged_by_trying_all(matrix: np.ndarray) -> list[int]:
    """A binary partition tree from its definition: of all pairs, the first of the greatest priority."""
    members = {value: [value] for value in range(len(matrix))}
    parent = list(range(2 * len(matrix) - 1))
    for union in range(len(matrix), 2 * len(matrix) - 1):
        pairs = [(u, v) for u in members for v in members if u < v]
        _, u, v = min((-max(matrix[a][b] for a in members[u] for b in members[v]), u, v) for u, v in pairs)
        parent[u] = parent[v] = union
        members[union] = members.pop(u) + members.pop(v)
    return parent


def test_unions_are_those_that_trying_all_pairs_gives():
    rng = np.random.default_rng(0)
    for _ in range(60):
        values = rng.integers(0, rng.integers(1, 9), rng.integers(1, 7, 2))
        count = int(values.max()) + 1 + int(rng.integers(0, 3))
        for adjacency in (4, 8):
            order = order_from_cooccurrence(values, count, adjacency)
            assert order.parent.tolist() == _merged_by_trying_all(cooccurrence(values, count, adjacency))


def test_cooccurrence_counts_ordered_pairs():
    rng = np.random.default_rng(1)
    for shape, adjacency in (((5, 6), 4), ((5, 6), 8), ((3, 4, 5), 6), ((3, 4, 5), 26)):
        values = rng.integers(0, 4, shape)
        expected = np.zeros((4, 4), int)
        for p, q in neighbours(shape, adjacency):
            expected[values.flat[p], values.flat[q]] += 1
            expected[values.flat[q], values.flat[p]] += 1
        np.testing.assert_array_equal(cooccurrence(values, 4, adjacency), expected)


def test_maxima_of_the_enriched_values_are_the_values():
    values = np.random.default_rng(2).integers(0, 20, (30, 30))
    order = order_from_cooccurrence(values)
    assert order.size == 39
    assert set(range(39)) - set(order.parent.tolist()) == set(range(20))


@pytest.mark.parametrize(
    ("values", "count", "message"),
    [
        (np.zeros((2, 2)), None, "integers"),
        (np.zeros(4, int), None, "integers"),
        (np.zeros((0, 4), int), None, "integers"),
        (np.full((2, 2), 5000), None, "got 5001"),
        (np.full((2, 2), 5), 3, "5 to 5"),
        (np.full((2, 2), -1), 3, "-1 to -1"),
    ],
)
def test_values_that_cannot_be_merged(values, count, message):
    with pytest.raises(InvalidValues, match=message):
        order_from_cooccurrence(values, count)
