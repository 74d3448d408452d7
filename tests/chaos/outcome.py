"""What a fault is measured by: what is in the lake afterwards, against what should be."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sensorium.catalog import Dataset

__all__ = ["Ledger", "Outcome", "Unavailable", "command", "finished", "start", "waited"]

#: seconds that a command may take; a cluster that lost its head is given up by Ray after a minute
PATIENCE_S = 240.0


class Unavailable(Exception):
    """The fault cannot be made on this machine, and why."""


@dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes:
        promise: what should happen.
        seen: what did, with figures.
        held: whether that is what was promised.
    """

    promise: str
    seen: str
    held: bool


@dataclass(frozen=True)
class Ledger:
    """What is in a data set, against what should be.

    Attributes:
        expected: how many things should be there.
        lost, twice, foreign, failed, damaged: things that are not; that are more than once; that should not be there; whose
            row is an error; whose payload is not what was committed.
    """

    expected: int
    lost: int = 0
    twice: int = 0
    foreign: int = 0
    failed: int = 0
    damaged: int = 0

    @classmethod
    def of(cls, dataset: Dataset, expected: Iterable[Hashable], found: Iterable[Hashable], failed: int = 0) -> Ledger:
        """What should be in a data set, and what names it has, repetitions and all."""
        wanted, names = set(expected), list(found)
        there = set(names)
        return cls(
            expected=len(wanted),
            lost=len(wanted - there),
            twice=len(names) - len(there),
            foreign=len(there - wanted),
            failed=failed,
            damaged=dataset.verify().height,
        )

    @property
    def whole(self) -> bool:
        return self == Ledger(self.expected) and self.expected > 0

    def __str__(self) -> str:
        here = f"{self.expected - self.lost} of {self.expected} there, {self.twice} twice"
        others = {"not asked for": self.foreign, "errors": self.failed, "damaged": self.damaged}
        return ", ".join([here, *(f"{count} {name}" for name, count in others.items() if count)])


def command(*words: object) -> list[str]:
    """The command line of a user."""
    return [str(Path(sysconfig.get_path("scripts")) / "sensorium"), *map(str, words)]


def start(words: Iterable[object], log: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; what it says goes to the end of ``log``."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*map(str, words)],
            env={**os.environ, **(environment or {})},
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def finished(process: subprocess.Popen[bytes], limit: float = PATIENCE_S) -> int | None:
    """The exit code of a program; None where it had to be ended after ``limit`` seconds."""
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def waited(
    condition: Callable[[], bool], what: str, limit: float = PATIENCE_S, *, alive: subprocess.Popen[bytes] | None = None
) -> None:
    """Return when ``condition`` holds.

    Raises:
        RuntimeError: it did not in ``limit`` seconds, or the program that should bring it about has ended.
    """
    deadline = time.monotonic() + limit
    while not condition():
        if alive is not None and alive.poll() is not None and not condition():
            raise RuntimeError(f"the program ended with {alive.returncode} before {what}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come in {limit:.0f} s")
        time.sleep(0.02)
