"""The compiled tree against the definitions, against Higra, and against laws that hold for every image."""

from __future__ import annotations

import os
import sys

import higra
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.jobs.component_tree import ComponentTree, Order, component_tree, order_from_cooccurrence, total_order
from sensorium.jobs.component_tree.grid import grid_edges
from sensorium.jobs.component_tree.tree import InvalidValues
from sensorium.platform.errors import InvalidSetting
from tests.jobs.component_tree.definitions import neighbours, nodes_of, random_parents, same
from tests.jobs.component_tree.flood import flooded

#: random cases a kind; SENSORIUM_TREES=20 runs twenty times as many
_MANY = 2000 * int(os.environ.get("SENSORIUM_TREES", "1"))


@pytest.mark.parametrize("adjacency", [4, 8, 6, 26])
def test_is_what_the_definitions_say(adjacency):
    """Random grids, orders and values; some values of an order are not in the image, such as its minimum."""
    rng = np.random.default_rng(adjacency)
    rank = 2 if adjacency in (4, 8) else 3
    for _ in range(_MANY):
        shape = tuple(rng.integers(1, 6 if rank == 2 else 4, rank))
        order = Order(random_parents(int(rng.integers(1, 10)), rng))
        present = rng.choice(order.size, int(rng.integers(1, order.size + 1)), replace=False)
        values = rng.choice(present, shape)
        tree = component_tree(values, order, adjacency)
        same(tree, nodes_of(values.ravel().tolist(), order.parent.tolist(), neighbours(shape, adjacency)))
        np.testing.assert_array_equal(tree.reconstruct(), values)


def test_is_what_the_definitions_say_on_graphs():
    rng = np.random.default_rng(1)
    for _ in range(_MANY):
        count = int(rng.integers(1, 20))
        edges = [(int(rng.integers(0, point)), point) for point in range(1, count)]
        edges += [tuple(rng.integers(0, count, 2).tolist()) for _ in range(int(rng.integers(0, 2 * count)))]
        order = Order(random_parents(int(rng.integers(1, 10)), rng))
        values = rng.integers(0, order.size, count)
        tree = component_tree(values, order, edges=np.array(edges).reshape(-1, 2))
        pairs = [(p, q) for p, q in edges if p != q]
        same(tree, nodes_of(values.tolist(), order.parent.tolist(), pairs))


