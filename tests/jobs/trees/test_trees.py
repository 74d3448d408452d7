"""What systems on trees share, each against a plain loop or another library."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import matplotlib.pyplot as plt
import networkx
import numpy as np
import pytest

from sensorium.jobs.trees import hierarchy
from sensorium.jobs.trees.compiled import compiled
from sensorium.jobs.trees.drawing import draw_tree, layout
from sensorium.jobs.trees.export import graphml, npz
from sensorium.jobs.trees.union_find import find, fresh, join, labelled
from sensorium.platform.errors import InvalidSetting


def _random_tree(count: int, rng: np.random.Generator) -> np.ndarray:
    return np.array([0, *(rng.integers(0, node) for node in range(1, count))], np.int32)


def _ways(parent: np.ndarray) -> list[list[int]]:
    """Each node and those on its way to the root."""
    ways = []
    for node in range(parent.size):
        way = [node]
        while way[-1]:
            way.append(int(parent[way[-1]]))
        ways.append(way)
    return ways


def test_passes_are_what_they_say():
    rng = np.random.default_rng(0)
    for _ in range(100):
        parent = _random_tree(int(rng.integers(1, 30)), rng)
        ways, count = _ways(parent), parent.size
        flags, own = rng.random(count) < 0.5, rng.integers(0, 9, count)
        flags[0] = True
        np.testing.assert_array_equal(hierarchy.depths(parent), [len(way) - 1 for way in ways])
        np.testing.assert_array_equal(
            hierarchy.child_counts(parent), [sum(parent[1:] == node) for node in range(count)]
        )
        inside = [[other for other in range(count) if node in ways[other]] for node in range(count)]
        np.testing.assert_array_equal(hierarchy.subtree_sums(parent, own), [own[one].sum() for one in inside])
        np.testing.assert_array_equal(hierarchy.subtree_any(parent, flags), [flags[one].any() for one in inside])
        np.testing.assert_array_equal(hierarchy.path_all(parent, flags), [flags[way].all() for way in ways])
        np.testing.assert_array_equal(
            hierarchy.nearest(parent, flags), [next(node for node in way if flags[node]) for way in ways]
        )
        flags[0] = False
        np.testing.assert_array_equal(hierarchy.below(parent, flags), [flags[way].any() for way in ways])


def test_sets_are_joined_as_a_plain_partition():
    rng = np.random.default_rng(1)
    for _ in range(50):
        count = int(rng.integers(1, 40))
        up, partition = fresh(count), [{x} for x in range(count)]
        for _ in range(int(rng.integers(0, 40))):
            a, b = rng.integers(0, count, 2)
            root = join(up, a, b)
            union = partition[a] | partition[b]
            for x in union:
                partition[x] = union
            assert root == min(union)
        assert [find(up, x) for x in range(count)] == [min(one) for one in partition]
        label, number = labelled(up)
        roots = sorted({min(one) for one in partition})
        assert number == len(roots)
        assert label.tolist() == [roots.index(min(one)) for one in partition]


def test_graphml_is_read_by_networkx():
    parent = _random_tree(12, np.random.default_rng(2))
    area, mean, flag = np.arange(12), np.arange(12) / 7, np.arange(12) % 2 == 0
    graph = networkx.read_graphml(io.BytesIO(graphml(parent, {"area": area, "mean <&>": mean, "flag": flag})))
    assert sorted(graph.edges) == sorted((f"n{node}", f"n{parent[node]}") for node in range(1, 12))
    for node in range(12):
        assert graph.nodes[f"n{node}"] == {"area": area[node], "mean <&>": mean[node], "flag": flag[node]}
    with pytest.raises(InvalidSetting, match="one number a node"):
        graphml(parent, {"area": area[:5]})


def test_npz_is_read_by_numpy_without_pickles():
    parent = _random_tree(9, np.random.default_rng(3))
    with np.load(io.BytesIO(npz(parent, {"area": np.arange(9)})), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["parent"], parent)
        np.testing.assert_array_equal(file["area"], np.arange(9))
    for wrong in ({"parent": parent}, {"names": np.array([None])}):
        with pytest.raises(InvalidSetting, match="cannot be kept"):
            npz(parent, wrong)


def test_no_two_leaves_lie_on_each_other_and_parents_lie_between_children():
    rng = np.random.default_rng(4)
    for _ in range(30):
        parent = _random_tree(int(rng.integers(1, 60)), rng)
        x, y = layout(parent)
        leaves = np.setdiff1d(np.arange(parent.size), parent[1:])
        assert sorted(x[leaves].tolist()) == list(range(leaves.size))
        for node in range(parent.size):
            children = [child for child in range(1, parent.size) if parent[child] == node]
            if children:
                assert x[node] == (x[children].min() + x[children].max()) / 2
                assert (y[children] == y[node] - 1).all()


def test_drawing_puts_a_disc_for_each_node():
    parent = _random_tree(20, np.random.default_rng(5))
    figure, axes = plt.subplots()
    draw_tree(axes, parent, np.full((20, 3), 0.5), [str(node) for node in range(20)], np.arange(1, 21))
    discs, texts = axes.collections[-1].get_offsets(), [text.get_text() for text in axes.texts]
    plt.close(figure)
    np.testing.assert_allclose(discs, np.stack(layout(parent), axis=1))
    assert texts == [str(node) for node in range(20)]
    with pytest.raises(InvalidSetting, match="2001 nodes"):
        draw_tree(axes, np.zeros(2001, np.int32))


def test_loops_compile_where_no_cache_can_be_written():
    """There is nowhere to keep what is in no file, nor in a read-only installation of a user without a home."""
    names: dict[str, Any] = {}
    exec(compile("def double(x): return 2 * x", "<in no file>", "exec"), names)
    assert compiled(names["double"])(21) == 42


def test_what_is_kept_goes_stale_with_the_functions_that_it_calls(tmp_path):
    """Otherwise numba would go on with the old ``step``, for the file of ``walk`` has not changed."""
    (tmp_path / "walks.py").write_text(
        "from sensorium.jobs.trees.compiled import compiled\nfrom steps import step\n\n\n"
        "@compiled\ndef walk(x):\n    return step(x) + 1\n\n\nprint(walk(1), sum(walk.stats.cache_hits.values()))\n"
    )
    printed = []
    for factor in (10, 10, 200):
        source = f"from sensorium.jobs.trees.compiled import compiled\n\n\n@compiled\ndef step(x):\n    return {factor} * x\n"
        if not (tmp_path / "steps.py").exists() or (tmp_path / "steps.py").read_text() != source:
            (tmp_path / "steps.py").write_text(source)
        program = [sys.executable, "walks.py"]
        printed.append(subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip())
    assert printed == ["11 0", "11 1", "201 0"]
