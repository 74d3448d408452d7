"""Programs that may crash, hang or grow: run beside the process with a limit on time and memory."""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sensorium.platform.errors import ProgramFailed
from sensorium.platform.optional import require

__all__ = ["cpu_seconds", "ffmpeg", "memory_folder", "run"]

#: kept of what a program says when it fails
_SAID = 400

#: Sets the limits (seconds of CPU, KiB of address space, no core file) and becomes the program. Not done by code between
#: fork and exec (``preexec_fn``): that may hang where the process has threads, and copies its page tables each time.
_LIMITED = ("sh", "-c", 'ulimit -t "$1" && ulimit -v "$2" && ulimit -c 0 && shift 2 && exec "$@"', "sh")
_NOT_STARTED = (126, 127)  # what the shell returns if there is no such program, or it is none


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
        arguments: the program and what it is told; no shell expands them.
        data: its standard input.
        seconds: of wall-clock time after which it is killed; also the limit of its CPU time.
        megabytes: limit of its address space.
        cwd: folder that it runs in.

    Raises:
        ProgramFailed: it ended with an error or a signal, took too long, or is not there.
    """
    name = Path(arguments[0]).name
    limited = [*_LIMITED, str(int(seconds) + 1), str(megabytes << 10), *arguments]
    try:
        program = subprocess.Popen(
            limited, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd
        )
    except OSError as error:
        raise ProgramFailed(f"{name} cannot be started: {error.strerror or error}.") from error
    late = threading.Event()
    # not the time-out of communicate(): it looks for the end every few milliseconds, and a core is idle till it looks
    timer = threading.Timer(seconds, _end_late, (program, late))
    timer.daemon = True
    with program:
        timer.start()
        try:
            output, said = program.communicate(data)
        except BaseException:
            program.kill()
            raise
        finally:
            timer.cancel()
    code = program.returncode
    if late.is_set():
        raise ProgramFailed(f"{name} did not end within {seconds:g} s and was killed.")
    if code in _NOT_STARTED:
        raise ProgramFailed(f"{name} cannot be started: {_end(said)}.")
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        raise ProgramFailed(f"{name} {how}: {_end(said)}.")
    return output


def _end_late(program: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    program.kill()


def _end(said: bytes) -> str:
    """The end of what a program said, on one line."""
    return " ".join(said.decode(errors="replace").split())[-_SAID:] or "it said nothing"


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
    """CPU time of this process, with all its threads, and of all programs that it has run to their end.

    Of all threads, because x265 and SVT-AV1 work in threads of their own; so measure one thing at a time.
    """
    programs = resource.getrusage(resource.RUSAGE_CHILDREN)  # os.times() counts in steps of 10 ms
    return time.process_time() + programs.ru_utime + programs.ru_stime
