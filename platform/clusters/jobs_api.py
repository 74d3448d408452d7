"""Ray's Jobs API, with the errors of this project.

The API is part of the head's dashboard and speaks HTTP, by default at port 8265. A cluster with token authentication wants the
token in every request; Ray's client adds it when ``RAY_AUTH_MODE`` is ``token``, from ``RAY_AUTH_TOKEN``, the file that
``RAY_AUTH_TOKEN_PATH`` names, or ``~/.ray/auth_token``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from sensorium.platform.errors import (
    InvalidSetting,
    MissingCredentials,
    StorageError,
    UserError,
    WorkerFailed,
    close_matches,
)
from sensorium.platform.optional import require
from sensorium.platform.session import reread_authentication

__all__ = ["ENDED", "Jobs", "Submitted", "UnknownJob", "is_elsewhere", "jobs_address"]

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
logger = logging.getLogger(__name__)

_STOPPED_CODE = 130
_KNOCK_S = 5.0
_POLL_S = 0.5
#: the longest that the cluster may be out of reach while a job is followed, as when its head restarts
_PATIENCE_S = 120.0
_SCHEMES = ("http", "https")
#: modules of Ray that tell of every package that they send, whatever the level above them
_TALKERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


class UnknownJob(UserError, KeyError):
    """The cluster knows no job of that id."""


@dataclass(frozen=True)
class Submitted:
    """A job that was submitted, as the cluster describes it.

    Attributes:
        id: its submission id.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        command: the shell command.
        started, ended: moments; None before.
        exit_code: of the command; None while it runs, or where it was not even started.
        message: the cluster's, such as why it failed.
    """

    id: str
    status: str
    command: str
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    message: str

    @property
    def code(self) -> int:
        """The exit code that stands for the job's end."""
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return _STOPPED_CODE
        return self.exit_code or 1