@settings(max_examples=_MANY // 4, deadline=None)
@given(st.data())
def test_is_what_the_definitions_say_where_hypothesis_looks(data):
    size = data.draw(st.integers(1, 7))
    order = Order([data.draw(st.integers(0, max(0, value - 1))) for value in range(size)])
    height, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    flat = data.draw(st.lists(st.integers(0, size - 1), min_size=height * width, max_size=height * width))
    tree = component_tree(np.array(flat).reshape(height, width), order, 8)
    same(tree, nodes_of(flat, order.parent.tolist(), neighbours((height, width), 8)))


def test_the_example_of_the_paper():
    """Fig. 2: a component at the thresholds c, g and h, where no point has the value g, is one node, with τ 3 and ω h."""
    a, b, c, g, h, i = range(6)
    order = Order([a, a, a, c, g, g])  # c < g < h, i
    values = np.array([[a, h, h, a, c], [b, a, h, a, i], [b, a, a, a, h]])
    tree = component_tree(values, order)
    node = tree.node_of_point[0, 1]
    assert tree.value[node] == h
    assert tree.attribute("remanence")[node] == 3
    joined = tree.parent[tree.node_of_point[1, 4]]  # i and h touch: their component has the value g, which no point has
    assert tree.value[joined] == g
    assert tree.proper_part(joined).size == 0


@pytest.mark.parametrize("adjacency", [4, 8])
@pytest.mark.parametrize("levels", [2, 256, 65_536])
def test_is_the_max_tree_of_a_total_order(adjacency, levels):
    rng = np.random.default_rng(levels)
    camera = skimage.data.camera().astype(int)[:200, :300]
    for image in (camera * (levels - 1) // 255, rng.integers(0, levels, (90, 130))):
        tree = component_tree(image, total_order(levels), adjacency)
        graph = (higra.get_4_adjacency_graph if adjacency == 4 else higra.get_8_adjacency_graph)(image.shape)
        theirs, altitudes = higra.component_tree_max_tree(graph, image)
        _same_as_higra(tree, theirs.parents(), altitudes)
        area = higra.attribute_area(theirs)
        np.testing.assert_array_equal(np.sort(tree.attribute("area")), np.sort(area[image.size :]))


def _same_as_higra(tree: ComponentTree, parents, altitudes):
    """With a total order each node has points of its own, so that these pair our nodes with theirs."""
    points = tree.node_of_point.size
    ours = tree.node_of_point.ravel()
    mapped = np.full(parents.size, -1)
    mapped[parents[:points]] = ours
    assert tree.node_count == parents.size - points
    np.testing.assert_array_equal(mapped[parents[:points]], ours)
    np.testing.assert_array_equal(np.sort(mapped[points:]), np.arange(tree.node_count))
    np.testing.assert_array_equal(tree.parent[mapped[points:]], mapped[parents[points:]])
    np.testing.assert_array_equal(tree.value[mapped[points:]], altitudes[points:])


def _spiral(side: int) -> np.ndarray:
    """A path of rising values, one pixel wide, round and round to the middle, in a plane of 0."""
    image = np.zeros((side, side), int)
    y, x, dy, dx, value = 1, 1, 0, 1, 1
    while image[y, x] == 0:
        image[y, x] = value
        value += 1
        ahead_y, ahead_x = y + 2 * dy, x + 2 * dx
        if not (0 <= ahead_y < side and 0 <= ahead_x < side) or image[ahead_y, ahead_x]:
            dy, dx = dx, -dy
        y, x = y + dy, x + dx
    return image


def test_extreme_images():
    constant = component_tree(np.full((50, 70), 3), total_order(9))
    assert (constant.node_count, constant.value[0], constant.attribute("remanence")[0]) == (1, 3, 4)
    board = np.indices((40, 60)).sum(0) % 2
    assert component_tree(board, total_order(2)).node_count == 1 + board.sum()
    assert component_tree(board, total_order(2), 8).node_count == 2
    labels = Order([0, 0, 0])
    assert component_tree(board + 1, labels).node_count == 1 + board.size  # no two neighbours are alike
    line = np.arange(65_536)[None]
    for ramp in (line, line[:, ::-1], line.T):
        chain = component_tree(ramp, total_order(65_536))
        assert chain.node_count == 65_536
        assert chain.attribute("depth").max() == 65_535
    spiral = _spiral(101)
    tree = component_tree(spiral, total_order(int(spiral.max()) + 1))
    assert tree.node_count == spiral.max() + 1
    np.testing.assert_array_equal(tree.reconstruct(), spiral)
    assert component_tree(np.zeros((1, 1), np.uint8), total_order(1)).node_count == 1


def test_nothing_recurs():
    """65,536 values in a chain, each on a point, fit below a limit of recursion that leaves no room."""
    values = np.random.default_rng(0).permutation(65_536).reshape(256, 256)
    component_tree(values[:2, :2], total_order(65_536))  # compiled before the limit holds
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(150)
    try:
        tree = component_tree(values, total_order(65_536))
        assert np.array_equal(
            tree.filter("area", at_least=5).filter("area", at_least=9).parent, tree.filter("area", 9).parent
        )
    finally:
        sys.setrecursionlimit(limit)
    np.testing.assert_array_equal(tree.reconstruct(), values)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_every_type_of_integer_gives_the_same_tree(dtype):
    image = skimage.data.camera()[:40:2, :50] > 120
    tree = component_tree(image.astype(dtype), total_order(2))
    np.testing.assert_array_equal(tree.parent, component_tree(image.astype(np.int16), total_order(2)).parent)


def test_memory_layout_does_not_matter():
    values = np.random.default_rng(0).integers(0, 5, (30, 40))
    order = Order([0, 0, 1, 1, 0])
    transposed = component_tree(values.T, order)
    np.testing.assert_array_equal(transposed.parent, component_tree(values.T.copy(), order).parent)
    np.testing.assert_array_equal(component_tree(values[::2, ::-1], order).reconstruct(), values[::2, ::-1])


def test_a_grid_is_the_graph_of_its_edges():
    """Edges that a grid's builder leaves out as redundant change nothing."""
    rng = np.random.default_rng(3)
    for adjacency, shape in ((4, (31, 47)), (8, (31, 47)), (6, (9, 11, 13)), (26, (9, 11, 13))):
        for order in (
            total_order(30),
            Order(random_parents(30, rng)),
            order_from_cooccurrence(rng.integers(0, 9, shape)),
        ):
            values = rng.integers(0, order.size, shape)
            grid, graph = (
                component_tree(values, order, adjacency),
                component_tree(values, order, edges=grid_edges(shape, adjacency)),
            )
            np.testing.assert_array_equal(np.sort(grid.value), np.sort(graph.value))
            paired = np.unique(np.stack([grid.node_of_point.ravel(), graph.node_of_point.ravel()]), axis=1)
            assert np.unique(paired[0]).size == np.unique(paired[1]).size == paired.shape[1]
            np.testing.assert_array_equal(grid.attribute("area")[paired[0]], graph.attribute("area")[paired[1]])


@pytest.mark.parametrize("rule", ["min", "max"])
def test_a_pruned_tree_is_the_tree_of_the_pruned_image(rule):
    rng = np.random.default_rng(7)
    for _ in range(60):
        order = Order(random_parents(12, rng))
        tree = component_tree(rng.integers(0, 12, (9, 11)), order)
        kept = tree.filter(rng.random(tree.node_count) < 0.6, rule=rule)
        again = component_tree(kept.reconstruct(), order)
        same(again, nodes_of(kept.reconstruct().ravel().tolist(), order.parent.tolist(), neighbours((9, 11), 4)))
        found = {(tuple(again.points(node)), again.value[node]) for node in range(again.node_count)}
        assert found == {(tuple(kept.points(node)), kept.value[node]) for node in range(kept.node_count)}


def test_filtering_by_area_leaves_no_small_component():
    rng = np.random.default_rng(8)
    order = Order(random_parents(20, rng))
    tree = component_tree(rng.integers(0, 20, (40, 40)), order)
    filtered = tree.filter("area", at_least=10)
    again = component_tree(filtered.reconstruct(), order)
    assert again.attribute("area").min() >= 10
    assert order.lower_or_equal(filtered.reconstruct(), tree.reconstruct()).all()
    everything = tree.filter("area", at_least=1)
    np.testing.assert_array_equal(everything.parent, tree.parent)
    np.testing.assert_array_equal(everything.reconstruct(), tree.reconstruct())
    assert tree.filter("remanence", at_most=-1).node_count == 1  # the root stays


def test_the_rules_of_filters_differ_as_they_say():
    tree = component_tree(np.array([[0, 1, 2, 3, 2, 1, 0]]), total_order(4))
    keep = np.array([True, False, True, False])
    for rule, expected in (("direct", [0, 0, 2, 2, 2, 0, 0]), ("min", [0] * 7), ("max", [0, 1, 2, 2, 2, 1, 0])):
        np.testing.assert_array_equal(tree.filter(keep, rule=rule).reconstruct()[0], expected)


def test_attributes_fit_together():
    rng = np.random.default_rng(9)
    tree = component_tree(rng.integers(0, 9, (30, 30)), Order(random_parents(9, rng)))
    area, own = tree.attribute("area"), tree.attribute("proper_area")
    assert area[0] == own.sum() == 900
    inside = np.bincount(tree.parent[1:], area[1:], tree.node_count)
    np.testing.assert_array_equal(area - inside, own)
    np.testing.assert_array_equal(tree.attribute("children"), np.bincount(tree.parent[1:], minlength=tree.node_count))
    np.testing.assert_array_equal(tree.attribute("omega"), tree.value)
    assert (tree.attribute("depth")[1:] == tree.attribute("depth")[tree.parent[1:]] + 1).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, np.nan]]), "some are NaN"),
        (np.array([[0.0, 1.0]]), "must be integers"),
        (np.array([["a"]]), "must be integers"),
        (np.zeros((2, 2, 2, 2), int), "plane"),
        (np.zeros(5, int), r"shape \(5,\)"),
        (np.zeros((0, 3), int), "got 0"),
        (np.array([[0, 1], [2, 7]]), r"values\[1, 1\] is 7"),
        (np.array([[0, -1]]), r"values\[0, 1\] is -1"),
    ],
)
def test_values_that_cannot_be(values, message):
    with pytest.raises(InvalidValues, match=message):
        component_tree(values, total_order(3))


