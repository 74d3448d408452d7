"""Speed and memory of multivalued component trees: ``python -m tests.benchmarks component_trees``.

CPU seconds of one thread, medians of interleaved rounds in one process. Peers: Higra's max-tree, where the order is total, and
the paper's function Flood in plain Python. Memory is the growth of the process's peak over what it had before the call.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sensorium.platform.tables import print_rows

ROUNDS = 5
SIDES = (512, 2048)
LEVELS = (8, 64, 256)


def planes(side: int) -> dict[str, np.ndarray]:
    """A photograph and noise, [side, side] of 0 … 255."""
    import skimage.data
    from PIL import Image

    photograph = Image.fromarray(skimage.data.camera()).resize((side, side), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    return {"photograph": np.asarray(photograph), "noise": noise}


def parents(levels: int, kind: str) -> np.ndarray:
    """A total order, or a random hierarchy."""
    if kind == "total":
        return np.maximum(np.arange(levels) - 1, 0)
    rng = np.random.default_rng(levels)
    tree = np.array([0, *(rng.integers(0, value) for value in range(1, levels))])
    names = rng.permutation(levels)
    shuffled = np.empty(levels, int)
    shuffled[names] = names[tree]
    return shuffled


def cpu_seconds(**actions: Callable[[], object]) -> dict[str, float]:
    """Medians of interleaved rounds, after one that compiles."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(ROUNDS + 1):
        for name, action in actions.items():
            begun = time.process_time()
            action()
            if number:
                times[name].append(time.process_time() - begun)
    return {name: statistics.median(own) for name, own in times.items()}


def _speeds() -> Iterator[list[str]]:
    import higra

    from sensorium.jobs.component_tree import Order, component_tree

    for side in SIDES:
        graph = higra.get_4_adjacency_graph((side, side))
        for name, plane in planes(side).items():
            for levels in LEVELS:
                values = (plane.astype(np.int64) * levels // 256).astype(np.uint8)
                for kind in ("total", "random"):
                    order = Order(parents(levels, kind))
                    actions: dict[str, Callable[[], object]] = {}
                    actions["four"] = lambda v=values, o=order: component_tree(v, o, 4)
                    actions["eight"] = lambda v=values, o=order: component_tree(v, o, 8)
                    if kind == "total":
                        actions["higra"] = lambda v=values, g=graph: higra.component_tree_max_tree(g, v)
                    found = cpu_seconds(**actions)
                    nodes = component_tree(values, order, 4).node_count
                    ratio = f"{found['higra'] / found['four']:.1f}" if kind == "total" else ""
                    shown = [
                        f"{found['four']:.3f}",
                        f"{found['eight']:.3f}",
                        f"{1e9 * found['four'] / values.size:.0f}",
                    ]
                    yield [f"{side}²", name, str(levels), kind, str(nodes), *shown, ratio]


def _against_python() -> Iterator[list[str]]:
    from sensorium.jobs.component_tree import Order, component_tree
    from sensorium.jobs.component_tree.grid import grid_edges
    from tests.jobs.component_tree.flood import flooded

    plane = planes(512)["photograph"]
    neighbours: list[list[int]] = [[] for _ in range(plane.size)]
    for p, q in grid_edges(plane.shape, 4).tolist():
        neighbours[p].append(q)
        neighbours[q].append(p)
    for levels in LEVELS:
        values = (plane.astype(np.int64) * levels // 256).astype(np.uint8)
        order = Order(parents(levels, "random"))
        flat, lower = values.ravel().tolist(), order.parent.tolist()
        begun = time.process_time()
        above, _, _ = flooded(flat, neighbours, lower, moving=True)
        python = time.process_time() - begun
        own = cpu_seconds(own=lambda v=values, o=order: component_tree(v, o, 4))["own"]
        same = "yes" if len(above) == component_tree(values, order, 4).node_count else "no"
        yield [str(levels), f"{python:.2f}", f"{own:.4f}", f"{python / own:.0f}", same]


_MEMORY = """
import json, resource, sys
import numpy as np
from sensorium.jobs.component_tree import Order, component_tree
from tests.benchmarks.component_trees import parents, planes
side, name, levels, kind, adjacency = json.loads(sys.argv[1])
order = Order(parents(levels, kind))
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if adjacency in (6, 26):
    edge = round(side ** (2 / 3))
    values = np.random.default_rng(0).integers(0, levels, (edge,) * 3, dtype=np.uint8)
else:
    values = (planes(side)[name].astype(np.uint16) * levels // 256).astype(np.uint8)
component_tree(values[:8, :8], order, adjacency) if values.ndim == 2 else component_tree(values[:4, :4, :4], order, adjacency)
held = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
tree = component_tree(values, order, adjacency)
peak_now = next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print((peak_now - held) / values.size)
"""


def _memory() -> Iterator[list[str]]:
    for side, name, levels, kind, adjacency in (
        *((2048, name, 256, kind, 4) for name in ("photograph", "noise") for kind in ("total", "random")),
        *((2048, name, 256, "random", 8) for name in ("photograph", "noise")),
        *((2048, "noise", 256, "random", adjacency) for adjacency in (6, 26)),
    ):
        asked = json.dumps([side, name, levels, kind, adjacency])
        done = subprocess.run([sys.executable, "-c", _MEMORY, asked], capture_output=True, text=True, check=True)
        points = f"{side}²" if adjacency in (4, 8) else f"{round(side ** (2 / 3))}³"
        yield [points, name, str(levels), kind, str(adjacency), f"{float(done.stdout):.0f}"]


_FIRST = """
import time
begun = time.perf_counter()
import numpy as np
from sensorium.jobs.component_tree import component_tree, total_order
imported = time.perf_counter()
component_tree(np.zeros((4, 4), np.uint8), total_order(2), 4)
print(f"{imported - begun:.2f} {time.perf_counter() - imported:.2f}")
"""


def _first_call(folder: Path) -> Iterator[list[str]]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "numba")}
    for state in ("nothing compiled yet", "compiled by another process"):
        program = [sys.executable, "-c", _FIRST]
        done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
        yield [state, *done.stdout.split()]


def component_trees(folder: Path) -> None:
    """Speed, peers, memory, first call."""
    header = [
        "size",
        "image",
        "values",
        "order",
        "nodes",
        "4-adj., CPU s",
        "8-adj., CPU s",
        "ns a pixel",
        "times Higra",
    ]
    _table("building, against Higra's max-tree with 4-adjacency", header, _speeds())
    header = ["values", "Flood in Python, CPU s", "sensorium, CPU s", "times faster", "same number of nodes"]
    _table("512² photograph, random order, against the paper's Flood in plain Python", header, _against_python())
    header = ["size", "image", "values", "order", "adjacency", "bytes a pixel"]
    _table("peak memory of a call, besides the values that it is given", header, _memory())
    _table("first call of a process, seconds", ["", "imports", "call"], _first_call(folder))


def _table(title: str, header: list[str], rows: Iterator[list[str]]) -> None:
    sys.stdout.write(f"\n{title}\n")
    print_rows(header, list(rows))
