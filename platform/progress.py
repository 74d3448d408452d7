"""The one progress layer: a bar in a terminal, a few log lines elsewhere.

>>> with progress("sweep", total=3, unit="cells") as bar:
...     bar.advance(3)
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Bar", "Progressed", "progress"]

logger = logging.getLogger(__name__)

#: seconds between two log lines where there is no terminal
_LOG_EVERY = 15.0


class Bar(Protocol):
    """What a job tells about how far it is."""

    def advance(self, amount: float = 1) -> None:
        """``amount`` more units are done."""

    def note(self, text: str) -> None:
        """A short remark behind the bar, such as the number of errors."""


@dataclass(frozen=True)
class Progressed:
    """How far a job in another process is, for whoever shows it.

    Attributes:
        title, total, unit: of its bar.
        done: so many units.
        note: the remark behind the bar.
    """

    title: str
    total: float
    unit: str
    done: float
    note: str = ""


class _LogBar:
    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0.0
        self._note = ""
        self._told = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        if time.monotonic() - self._told >= _LOG_EVERY:
            self._told = time.monotonic()
            of = f" of {self._total:g}" if self._total is not None else ""
            logger.info("%s: %g%s %s %s", self._title, self._done, of, self._unit, self._note)

    def note(self, text: str) -> None:
        self._note = text


class _RichBar:
    def __init__(self, bars: object, task: int) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._task, amount)  # type: ignore[attr-defined]

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=text)  # type: ignore[attr-defined]


@contextmanager
def progress(title: str, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """A progress bar on standard error if that is a terminal, else a log line now and then."""
    if not sys.stderr.isatty():
        yield _LogBar(title, total, unit)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _RichBar(bars, bars.add_task(title, total=total, unit=unit, note=""))
