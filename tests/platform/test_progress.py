"""A bar in a terminal, a few log lines elsewhere."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from sensorium.platform.progress import progress

SCRIPT = """
import sys
import time
from sensorium.platform import logs
from sensorium.platform.progress import progress
logs.configure(1)
with progress("sweep photographs", total=3, unit="cells") as bar:
    bar.advance()
    bar.note("1 error")
    bar.advance(2)
print("done")
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time that the progress layer sees."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was logged."""
    logger = logging.getLogger("sensorium")
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level(logging.INFO, "sensorium")
    return lambda: caplog.messages


def test_log_line_is_due_after_a_while_only(
    clock: Callable[[float], None], told: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("sweep", total=40, unit="cells") as bar:
        for _ in range(10):
            bar.advance()
        assert told() == []
        clock(16)
        bar.advance(2)
        assert [line.strip() for line in told()] == ["sweep: 12 of 40 cells"]
        bar.note("3 errors")
        bar.advance()
        assert len(told()) == 1
        clock(16)
        bar.advance(0.5)
    assert told()[1:] == ["sweep: 13.5 of 40 cells 3 errors"]
    assert capsys.readouterr() == ("", "")


def test_log_line_without_a_total(clock: Callable[[float], None], told: Callable[[], list[str]]) -> None:
    with progress("scan", unit="files") as bar:
        clock(16)
        bar.advance(5)
    assert [line.strip() for line in told()] == ["scan: 5 files"]


def test_error_in_the_block_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), progress("fails", total=1):
        _ = 1 / 0


def test_no_bar_where_standard_error_is_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_bar_in_a_terminal_and_on_standard_error_only() -> None:
    terminal, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"},
        text=True,
    )
    os.close(side)
    drawn = b""
    try:
        while part := _read(terminal):
            drawn += part
        printed, _ = child.communicate()
    finally:
        os.close(terminal)
    assert child.returncode == 0
    assert printed == "done\n"
    text = drawn.decode()
    assert "sweep photographs" in text
    assert "3/3" in text
    assert "cells" in text
    assert "1 error" in text
    assert "\x1b[?25h" in text  # the cursor is shown again
    assert "\x1b[2K" in text.rpartition("3/3")[2]  # and the bar is wiped


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux tells that the other side has closed
        return b""