def test_settings_that_cannot_be():
    plane, volume = np.zeros((2, 2), int), np.zeros((2, 2, 2), int)
    for values, adjacency in ((plane, 6), (plane, 5), (volume, 4)):
        with pytest.raises(InvalidSetting, match="adjacency must be"):
            component_tree(values, total_order(1), adjacency)
    with pytest.raises(InvalidSetting, match="either"):
        component_tree(plane, total_order(1), 4, edges=[(0, 1)])
    tree = component_tree(plane, total_order(1))
    for wrong in (lambda: tree.attribute("size"), lambda: tree.filter([1]), lambda: tree.points(5)):
        with pytest.raises(InvalidSetting):
            wrong()
    with pytest.raises(InvalidSetting, match="rule"):
        tree.filter("area", rule="most")


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(0, 1)], "in 2 parts"),
        ([], "in 3 parts"),
        ([(0, 3)], r"edges\[0\] is \[0, 3\]"),
        ([(0, 1), (-1, 2)], r"edges\[1\]"),
        ([(0.0, 1.0)], "pairs"),
        ([0, 1], "pairs"),
    ],
)
def test_edges_that_cannot_be(edges, message):
    with pytest.raises(InvalidValues, match=message):
        component_tree([0, 1, 0], total_order(2), edges=edges)


