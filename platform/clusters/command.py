"""A command that is to run on a cluster: checked here, before anything is sent."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, UserError, close_matches
from sensorium.platform.storage import Storage

__all__ = ["Command", "parse"]

#: these talk to a cluster from outside, or end only with the terminal
_NOT_THERE = ("submit", "jobs")
_PROGRAM = "from sensorium.platform.cli import main; main()"
_KEY_LENGTH = 12


@dataclass(frozen=True)
class Command:
    """What a job does.

    Attributes:
        name: of the command, such as ``fit``.
        arguments: of the command line, the lake among them.
        lake: URL that the job opens; a local one is absolute.
        warning: what is likely to be a mistake, for its user; empty for nothing.
    """

    name: str
    arguments: tuple[str, ...]
    lake: str
    warning: str = ""

    @property
    def entrypoint(self) -> str:
        """The shell command. It says more than at a terminal: progress is in its log, which has no bar."""
        return shlex.join(["python", "-c", _PROGRAM, "--verbose", "--lake", self.lake, *self.arguments])

    @property
    def key(self) -> str:
        """The same for the same command on the same lake: submitted again, it is the same work."""
        text = "\0".join((self.lake, *self.arguments))
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]}"


def parse(words: Sequence[str], lake: str, *, elsewhere: bool) -> Command:
    """The command in ``words``, which may begin with ``sensorium``.

    Args:
        words: what stands behind ``--``.
        lake: of the settings, where the words name none.
        elsewhere: whether the cluster is on other machines than this one.

    Raises:
        UserError: no such command, one that has no place in a cluster, or a lake that the cluster cannot see.
    """
    rest, named, address = _without_globals(list(words))
    if address:
        raise InvalidSetting(
            f"the command names --address {address}, but it runs on the cluster that it is submitted to: write --address "
            "before --."
        )
    if rest[:1] == ["sensorium"]:
        rest = rest[1:]
    known = [name for name in plugins.names("sensorium.commands") if name not in _NOT_THERE]
    if not rest or rest[0].startswith("-"):
        raise UserError("there is no command to submit. Write it behind --, as in: sensorium submit -- fit SYSTEM …")
    if rest[0] not in known:
        raise UserError(f"{rest[0]!r} cannot be submitted. {close_matches(rest[0], known)}".rstrip())
    place, warning = _lake(named or lake, elsewhere=elsewhere)
    return Command(rest[0], tuple(rest), place, warning)


def _without_globals(words: list[str]) -> tuple[list[str], str, str]:
    """The words without ``--lake`` and ``--address``, and the values of these; what stands behind another ``--`` is left."""
    rest: list[str] = []
    values = {"--lake": "", "--address": ""}
    waiting = iter(words)
    for word in waiting:
        name, mark, value = word.partition("=")
        if word == "--":
            rest += [word, *waiting]
        elif name in values and mark:
            values[name] = value
        elif word in values:
            found = next(waiting, None)
            if found is None:
                raise InvalidSetting(f"{word} needs a value.")
            values[word] = found
        else:
            rest.append(word)
    return rest, values["--lake"], values["--address"]


def _lake(url: str, *, elsewhere: bool) -> tuple[str, str]:
    """The lake as the job is to name it, and a warning.

    A job has a working folder of its own, so that a relative path would make an empty lake there: the classic mistake.
    """
    scheme = urlsplit(url).scheme if "://" in url else "file"
    if scheme == "memory":
        raise InvalidSetting(
            f"lake {url!r} is in the memory of one machine, and gone with the process. Name one that the cluster can see: "
            "--lake s3://…, gs://…, or a folder that every node mounts."
        )
    if scheme != "file":
        return url, ""
    root = Storage.at(url).root
    if not elsewhere:
        return root, ""
    path = url.partition("://")[2] if "://" in url else url
    if not Path(path).is_absolute():
        raise InvalidSetting(
            f"lake {url!r} is a folder of this machine ({root}), and the cluster is another one: the job would find an empty "
            "lake. Name one that the cluster can see: --lake s3://…, gs://…, or the absolute path of a folder that every node "
            "mounts."
        )
    return root, f"lake {root} is a local path: it must be one folder that every node of the cluster mounts there."
