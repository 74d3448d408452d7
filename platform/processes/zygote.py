"""The process that begets workers: it imports what they need once, then only forks.

Run as ``python -P -m sensorium.platform.processes.zygote FD MODULE FILES``. It is not the fork server of :mod:`multiprocessing`:
that one runs the parent's main module again in every worker (of a Ray actor, all of Ray), is one for the whole process whoever
has started it first, and sends pickles.

On the socket ``FD`` it takes commands of one letter and eight bytes: ``s`` with a socket, beget a worker that serves it, and
answer with its process id; ``r`` and a process id, wait for that worker, and answer with how it ended. A worker that has ended
keeps its id until then, so that the parent can never signal a stranger. Where the parent is gone, all workers are killed.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from sensorium.platform.processes import wire

__all__ = ["ANSWER", "COMMAND", "Job", "main", "worker_folder"]

COMMAND, ANSWER = struct.Struct("<cq"), struct.Struct("<q")

#: header and buffers in, header and buffers out
Job = Callable[[Mapping[str, Any], Sequence[memoryview]], tuple[Mapping[str, Any], Sequence[wire.Buffer]]]

_MAX_REQUEST = 4 << 30
_PAGE = resource.getpagesize()


def worker_folder(number: int) -> str:
    """Name of the private folder of the worker with this process id, below the zygote's working folder."""
    return f"worker-{number}"


def main() -> None:
    """Serve commands until the parent closes the socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    module = importlib.import_module(sys.argv[2])
    module.prepare()
    jobs: dict[str, Job] = module.JOBS
    gc.collect()
    gc.freeze()  # the collector of a worker shall not touch, and so copy, what all share
    open_files = int(sys.argv[3])
    workers: set[int] = set()
    while True:
        command, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 1)
        if len(command) < COMMAND.size:
            break
        letter, number = COMMAND.unpack(command)
        if letter == b"s":
            born = _beget(control, descriptors[0], jobs, open_files)
            workers.add(born)
            control.sendall(ANSWER.pack(born))
        elif letter == b"r":
            workers.discard(number)
            control.sendall(ANSWER.pack(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])))
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    shutil.rmtree(os.getcwd(), ignore_errors=True)  # a parent that was killed could not


def _beget(control: socket.socket, descriptor: int, jobs: Mapping[str, Job], open_files: int) -> int:
    child = os.fork()
    if not child:
        control.close()
        _work(socket.socket(fileno=descriptor), jobs, open_files)
    os.close(descriptor)
    return child


def _work(connection: socket.socket, jobs: Mapping[str, Job], open_files: int) -> NoReturn:
    """Serve one job after the other until the connection closes; never return into the zygote's own code."""
    status = 1
    try:
        _lock_up(open_files)
        while (message := wire.receive(connection, _MAX_REQUEST)) is not None:
            header, buffers = message
            _bound(float(header["seconds"]), int(header["megabytes"]))
            answer, contents = _answer(jobs[header["job"]], header["request"], buffers)
            del message, header, buffers
            wire.send(connection, answer, contents)
            del answer, contents
        status = 0
    finally:
        os._exit(status)


def _lock_up(open_files: int) -> None:
    """A folder of its own, no output, no cores, few open files. Memory and time are bounded job by job."""
    folder = worker_folder(os.getpid())
    os.mkdir(folder, 0o700)
    os.chdir(folder)
    tempfile.tempdir = os.getcwd()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # decoders quote what they read
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def _bound(seconds: float, megabytes: int) -> None:
    """Bounds of a job: CPU time and address space beyond what has been used so far.

    Soft ones, for the next job moves them; the parent's clock does not depend on the worker's goodwill.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1, resource.RLIM_INFINITY))
    with open("/proc/self/statm", "rb") as stream:
        taken = int(stream.read().split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (taken + (megabytes << 20), resource.RLIM_INFINITY))


def _answer(
    job: Job, request: Mapping[str, Any], buffers: Sequence[memoryview]
) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:
    try:
        answer, contents = job(request, buffers)
    except MemoryError:
        return {"failed": "memory"}, ()
    except Exception as error:  # noqa: BLE001 - the worker is whole: its parent says what it means
        return {"failed": "error", "error": f"{type(error).__name__}: {error}"[:1000]}, ()
    return {"answer": answer}, contents


if __name__ == "__main__":
    main()
