"""Programs that may crash, hang or grow: run beside the process with a limit on time and memory."""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sensorium.platform.errors import ProgramFailed
from sensorium.platform.optional import require

__all__ = ["cpu_seconds", "ffmpeg", "memory_folder", "run"]

#: kept of what a program says when it fails
_SAID = 400


def run(
    arguments: Sequence[str],
    data: bytes = b"",
    *,
    seconds: float = 120.0,
    megabytes: int = 4096,
    cwd: str | None = None,
) -> bytes:
    """Run a program to its end and return its standard output.

    Args:
        arguments: the program and what it is told; no shell sees them.
        data: its standard input.
        seconds: of wall-clock time after which it is killed; also the limit of its CPU time.
        megabytes: limit of its address space.
        cwd: folder that it runs in.

    Raises:
        ProgramFailed: it ended with an error or a signal, took too long, or is not there.
    """
    name = Path(arguments[0]).name
    try:
        done = subprocess.run(
            list(arguments),
            input=data,
            capture_output=True,
            timeout=seconds,
            cwd=cwd,
            preexec_fn=functools.partial(_limit, int(seconds) + 1, megabytes << 20),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(f"{name} did not end within {seconds:g} s and was killed.") from error
    except OSError as error:
        raise ProgramFailed(f"{name} cannot be started: {error.strerror or error}.") from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[-_SAID:]
        how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        raise ProgramFailed(f"{name} {how}: {said or 'it said nothing'}.")
    return done.stdout


def _limit(seconds: int, nbytes: int) -> None:
    """In the child, before the program starts."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (nbytes, nbytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@functools.cache
def ffmpeg() -> str:
    """Path of the ffmpeg that comes with imageio-ffmpeg."""
    path: str = require("imageio_ffmpeg", "run ffmpeg").get_ffmpeg_exe()
    return path


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A new folder in memory where there is such a thing, else on disk; gone afterwards."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a fresh private folder is made in it
    with tempfile.TemporaryDirectory(prefix="sensorium-", dir=where) as folder:
        yield Path(folder)


def cpu_seconds() -> float:
    """CPU time of this thread and of all programs that this process has run to their end."""
    children = os.times()
    return time.thread_time() + children.children_user + children.children_system
