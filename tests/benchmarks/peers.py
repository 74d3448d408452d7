"""Feeding from the catalog against other ways to keep samples: who writes, scans, picks and shuffles how fast.

Every contender is a process of its own (:mod:`.contenders`); they take turns, so that what else the machine does hits all of
them alike. Peers that are not in this environment are measured where ``PEERS`` names a Python that has them::

    make .venv-peers
    PEERS=.venv-peers/bin/python python -m tests.benchmarks feeds
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from sensorium.platform.tables import markdown
from tests.benchmarks.contenders import stack_of

ROUNDS = int(os.environ.get("ROUNDS", "5"))
_SCRIPT = Path(__file__).with_name("contenders.py")
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_ELSEWHERE = {"datasets": "datasets", "lance": "pylance", "webdataset": "webdataset", "deeplake": "deeplake"}
_SECTION = ("<!-- feeds -->", "<!-- end of feeds -->")

_ROWS = {
    "write": "ingest",
    "scan": "scan, batches of 64",
    "single": "single samples at random",
    "shuffled": "shuffled batches of 64",
    "dask": "mean by Dask",
    "ray": "mean by Ray Data",
}


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        title: of its table.
        data: name of the samples.
        own: the catalog's contender, against which ratios are formed.
        others: the contenders beside it.
        counts: how many samples are read in some rows, where all would take minutes.
        without: contenders and rows that would take minutes anyway, or do not exist.
    """

    title: str
    data: str
    own: str
    others: Sequence[str]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    without: Sequence[tuple[str, str]] = ()


CASES = (
    Case(
        "Images: 600 of 256 × 256 × 3, uint8, 118 MB, not compressed",
        "images",
        "sensorium",
        ("sensorium, durable", "raw", "raw, new memory", "npy", "zarr-python", *_ELSEWHERE),
        without=[("webdataset", "single")],
    ),
    Case(
        "Images, compressed",
        "images",
        "sensorium, zstd",
        ("sensorium, blosc", "npz", "zarr-python, zstd", "parquet, zstd"),
        {"parquet, zstd": {"single": 60, "shuffled": 60}},
        [("npz", "dask"), ("npz", "ray")],
    ),
    Case(
        "Signals: 8,000 of 1024, float32, 33 MB, not compressed",
        "signals",
        "sensorium",
        ("sensorium, durable", "raw", "raw, new memory", "npy", "zarr-python", *_ELSEWHERE),
        {name: {"single": 1000} for name in ("lance", "deeplake", "zarr-python")},
        [("webdataset", "single"), ("npy", "ray")],
    ),
    Case(
        "Signals, compressed",
        "signals",
        "sensorium, zstd",
        ("sensorium, blosc", "zarr-python, zstd", "parquet, zstd"),
        {name: {"single": 1000, "shuffled": 1000} for name in ("zarr-python, zstd", "parquet, zstd")},
    ),
)


class Process:
    """A contender in its own process."""

    def __init__(self, python: str, name: str, case: str, folder: Path) -> None:
        self.name = name
        folder.mkdir(parents=True)
        self._process = subprocess.Popen(
            [python, str(_SCRIPT), name, case, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.able = self.ask(what="can", of=list(_ROWS))

    def ask(self, **question: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait()} at {question}")
        return json.loads(line)

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


def measure(case: Case, folder: Path, rounds: int = ROUNDS) -> dict[str, dict[str, list[float]]]:
    """MB/s by row and contender, one value a round."""
    stack = stack_of(case.data)
    peers = os.environ.get("PEERS", "")
    started: list[Process] = []
    for name in (case.own, *case.others):
        if name in _ELSEWHERE and not peers:
            continue
        started.append(
            Process(peers if name in _ELSEWHERE else sys.executable, name, case.data, folder / f"{len(started)}")
        )
    speeds: dict[str, dict[str, list[float]]] = {row: {} for row in _ROWS}

    def note(process: Process, row: str, number: int, *, counts: bool) -> None:
        asked = case.counts.get(process.name, {}).get(row, len(stack))
        if (
            row == "write"
        ):  # else whoever comes when the system holds too many unwritten pages waits for those of others
            os.sync()
        taken = process.ask(what=row, number=number, count=asked)
        if counts:
            speeds[row].setdefault(process.name, []).append(stack.nbytes * asked / len(stack) / taken / 1e6)

    for number in range(rounds + 1):  # the first round warms up
        for process in started:
            note(process, "write", number, counts=number > 0)
    for process in started:
        process.ask(what="open", number=rounds)
    for row in list(_ROWS)[1:]:  # Ray last: its processes keep a few per cent of a core busy from then on
        for number in range(rounds + 1):
            for process in started:
                if row in process.able and (process.name, row) not in case.without:
                    note(process, row, number, counts=number > 0)
    for process in started:
        process.close()
    return speeds


def tabled(case: Case, speeds: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Medians in MB/s, and the median of the rounds' ratios to the catalog in brackets."""
    names = [name for name in (case.own, *case.others) if any(name in by_name for by_name in speeds.values())]
    lines = []
    for name in names:
        cells = []
        for row in _ROWS:
            values = speeds[row].get(name)
            if not values or case.own not in speeds[row]:
                cells.append("–")
                continue
            ratio = statistics.median(own / other for own, other in zip(speeds[row][case.own], values, strict=True))
            shown = f"{statistics.median(values):,.0f}"
            cells.append(shown if name == case.own else f"{shown} ({ratio:.2f})")
        lines.append([f"**{name}**" if name == case.own else name, *cells])
    return f"### {case.title}\n\n" + markdown(["", *_ROWS.values()], lines)


def machine() -> str:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    cores = len(os.sched_getaffinity(0))
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores ({model}), {gigabytes:.0f} GB of memory, load before {load:.1f}"
    )


def versions() -> str:
    """Of the libraries that were measured."""
    own = {name: metadata.version(name) for name in ("numpy", "torch", "zarr", "ray", "dask")}
    peers = os.environ.get("PEERS", "")
    if peers:
        code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
        out = subprocess.run([peers, "-c", code, *_ELSEWHERE.values()], capture_output=True, text=True, check=True)
        own |= json.loads(out.stdout)
    return ", ".join(f"{name} {version.partition('+')[0]}" for name, version in own.items())


def feeds(folder: Path) -> None:
    """All comparisons (``CASES=0,2``: some); where the peers are there, their sections of the page are written anew."""
    wanted = [int(one) for one in os.environ.get("CASES", ",".join(map(str, range(len(CASES))))).split(",")]
    for number in wanted:
        head = f"`CASES={number} python -m tests.benchmarks feeds`, {ROUNDS} rounds, {machine()}. {versions()}."
        table = tabled(CASES[number], measure(CASES[number], folder / f"case{number}"))
        section = f"{table}\n\n{head}"
        sys.stdout.write(f"\n{section}\n")
        sys.stdout.flush()
        shutil.rmtree(folder / f"case{number}")
        if os.environ.get("PEERS"):
            _write(section)


def _write(section: str) -> None:
    """Put a section into the page, instead of the one that has its title."""
    before, rest = _PAGE.read_text().split(_SECTION[0])
    held, after = rest.split(_SECTION[1])
    sections = {part.partition("\n")[0]: f"### {part.strip()}" for part in held.split("### ")[1:]}
    sections[section.partition("\n")[0].removeprefix("### ")] = section
    ordered = [sections[case.title] for case in CASES if case.title in sections]
    body = "\n\n".join(ordered)
    _PAGE.write_text(f"{before}{_SECTION[0]}\n\n{body}\n\n{_SECTION[1]}{after}")
