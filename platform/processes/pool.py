"""A small pool of processes that may crash, hang or grow without harm to the service: each does one job at a time.

Works on any event loop, asyncio's own or uvloop, also within a Ray actor. See :mod:`.zygote` for how workers come to be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sensorium.platform.errors import SensoriumError, WorkerFailed
from sensorium.platform.processes import wire
from sensorium.platform.processes.zygote import ANSWER, COMMAND, worker_folder

__all__ = ["JobLost", "Pool"]

logger = logging.getLogger(__name__)

#: a zygote that imports for longer than this on a busy machine is broken, s
_START_SECONDS = 120.0
#: a worker is replaced after so many jobs, for decoders leak
_JOBS_PER_WORKER = 500
#: threads of the libraries in a worker: there are as many workers as the machine is to give
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1"),
    "MALLOC_ARENA_MAX": "2",
}
#: of the environment, what workers get; never what may be secret
_PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "SYSTEMROOT")


class JobLost(SensoriumError):
    """A job's worker is gone, or was sent away.

    Attributes:
        cause: ``time``, ``memory``, ``crash``, or ``error`` for a job that raised what it should not.
    """

    def __init__(self, cause: Literal["time", "memory", "crash", "error"], detail: str) -> None:
        super().__init__(f"a job was lost ({cause}): {detail}.")
        self.cause = cause


@dataclass
class _Worker:
    connection: socket.socket
    number: int
    jobs: int = 0


class _Zygote:
    """The process that begets workers, seen from the parent. Its calls block, for milliseconds once it has started."""

    def __init__(self, module: str, environment: Mapping[str, str], open_files: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sensorium-workers-"))
        self._lock = threading.Lock()
        self._said = self.folder / "said"
        self._control, other = socket.socketpair()
        self._control.settimeout(_START_SECONDS)
        arguments = [str(other.fileno()), module, str(open_files)]
        with other, self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sensorium.platform.processes.zygote", *arguments],
                cwd=self.folder,
                env={**environment, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
                pass_fds=(other.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,  # Ctrl-C is for the service, which then closes in order
            )

    def beget(self) -> _Worker:
        """A new worker."""
        mine, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                socket.send_fds(self._control, [COMMAND.pack(b"s", 0)], [theirs.fileno()])
                number = self._answer()
        except OSError as error:
            mine.close()
            said = self._said.read_text(errors="replace").strip().rpartition("\n")[2]
            raise WorkerFailed(
                f"the process that starts workers has ended: {said or error}. See its message."
            ) from error
        mine.setblocking(False)
        return _Worker(mine, number)

    def reap(self, number: int) -> int:
        """The exit code of a worker that has ended or was killed: a signal's number, negative, or its own."""
        try:
            with self._lock:
                self._control.sendall(COMMAND.pack(b"r", number))
                code = self._answer()
        except OSError:  # the zygote is gone, and the workers' ids with it
            code = -signal.SIGKILL
        shutil.rmtree(self.folder / worker_folder(number), ignore_errors=True)
        return code

    def _answer(self) -> int:
        answer = self._control.recv(ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < ANSWER.size:
            raise ConnectionResetError("it closed its connection")
        return int(ANSWER.unpack(answer)[0])

    def close(self) -> None:
        self._control.close()  # it kills its workers then, and ends
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # it still imports
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Pool:
    """Processes that do the jobs of one module.

    The module has ``prepare()``, which imports what the jobs need, and ``JOBS``, a mapping of names to functions of the form
    ``zygote.Job``.
    """

    def __init__(
        self, module: str, *, processes: int = 2, environment: Mapping[str, str] | None = None, open_files: int = 64
    ) -> None:
        """Start the process that begets workers; it imports while the caller goes on.

        Args:
            module: dotted name.
            processes: workers at the same time.
            environment: of the workers; by default none of the parent's but its paths and language.
            open_files: that a worker may have.
        """
        kept = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._module, self._environment = module, {**(kept if environment is None else environment), **_ONE_THREAD}
        self._open_files = open_files
        self._zygote = self._started()
        self._turns = asyncio.Semaphore(processes)
        self._idle: list[_Worker] = []
        self._renewing = threading.Lock()
        self._closed = False

    def _started(self) -> _Zygote:
        return _Zygote(self._module, self._environment, self._open_files)

    async def run(
        self,
        job: str,
        request: Mapping[str, Any],
        buffers: Sequence[wire.Buffer] = (),
        *,
        seconds: float,
        megabytes: int,
        answer_bytes: int,
    ) -> tuple[dict[str, Any], list[memoryview]]:
        """Do a job in a worker of its own, once one is free; a job that is cancelled takes its worker along.

        Args:
            job: a name of the module's ``JOBS``.
            request: what the job gets, of JSON's types.
            buffers: bytes for it.
            seconds: wall-clock and CPU time, s.
            megabytes: address space beyond what a worker takes by itself, MiB.
            answer_bytes: most that the buffers of the answer may have.

        Returns:
            The job's answer and its buffers.

        Raises:
            JobLost: the job ended otherwise.
            WorkerFailed: no worker can be started.
        """
        if self._closed:
            raise WorkerFailed("the pool of workers is closed. Make a new one.")
        header = {"job": job, "request": request, "seconds": seconds, "megabytes": megabytes}
        async with self._turns:
            worker = self._take()
            if worker is None:
                worker = await asyncio.to_thread(self._beget)
            try:
                async with asyncio.timeout(seconds):
                    answer, views = await _exchange(worker.connection, header, buffers, answer_bytes)
            except TimeoutError as error:
                await self._dismiss(worker)
                raise JobLost("time", f"it took more than {seconds:g} s") from error
            except (OSError, wire.BadMessage) as error:
                raise _lost(await self._dismiss(worker), error) from error
            except BaseException:
                self._dismiss_soon(worker)
                raise
            worker.jobs += 1
            if worker.jobs < _JOBS_PER_WORKER and answer.get("failed") is None:
                self._idle.append(worker)
            else:
                self._dismiss_soon(worker)
        return _opened(answer), views

    def _take(self) -> _Worker | None:
        """A worker that waits and still lives."""
        while self._idle:
            worker = self._idle.pop()
            try:
                worker.connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:  # nothing said, not closed
                return worker
            except OSError:
                logger.debug("worker %d is gone", worker.number)
            self._dismiss_soon(worker)
        return None

    def _beget(self) -> _Worker:
        zygote = self._zygote
        try:
            return zygote.beget()
        except WorkerFailed as error:
            logger.warning("%s It is started anew.", error)
            with self._renewing:
                if self._zygote is zygote:  # the first of those who notice
                    zygote.close()
                    self._zygote = self._started()
            return self._zygote.beget()

    async def _dismiss(self, worker: _Worker) -> int:
        """Kill a worker; its exit code."""
        return await asyncio.to_thread(self._reap, worker, self._kill(worker))

    def _dismiss_soon(self, worker: _Worker) -> None:
        """Kill a worker now, and let a thread wait for its end: the caller may be one that must not wait."""
        threading.Thread(target=self._reap, args=(worker, self._kill(worker)), daemon=True).start()

    def _kill(self, worker: _Worker) -> _Zygote:
        try:
            os.kill(worker.number, signal.SIGKILL)  # of one that has ended already it changes nothing
        except ProcessLookupError:
            logger.debug("worker %d ended with its zygote", worker.number)
        worker.connection.close()
        return self._zygote

    @staticmethod
    def _reap(worker: _Worker, zygote: _Zygote) -> int:
        return zygote.reap(worker.number)

    def close(self) -> None:
        """End all processes; jobs that run are lost."""
        self._closed = True
        for worker in self._idle:
            worker.connection.close()
        self._idle.clear()
        self._zygote.close()


async def _exchange(
    connection: socket.socket, header: Mapping[str, Any], buffers: Sequence[wire.Buffer], most: int
) -> tuple[dict[str, Any], list[memoryview]]:
    loop = asyncio.get_running_loop()
    for piece in wire.encode(header, buffers):
        await loop.sock_sendall(connection, piece)
    prefix = bytearray(wire.PREFIX.size)
    await _fill(loop, connection, memoryview(prefix))
    header_length, buffers_length = wire.lengths(prefix, most)
    text, contents = bytearray(header_length), np.empty(buffers_length, np.uint8).data
    await _fill(loop, connection, memoryview(text))
    await _fill(loop, connection, contents)
    return wire.decode(text, contents)


async def _fill(loop: asyncio.AbstractEventLoop, connection: socket.socket, target: memoryview) -> None:
    place = 0
    while place < len(target):
        count = await loop.sock_recv_into(connection, target[place:])
        if not count:
            raise ConnectionResetError("the worker closed its connection")
        place += count


def _lost(code: int, error: Exception) -> JobLost:
    """What became of a worker that ended with this exit code; -SIGKILL is ours too, where it only misbehaved."""
    if isinstance(error, wire.BadMessage):
        return JobLost("crash", str(error).rstrip("."))
    if code == -signal.SIGXCPU:
        return JobLost("time", "it used more CPU time than it may")
    if code == -signal.SIGALRM:
        return JobLost("time", "it took longer than it may")
    if code == -signal.SIGKILL:
        return JobLost("memory", "the system killed its worker")
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return JobLost("crash", f"its worker ended with {name}")


def _opened(answer: Mapping[str, Any]) -> dict[str, Any]:
    if answer.get("failed") == "memory":
        raise JobLost("memory", "it needs more memory than it may take")
    if "failed" in answer:
        raise JobLost("error", str(answer.get("error"))[:1000])
    content = answer.get("answer")
    if not isinstance(content, dict):
        raise JobLost("crash", "its worker sent no answer")
    return content
