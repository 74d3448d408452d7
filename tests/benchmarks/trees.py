"""The tree of shapes against Higra, and the operators on it: CPU seconds of one thread, memory, visits a second.

``python -m tests.benchmarks trees`` takes about five minutes, nearly all of them Higra's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.demo.photographs import collect
from sensorium.jobs.shape_tree import area_opening, mean_filter, quantise, tree_of_shapes
from sensorium.jobs.shape_tree.filters import changing
from sensorium.jobs.shape_tree.passes import mean_pass
from sensorium.jobs.shape_tree.simulation import microtomography
from sensorium.platform.tables import print_rows

__all__ = ["trees"]

#: sides of the square images, pixels: 0.25 to 16 megapixels
SIDES = (512, 1024, 2048, 4096)
_ROUNDS = 3


def cpu_seconds(action: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """The least of some rounds."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        found.append(time.process_time() - start)
    return min(found)


def photographs(folder: Path, side: int) -> NDArray[np.uint8]:
    """Real photographs, grey, side by side at their own size, mirrored where they are used again."""
    from PIL import Image

    files = sorted(path for path in collect(folder).iterdir() if path.suffix != ".csv")
    mosaic = np.zeros((side, side), np.uint8)
    number = top = 0
    while top < side:
        left = 0
        tallest = side - top
        while left < side:
            picture = np.asarray(Image.open(files[number % len(files)]).convert("L"))
            picture = picture[:: -1 if number // len(files) % 2 else 1]
            part = picture[: side - top, : side - left]
            mosaic[top : top + part.shape[0], left : left + part.shape[1]] = part
            left += part.shape[1]
            tallest = min(tallest, part.shape[0])
            number += 1
        top += tallest
    return mosaic


def higra_tree(image: NDArray[Any]) -> object:
    import higra

    return higra.component_tree_tree_of_shapes_image2d(np.pad(image, 1), "none")


_PEAK = """
import json, sys
import numpy as np
from sensorium.jobs.shape_tree import {name}
run = lambda image: {call}
path, kind = sys.argv[1:]
run(np.zeros((9, 9), kind))
image = np.load(path)

def high_water():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])

before = high_water()
kept = run(image)
print(json.dumps((high_water() - before) / image.size))
"""


def peak(folder: Path, image: NDArray[Any], name: str, call: str) -> float:
    """Bytes a pixel that a call needs at most beyond the image, in a process of its own: growth of its resident memory."""
    path = folder / "image.npy"
    np.save(path, image)
    code = _PEAK.format(name=name, call=call)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), image.dtype.name], capture_output=True, check=True, text=True
    )
    return float(json.loads(done.stdout))


