"""Submitting a command: the same one again goes on with the same work."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sensorium.platform.clusters.command import Command
from sensorium.platform.clusters.jobs_api import ENDED, Jobs
from sensorium.platform.clusters.wheel import write_wheel
from sensorium.platform.errors import InvalidSetting

__all__ = ["Submission", "environment_of", "submit"]

_FILE = "sensorium.toml"
_ATTEMPTS = 1000
_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Submission:
    """What came of submitting.

    Attributes:
        id: of the job.
        fresh: False where the same command ran already, and nothing new was submitted.
    """

    id: str
    fresh: bool


def submit(jobs: Jobs, command: Command, working_dir: str, environment: dict[str, str]) -> Submission:
    """Submit a command, unless it runs already.

    The id is made of the command and its lake: the first attempt is ``fit-1a2b…``, the next ``fit-1a2b…-2``. While an attempt
    runs, or waits to, it is the answer. After its end a new one does what is missing: sweeps and predictions leave out the
    rows that are there, and a fit goes on from its checkpoint, or tells its result if it was finished (``fit --once``, which
    is the default in a job).
    """
    attempts = _attempts(command.key, [job.id for job in jobs.all()])
    if attempts and jobs.one(attempts[-1]).status not in ENDED:
        return Submission(attempts[-1], fresh=False)
    identity = command.key if not attempts else f"{command.key}-{len(attempts) + 1}"
    with tempfile.TemporaryDirectory(prefix="sensorium-submit-") as folder:
        runtime_env: dict[str, Any] = {
            "py_modules": [str(write_wheel(Path(folder)))],
            "env_vars": {"SENSORIUM_ONCE": "1", **environment},
        }
        sent = _working_folder(working_dir, Path(folder) / "working")
        if sent:
            runtime_env["working_dir"] = sent
        fresh = jobs.submit(identity, command.entrypoint, runtime_env, {"sensorium": version("sensorium")})
    return Submission(identity, fresh)


def environment_of(words: Iterable[str]) -> dict[str, str]:
    """Variables from ``K=V``, or ``K`` alone for the value that it has here.

    Raises:
        InvalidSetting: no such variable here, or no name of one; values are not repeated.
    """
    found = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not _VARIABLE.fullmatch(name):
            raise InvalidSetting(f"--env takes NAME=VALUE, or NAME for the value that it has here; got {name!r}.")
        if not mark:
            if name not in os.environ:
                raise InvalidSetting(f"--env {name}: there is no such variable here. Set it, or write {name}=VALUE.")
            value = os.environ[name]
        found[name] = value
    return found


def _attempts(key: str, identities: Sequence[str]) -> list[str]:
    """Ids of the attempts at a command, in their order; one that was deleted is not counted."""
    known = set(identities)
    numbered = [key, *(f"{key}-{number}" for number in range(2, _ATTEMPTS))]
    return [name for name in numbered if name in known]


def _working_folder(chosen: str, folder: Path) -> str:
    """The folder to send: with ``auto`` one that holds the settings file of here, if there is one; empty for none.

    Raises:
        InvalidSetting: no such folder.
    """
    if chosen == "none":
        return ""
    if chosen == "auto":
        if not Path(_FILE).is_file():
            return ""
        folder.mkdir()
        (folder / _FILE).write_bytes(Path(_FILE).read_bytes())
        return str(folder)
    if not Path(chosen).is_dir():
        raise InvalidSetting(f"--working-dir is auto, none or a folder; {chosen!r} is not there, or is a file.")
    return str(Path(chosen).resolve())