def _links(shape: tuple[int, int]) -> list[list[int]]:
    links: list[list[int]] = [[] for _ in range(shape[0] * shape[1])]
    for p, q in neighbours(shape, 4):
        links[p].append(q)
        links[q].append(p)
    return links


def test_is_what_the_papers_flood_gives_where_waiting_points_may_move():
    rng = np.random.default_rng(11)
    for _ in range(_MANY):
        shape = tuple(rng.integers(1, 8, 2).tolist())
        order = Order(random_parents(int(rng.integers(1, 9)), rng))
        values = rng.integers(0, order.size, shape)
        tree = component_tree(values, order)
        above, omega, node = flooded(values.ravel().tolist(), _links(shape), order.parent.tolist(), moving=True)
        ours = [frozenset(tree.points(number).tolist()) for number in range(tree.node_count)]
        theirs: list[set[int]] = [set() for _ in above]
        for point, number in enumerate(node):
            theirs[number].add(point)
            while above[number] != number:
                number = above[number]
                theirs[number].add(point)
        expected = {frozenset(points): value for points, value in zip(theirs, omega, strict=True)}
        assert dict(zip(ours, tree.value.tolist(), strict=True)) == expected
        assert len(above) == tree.node_count


def test_flood_as_it_is_printed_parts_a_component():
    """Two points of one value wait at the minimum for different neighbours; each becomes a node of its own."""
    values, parent = [1, 1, 2, 2], [0, 0, 0]
    printed = flooded(values, _links((2, 2)), parent, moving=False)
    assert sorted(printed[1]) == [0, 1, 2, 2]
    assert sorted(component_tree(np.array(values).reshape(2, 2), Order(parent)).value) == [0, 1, 2]
