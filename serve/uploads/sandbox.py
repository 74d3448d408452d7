"""The way in: bytes of strangers in, a checked sample out, whatever the bytes do to their reader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sensorium.catalog import modality as modalities
from sensorium.platform.errors import MissingDependency
from sensorium.platform.processes import wire
from sensorium.platform.processes.pool import JobLost, Pool
from sensorium.serve.uploads import readers
from sensorium.serve.uploads.errors import DAMAGED, NOT_TAKEN, TOO_LARGE, RejectedUpload
from sensorium.serve.uploads.limits import Limits

__all__ = ["Sandbox"]

logger = logging.getLogger(__name__)

#: arrays of up to this are looked through on the event loop itself: less than half a millisecond
_AT_ONCE = 1 << 20
_MODULE = "sensorium.serve.uploads.jobs"
_STATUSES = (DAMAGED, NOT_TAKEN, TOO_LARGE)


class Sandbox:
    """Reads uploads in processes of its own; one for a service.

    A file that crashes its reader, hangs it or makes it grow ends that one worker, and is answered as any other damaged file;
    uploads beside it are not touched.

    Attributes:
        limits: of each upload, where it comes without its own.
    """

    def __init__(self, limits: Limits | None = None, *, processes: int = 2) -> None:
        """Start the processes.

        Args:
            limits: of each upload.
            processes: files that are parsed at the same time.
        """
        self.limits = limits if limits is not None else Limits()
        self._pool = Pool(_MODULE, processes=processes)

    async def read(
        self, files: Mapping[str, bytes], modality: str, scalars: Mapping[str, Any], limits: Limits | None = None
    ) -> dict[str, Any]:
        """One sample; as :func:`.readers.read`, but apart.

        Plain NumPy arrays, and scalars without a file, are looked through here; the arrays are not copied, and read-only.

        Raises:
            RejectedUpload: 413, 415 or 422, with the reason in words.
            UnknownPlugin: there is no such modality.
            MissingDependency: what reads such files is not installed.
            WorkerFailed: no process can be started.
        """
        modalities.get(modality)
        bounds = limits if limits is not None else self.limits
        if not readers.only_arrays(files):
            readers.check_files(files, scalars, bounds)
            return await self._read_apart(files, modality, scalars, bounds)
        if files and sum(len(data) for data in files.values()) <= _AT_ONCE:
            return readers.read(files, modality, scalars, bounds)
        return await asyncio.to_thread(readers.read, files, modality, scalars, bounds)

    async def _read_apart(
        self, files: Mapping[str, bytes], modality: str, scalars: Mapping[str, Any], limits: Limits
    ) -> dict[str, Any]:
        request = {"files": list(files), "modality": modality, "scalars": dict(scalars), "limits": asdict(limits)}
        try:
            answer, buffers = await self._pool.run(
                "read",
                request,
                list(files.values()),
                seconds=limits.seconds,
                megabytes=limits.megabytes,
                answer_bytes=limits.array_bytes + (1 << 20),  # the gaps between arrays
            )
            if "missing" in answer:
                raise MissingDependency(str(answer["missing"]))
            if "rejected" in answer:
                status = answer.get("status")
                raise RejectedUpload(str(answer["rejected"]), status if status in _STATUSES else DAMAGED)
            return wire.unpack(answer, buffers)
        except (JobLost, wire.BadMessage) as error:
            logger.warning("an upload for modality %s was given up: %s", modality, error)
            raise _explained(error, limits) from error

    def close(self) -> None:
        """End the processes; what they read is lost."""
        self._pool.close()


def _explained(error: JobLost | wire.BadMessage, limits: Limits) -> RejectedUpload:
    cause = error.cause if isinstance(error, JobLost) else "crash"
    if cause == "time":
        return RejectedUpload(
            f"the upload takes more than {limits.seconds:g} s to read. Send a smaller or simpler file.", TOO_LARGE
        )
    if cause == "memory":
        return RejectedUpload(
            f"the upload takes more than {limits.megabytes} MiB to read. Send a smaller file.", TOO_LARGE
        )
    return RejectedUpload("the upload crashed its reader, so it is damaged. Export it anew from its source.")
