"""Where the groups of an import are read: in this process, in processes beside it, or as tasks of Ray.

Decoders of foreign files may crash, hang or grow. Importers that use such decoders are never run in the user's process; a
group whose reader is lost is read again sample by sample, so that one file is to blame and the others go in.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from sensorium.catalog.declaration import Declaration
from sensorium.catalog.importer import Item
from sensorium.catalog.reading import Failure, Group, Read, read_group
from sensorium.catalog.reading_message import pack, unpack_plan
from sensorium.platform.errors import SensoriumError, WorkerFailed, ours
from sensorium.platform.processes.pool import JobLost, Pool

__all__ = ["Beside", "Here", "Lost", "Reader", "here", "processes", "ray_tasks"]

_MODULE = "sensorium.catalog.reading_jobs"
#: rows and failures of one group
_ANSWER_BYTES = 256 << 20
#: items of a plan, of millions of samples, and the time to look into all of their files
_PLAN_BYTES, _PLAN_SECONDS = 4 << 30, 3600.0
_OPEN_FILES = 512


class Lost(SensoriumError):
    """The process that read a group died, or was ended."""


class Reader(Protocol):
    """Reads groups, several at a time.

    Attributes:
        at_once: groups that it reads at a time.
    """

    at_once: int

    def submit(self, group: Group) -> Future[Read]:
        """Read a group; the future raises Lost where its process died."""


class Here:
    """Threads of this process, which cannot be ended."""

    def __init__(self, executor: ThreadPoolExecutor, threads: int) -> None:
        self.at_once, self._executor = threads, executor

    def submit(self, group: Group) -> Future[Read]:
        return self._executor.submit(read_group, group)


@contextmanager
def here(threads: int) -> Iterator[Reader]:
    """Read in threads of this process."""
    executor = ThreadPoolExecutor(threads, thread_name_prefix="sensorium-read")
    try:
        yield Here(executor, threads)
    finally:
        executor.shutdown(cancel_futures=True)


class Beside:
    """Processes of :class:`.Pool`, whose coroutines run in a thread of their own: the caller may have an event loop."""

    def __init__(self, workers: int) -> None:
        self.at_once = workers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sensorium-read", daemon=True)
        self._thread.start()
        # all of the environment: whoever reads from, and writes to, storage needs its credentials
        self._pool = Pool(_MODULE, processes=workers, environment=dict(os.environ), open_files=_OPEN_FILES)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._megabytes = int(0.8 * memory / workers) >> 20

    def submit(self, group: Group) -> Future[Read]:
        return asyncio.run_coroutine_threadsafe(self._read(group), self._loop)

    async def _read(self, group: Group) -> Read:
        request, contents = pack(group)
        seconds = group.seconds * len(group.items) + 60
        answer, buffers = await self._run("read", request, contents, seconds, _ANSWER_BYTES)
        failures = {int(index): Failure(path, kind, message) for index, path, kind, message in answer["failures"]}
        return Read(bytes(buffers[0]), failures)

    def plan(self, request: Mapping[str, Any]) -> tuple[tuple[Item, ...], Declaration]:
        """The plan of a source, and the declaration of what it makes; see :mod:`.reading_jobs` for the request."""
        running = self._run("plan", dict(request), [], _PLAN_SECONDS, _PLAN_BYTES)
        answer, buffers = asyncio.run_coroutine_threadsafe(running, self._loop).result()
        return unpack_plan(answer, buffers)

    async def _run(
        self, job: str, request: dict[str, Any], contents: list[bytes], seconds: float, most: int
    ) -> tuple[Mapping[str, Any], Sequence[memoryview]]:
        try:
            answer, buffers = await self._pool.run(
                job, request, contents, seconds=seconds, megabytes=self._megabytes, answer_bytes=most
            )
        except JobLost as error:
            raise Lost(str(error)) from error
        if "stopped" in answer:
            kind, message = answer["stopped"]
            raise Failure("", str(kind), str(message)).error()
        return answer, buffers

    def close(self) -> None:
        self._pool.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


#: for so many workers, with this environment and these places of modules
_Kind = tuple[int, frozenset[tuple[str, str]], tuple[str, ...]]
_kept: list[tuple[_Kind, Beside]] = []
_keeping = threading.Lock()


@contextmanager
def processes(workers: int) -> Iterator[Beside]:
    """Read in processes beside this one. They wait for the next import afterwards: starting them takes most of a second."""
    wanted = workers, frozenset(os.environ.items()), tuple(sys.path)
    with _keeping:
        found = _kept.pop()[1] if _kept and _kept[-1][0] == wanted else None
    reader = found or Beside(workers)
    try:
        yield reader
    except BaseException:
        reader.close()  # what is still being read is not wanted any more
        raise
    with _keeping:
        spare = [kept for _, kept in _kept]
        _kept[:] = [(wanted, reader)]
    for other in spare:
        other.close()


@atexit.register
def _end() -> None:
    for _, reader in _kept:
        reader.close()


class _Tasks:
    def __init__(self) -> None:
        import ray

        self.at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._read = ray.remote(num_cpus=1, max_retries=0)(read_group)
        self._gone = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.LocalRayletDiedError,
            ray.exceptions.ObjectLostError,
        )

    def submit(self, group: Group) -> Future[Read]:
        answer: Future[Read] = Future()
        self._read.remote(group).future().add_done_callback(lambda done: self._pass_on(done, answer))
        return answer

    def _pass_on(self, done: Future[Any], answer: Future[Read]) -> None:
        import ray

        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        elif isinstance(error, self._gone):
            answer.set_exception(Lost(str(error).splitlines()[0]))
        elif isinstance(error, ray.exceptions.RayError):
            answer.set_exception(ours(error) or WorkerFailed(f"a task that reads files failed: {error}"))
        else:
            answer.set_exception(error)


@contextmanager
def ray_tasks() -> Iterator[Reader]:
    """Read as tasks of the Ray session that is running, on any of its machines; all must see the files and the lake."""
    yield _Tasks()
