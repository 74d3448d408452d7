"""Jobs of a worker that a file has taken over: what the test asks for happens in it."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.platform.processes import wire
from sensorium.platform.processes.zygote import Job
from sensorium.serve.uploads import jobs

prepare = jobs.prepare


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (os.putenv, ("SENSORIUM_UNPICKLED", "1"))


def _parent() -> socket.socket:
    """The worker's connection to the service."""
    for number in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                return socket.socket(fileno=os.dup(number))
        except OSError:
            continue
    raise LookupError("no socket")


def _mischief(name: str) -> None:
    if name == "SEGFAULT":
        ctypes.string_at(0)
    elif name == "LOOP":
        while True:
            pass
    elif name == "SLEEP":
        time.sleep(3600)
    elif name == "HOG":
        hoard = []
        while True:
            hoard.append(bytearray(16 << 20))
    elif name == "SYSTEM":  # what the kernel does where memory is short
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "EXIT":
        os._exit(3)
    elif name == "RAISE":
        raise ZeroDivisionError("surprise")
    elif name == "GARBAGE":
        _parent().sendall(b"\xff" * 4096)
        time.sleep(3600)
    elif name == "PICKLE":
        content = pickle.dumps(Evil())
        _parent().sendall(wire.PREFIX.pack(b"SNS1", len(content), 0) + content)
        time.sleep(3600)
    elif name == "HUGE":
        _parent().sendall(wire.PREFIX.pack(b"SNS1", 10, 1 << 60))
        time.sleep(3600)


def _read(request: Mapping[str, Any], buffers: Sequence[memoryview]) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:
    """As the true one, but for files that say what they want to do."""
    name = bytes(buffers[0]).rpartition(b"DO:")[2].decode("latin-1")
    if name == "OBJECTS":
        return {"arrays": [["image", "|O", [1]]], "scalars": {}}, (bytes(8),)
    if name == "SHAPE":
        return {"arrays": [["image", "|u1", [1 << 40]]], "scalars": {}}, (bytes(8),)
    _mischief(name)
    return jobs.JOBS["read"](request, buffers)


def _look(request: Mapping[str, Any], buffers: Sequence[memoryview]) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:
    """What the worker sees."""
    limits = {
        name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_AS")
    }
    return {
        "environment": dict(os.environ),
        "limits": limits,
        "folder": os.getcwd(),
        "temporary": tempfile.gettempdir(),
        "files": [str(path) for path in Path.cwd().rglob("*") if path.is_file()],
        "number": os.getpid(),
        "sum": int(np.frombuffer(buffers[0], np.uint8).sum()) if buffers else 0,
    }, ()


def _do(request: Mapping[str, Any], _: Sequence[memoryview]) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:
    _mischief(request["what"])
    return {"done": True}, ()


JOBS: dict[str, Job] = {"read": _read, "look": _look, "do": _do}