def jobs_address(address: str) -> str:
    """URL of the Jobs API: ``address`` if it is one, else what ``RAY_API_SERVER_ADDRESS`` says.

    Raises:
        InvalidSetting: neither is; what it looks like.
    """
    named = address if urlsplit(address).scheme in _SCHEMES else os.environ.get("RAY_API_SERVER_ADDRESS", "") or address
    if named and "://" not in named and ":" in named:
        named = f"http://{named}"
    parts = urlsplit(named)
    try:
        if parts.scheme in _SCHEMES and parts.hostname and parts.port is not False:
            return named.rstrip("/")
    except ValueError:  # a port that is none
        pass
    raise InvalidSetting(
        f"jobs are submitted to the HTTP address of a cluster's head; got {named or 'none'}. Name it with "
        "--address http://HEAD:8265 or RAY_API_SERVER_ADDRESS. Into Kubernetes: kubectl port-forward "
        "service/CLUSTER-head-svc 8265, then --address http://127.0.0.1:8265."
    )


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str) -> None:
        """Connect.

        Raises:
            InvalidSetting: the address is none of a Jobs API.
            UserError: nobody answers there, or something else does.
            MissingCredentials: the cluster wants a token, or another one.
        """
        require("ray", "submit jobs")
        submission = require("ray.job_submission", "submit jobs")
        self.address = jobs_address(address)
        for name in _TALKERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        _use_token()
        _knock(self.address)
        with self._errors():
            self._client = submission.JobSubmissionClient(self.address)

    def submit(
        self, identity: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> bool:
        """Submit a job; False where one of that id is there already, as when two submit the same at a time."""
        try:
            with self._errors():
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=identity,
                    runtime_env=dict(runtime_env),
                    metadata=dict(metadata),
                )
        except WorkerFailed:
            if any(job.id == identity for job in self.all()):
                return False
            raise
        return True

    def all(self) -> list[Submitted]:
        """The jobs that were submitted, oldest first; drivers that joined by themselves are none."""
        with self._errors():
            found = self._client.list_jobs()
        jobs = [_submitted(details) for details in found if details.submission_id]
        return sorted(jobs, key=lambda job: (job.started or datetime.now(UTC), job.id))

    def one(self, identity: str) -> Submitted:
        """A job.

        Raises:
            UnknownJob: there is none of that id; names those that are like it.
        """
        jobs = {job.id: job for job in self.all()}
        if identity not in jobs:
            raise UnknownJob(
                f"the cluster at {self.address} has no job {identity!r}. {close_matches(identity, jobs)} "
                "See: sensorium jobs list."
            )
        return jobs[identity]

    def logs(self, identity: str) -> str:
        """What the job has said so far."""
        self.one(identity)
        with self._errors():
            text: str = self._client.get_job_logs(identity)
        return text

    def stop(self, identity: str) -> bool:
        """Ask the job to stop; False if it has ended already."""
        if self.one(identity).status in ENDED:
            return False
        with self._errors():
            return bool(self._client.stop_job(identity))

    def follow(self, identity: str, say: Callable[[str], None]) -> Submitted:
        """Say what the job says until it ends, and how it ended.

        A connection that breaks is made again for two minutes, and nothing is said twice.
        """
        heard = _Heard(say)
        lost: float | None = None
        while True:
            try:
                with self._errors():
                    asyncio.run(self._tail(identity, heard))
                job = self.one(identity)
            except (UserError, WorkerFailed) as error:
                if isinstance(error, UnknownJob | MissingCredentials):
                    raise
                logger.debug("the log of %s broke off: %s", identity, error)
                lost = lost if lost is not None else time.monotonic()
                if time.monotonic() - lost > _PATIENCE_S:
                    raise
            else:
                lost = None
                if job.status in ENDED:
                    heard.take(0, self.logs(identity))  # what was written after the last look
                    return job
            time.sleep(_POLL_S)

    async def _tail(self, identity: str, heard: _Heard) -> None:
        place = 0
        async for text in self._client.tail_job_logs(identity):
            heard.take(place, text)
            place += len(text)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Ray's client raises whatever its libraries do."""
        try:
            yield
        except (KeyboardInterrupt, StorageError, UserError, WorkerFailed):
            raise
        except Exception as error:  # a dozen kinds, from three libraries
            text = " ".join(str(error).split())
            if any(mark in text for mark in ("401", "403", "Authentication", "Unauthorized", "Forbidden")):
                raise MissingCredentials(
                    f"the cluster at {self.address} refuses us: {text:.200}. Give its token: RAY_AUTH_MODE=token with "
                    "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH=FILE. On Kubernetes: kubectl get secret NAME -o "
                    "jsonpath='{.data.auth_token}' | base64 -d."
                ) from error
            if isinstance(error, ConnectionError) or type(error).__module__.startswith(("requests", "aiohttp")):
                raise UserError(
                    f"no Jobs API answers at {self.address}: {text:.200}. Check --address, the network, and that the cluster "
                    "has a dashboard (ray[default])."
                ) from error
            if "No available agent" in text:
                raise WorkerFailed(
                    f"the cluster at {self.address} has no agent that could start a job: another Ray on the head's machine may "
                    "hold the agent's port. Start the head with ray start --dashboard-agent-listen-port=PORT."
                ) from error
            raise WorkerFailed(
                f"the cluster at {self.address} cannot do that: {text:.600}. Look at its dashboard and logs."
            ) from error


class _Heard:
    """What was said of a log, which is read from its beginning after each break."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._characters = say, 0

    def take(self, place: int, text: str) -> None:
        """Say what is new in ``text``, which stands at ``place`` of the log."""
        fresh = text[max(0, self._characters - place) :]
        if fresh:
            self._say(fresh)
            self._characters = place + len(text)


def is_elsewhere(address: str) -> bool:
    """Whether the cluster is on other machines than this one, as far as names tell.

    A loopback address may be the end of a tunnel, so that it is the cluster's own list of hosts that counts.
    """
    import requests
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    try:
        answer = requests.get(
            f"{address}/nodes?view=hostNameList", headers=get_auth_headers_if_auth_enabled({}), timeout=_KNOCK_S
        )
        hosts = answer.json()["data"]["hostNameList"]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return not _is_loopback(address)
    return any(host != socket.gethostname() for host in hosts) if hosts else not _is_loopback(address)


def _is_loopback(address: str) -> bool:
    return urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")


def _use_token() -> None:
    """A token that was given is meant to be used, even where the mode was forgotten."""
    if "RAY_AUTH_MODE" in os.environ:
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ["RAY_AUTH_MODE"] = "token"
        reread_authentication()


def _knock(address: str) -> None:
    """Ray's client would try for long where nobody answers at all."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_KNOCK_S).close()
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"no Jobs API answers at {address}: {error}. Check --address, the network, and that the cluster has a dashboard "
            "(ray[default])."
        ) from error


def _submitted(details: Any) -> Submitted:
    return Submitted(
        details.submission_id,
        details.status.value,
        details.entrypoint,
        _moment(details.start_time),
        _moment(details.end_time),
        details.driver_exit_code,
        " ".join((details.message or "").split()),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
