"""Long jobs: begun by one request, asked after by others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sensorium.platform.errors import SensoriumError, UserError
from sensorium.serve.gateway import Busy

__all__ = ["Job", "Tasks", "UnknownTask"]

logger = logging.getLogger(__name__)

#: jobs that have ended and are still remembered
_KEPT = 500


class UnknownTask(UserError, KeyError):
    """No job of that id."""


@dataclass
class Job:
    """A job.

    Attributes:
        id: of the job.
        kind: what it does.
        state: ``waiting``, ``running``, ``finished``, ``failed`` or ``cancelled``.
        created, ended: seconds since 1970; ``ended`` is 0 until then.
        result: what it gave.
        error: why it failed.
    """

    id: str
    kind: str
    state: str = "waiting"
    created: float = field(default_factory=time.time)
    ended: float = 0.0
    result: Any = None
    error: str = ""


class Tasks:
    """The jobs of one server. What they make is in the lake; only their states are here."""

    def __init__(self, running: int) -> None:
        """``running``: jobs at a time; as many again may wait."""
        self._limit = running
        self._slots = asyncio.Semaphore(running)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def start(self, kind: str, work: Callable[[], Awaitable[Any]]) -> Job:
        """Begin a job.

        Raises:
            Busy: too many are waiting.
        """
        if len(self._under_way) >= 2 * self._limit:
            raise Busy(f"{len(self._under_way)} long jobs are under way. Try again when one has ended.")
        job = Job(secrets.token_hex(8), kind)
        self._jobs[job.id] = job
        self._under_way[job.id] = asyncio.create_task(self._run(job, work))
        ended = [key for key, held in self._jobs.items() if key not in self._under_way and held.ended]
        for key in ended[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[key]
        return job

    def get(self, identifier: str) -> Job:
        """A job.

        Raises:
            UnknownTask: there is none, or it ended long ago.
        """
        if identifier not in self._jobs:
            raise UnknownTask(
                f"there is no task {identifier!r:.40}: it was never begun, or the server has forgotten it."
            )
        return self._jobs[identifier]

    def all(self) -> list[Job]:
        """Every job, newest first."""
        return list(reversed(self._jobs.values()))

    async def cancel(self, identifier: str) -> Job:
        """Stop a job; what it has committed stays."""
        job = self.get(identifier)
        running = self._under_way.get(identifier)
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        return job

    async def close(self) -> None:
        """Stop all."""
        for identifier in list(self._under_way):
            await self.cancel(identifier)

    async def _run(self, job: Job, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            async with self._slots:
                job.state = "running"
                job.result = await work()
                job.state = "finished"
        except asyncio.CancelledError:
            job.state = "cancelled"
        except SensoriumError as error:
            job.state, job.error = "failed", str(error)
        except Exception:
            logger.exception("task %s failed", job.id)
            job.state, job.error = "failed", f"the server failed; the operator finds {job.id} in its log."
        finally:
            job.ended = time.time()
            self._under_way.pop(job.id, None)