def first_call(folder: Path, cache: str) -> float:
    """Seconds from the first call to its end in a fresh process whose compiled code is kept in a folder."""
    code = (
        "import time, numpy as np\nfrom sensorium.jobs.shape_tree import mean_filter\n"
        "start = time.perf_counter()\nmean_filter(np.zeros((4, 4), np.uint8))\nprint(time.perf_counter() - start)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / cache)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment)
    return float(done.stdout)


def trees(folder: Path) -> None:
    """All of it."""
    tree_of_shapes(np.zeros((9, 9), np.uint8))
    tree_of_shapes(np.zeros((9, 9), np.uint16))
    _construction(folder)
    _growth(folder)
    _memory(folder)
    _operators()
    rows = [
        [f"first call, {state}", f"{first_call(folder, 'compiled'):.1f} s"] for state in ("compiling", "later process")
    ]
    sys.stdout.write("\nfirst call of mean_filter (wall)\n")
    print_rows(["", ""], rows)


def _construction(folder: Path) -> None:
    rng = np.random.default_rng(0)
    cases = [(f"photographs, {side * side / 1e6:.2f} MP", photographs(folder / "photos", side)) for side in SIDES]
    cases += [
        ("microtomography, simulated, 4.20 MP", microtomography()),
        ("white noise, 8 bits, 1.05 MP", rng.integers(0, 256, (1024, 1024)).astype(np.uint8)),
        ("white noise, 16 bits, 1.05 MP", rng.integers(0, 65536, (1024, 1024)).astype(np.uint16)),
        ("ramp, 16 bits, 1.05 MP", np.arange(1 << 20).reshape(16, -1).astype(np.uint16)),
    ]
    rows = []
    for name, image in cases:
        rounds = _ROUNDS if image.size < 1 << 23 else 1
        ours = cpu_seconds(lambda image=image: tree_of_shapes(image), rounds)  # type: ignore[misc]
        theirs = cpu_seconds(lambda image=image: higra_tree(image), 1)  # type: ignore[misc]
        nodes = tree_of_shapes(image).node_count
        rows.append(
            [
                name,
                f"{nodes:,}",
                f"{ours:.3f}",
                f"{1e9 * ours / image.size:.0f}",
                f"{theirs:.2f}",
                f"{theirs / ours:.1f}",
            ]
        )
    sys.stdout.write("\nconstruction, CPU seconds\n")
    print_rows(["image", "nodes", "s", "ns a pixel", "Higra s", "times Higra"], rows)


def _growth(folder: Path) -> None:
    """The same content at all sizes, so that only the size differs; n log n would grow by log n a pixel."""
    part = photographs(folder / "photos", SIDES[1])
    rows = []
    for side in SIDES:
        times = -(-side // SIDES[1])
        image = np.tile(part, (times, times))[:side, :side]
        spent = 1e9 * cpu_seconds(lambda image=image: tree_of_shapes(image)) / image.size  # type: ignore[misc]
        nodes = tree_of_shapes(image).node_count
        rows.append([f"{image.size / 1e6:.2f}", f"{nodes / image.size:.3f}", f"{spent:.0f}"])
    sys.stdout.write("\nconstruction, the same photographs again and again, CPU\n")
    print_rows(["MP", "nodes a pixel", "ns a pixel"], rows)


def _memory(folder: Path) -> None:
    rng = np.random.default_rng(0)
    side = 2048
    cases = {
        "photographs": photographs(folder / "photos", side),
        "white noise, 8 bits": rng.integers(0, 256, (side, side)).astype(np.uint8),
        "white noise, 16 bits": rng.integers(0, 65536, (side, side)).astype(np.uint16),
        "checkerboard": (255 * (np.indices((side, side)).sum(0) % 2)).astype(np.uint8),
        "constant": np.full((side, side), 9, np.uint8),
    }
    rows = []
    for name, image in cases.items():
        built = peak(folder, image, "tree_of_shapes", "tree_of_shapes(image)")
        meant = peak(folder, image, "mean_filter", "mean_filter(image, 2)")
        rows.append([name, f"{built:.1f}", f"{meant:.1f}"])
    sys.stdout.write(f"\nmemory at the peak, bytes a pixel, {side * side / 1e6:.2f} MP\n")
    print_rows(["image", "tree_of_shapes", "mean_filter"], rows)


def _operators() -> None:
    image = microtomography()
    for warm in (mean_filter, quantise, area_opening):
        warm(image[:9, :9], 3)
    rows = []
    for name, run in (
        ("mean_filter(10)", lambda: mean_filter(image, 10)),
        ("area_opening(10)", lambda: area_opening(image, 10)),
        ("area_opening(25)", lambda: area_opening(image, 25)),
        ("area_opening(25, consecutive)", lambda: area_opening(image, 25, "consecutive")),
        ("quantise(16)", lambda: quantise(image, 16)),
    ):
        result = run()
        rows.append(
            [
                name,
                f"{cpu_seconds(run):.2f}",
                f"{result.nodes_before:,}",
                f"{result.tree.node_count:,}",
                f"{result.visits:,}",
            ]
        )
    sys.stdout.write("\noperators with construction, simulated microtomography of 4.20 MP, CPU seconds\n")
    print_rows(["", "s", "nodes before", "after", "visits"], rows)
    tree = tree_of_shapes(image)
    best = [9e9] * 10
    visits = [0] * 10
    for _ in range(_ROUNDS):
        state = changing(replace(tree, node_of_pixel=tree.node_of_pixel.copy()))
        for number in range(10):
            start = time.process_time()
            visits[number] = mean_pass(state.live)
            best[number] = min(best[number], time.process_time() - start)
            state.settle()
    rates = [f"{count / spent / 1e6:.1f}" for count, spent in zip(visits, best, strict=True)]
    sys.stdout.write("\nshifting in the ten passes of the mean filter, million visits a CPU second\n")
    print_rows(["all", *map(str, range(1, 11))], [[f"{sum(visits) / sum(best) / 1e6:.1f}", *rates]])
