"""The one error tree of Sensorium.

Every message says what happened, to which object, with which value, and what to do next. Errors are grouped by what the
person who sees them can do: a :class:`UserError` is mended by the caller (the command line exits with 2), anything else
by the operator or by us (exit code 1). Each error also is-a builtin where that helps code that knows nothing of us.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BrokenPlugin",
    "CommitConflict",
    "CorruptData",
    "DataLeak",
    "DuplicateSample",
    "ExistingDataset",
    "ExpiredVersion",
    "FitDiverged",
    "FitStopped",
    "InvalidName",
    "InvalidQuery",
    "InvalidSample",
    "InvalidSetting",
    "MissingCredentials",
    "MissingDependency",
    "ProgramFailed",
    "SensoriumError",
    "StorageError",
    "UnknownDataset",
    "UnknownField",
    "UnknownModel",
    "UnknownPlugin",
    "UnknownRun",
    "UnknownSample",
    "UnknownVersion",
    "UnreadableFile",
    "UserError",
    "WorkerFailed",
    "close_matches",
    "ours",
]


class SensoriumError(Exception):
    """Base of every error that Sensorium raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class UserError(SensoriumError):
    """The request cannot be met as it was made; the message says how to make it."""

    exit_code = 2


class UnknownDataset(UserError, KeyError):
    """No data set of that name in the lake."""


class ExistingDataset(UserError, FileExistsError):
    """A data set of that name exists already."""


class UnknownVersion(UserError, KeyError):
    """The data set has no such version, tag or moment."""


class ExpiredVersion(UnknownVersion):
    """The version existed, but a vacuum has removed what it held."""


class UnknownModel(UserError, KeyError):
    """No fitted model of that name in the lake."""


class UnknownField(UserError, KeyError):
    """A field that the data set does not declare."""


class UnknownSample(UserError, KeyError):
    """No sample of that id in the selection."""


class UnknownRun(UserError, KeyError):
    """Neither a run nor a data set of that name."""


class UnknownPlugin(UserError, KeyError):
    """No system, modality, importer, codec or metric of that name is installed."""


class InvalidName(UserError, ValueError):
    """A name that cannot be a data set's, a field's or a tag's."""


class InvalidSample(UserError, ValueError):
    """A sample breaks the rules of its modality or data set."""


class DuplicateSample(InvalidSample):
    """The id is there already: an append never overwrites."""


class InvalidQuery(UserError, ValueError):
    """A predicate or SQL text that cannot be run."""


class InvalidSetting(UserError, ValueError):
    """A setting, flag or configuration field out of its range."""


class UnreadableFile(UserError, ValueError):
    """A file that cannot be decoded as what it claims to be."""


class MissingDependency(UserError, ImportError):
    """An optional package or system program that this feature needs."""


class MissingCredentials(UserError, PermissionError):
    """The storage refuses us, or was given no credentials."""


class DataLeak(UserError, ValueError):
    """What a model is to be measured on is among what it learns from."""


class FitDiverged(UserError, ArithmeticError):
    """The loss of a fit is not finite any more."""


class FitStopped(SensoriumError):
    """A fit was stopped by its user; it can be resumed."""

    exit_code = 130


class BrokenPlugin(SensoriumError):
    """An installed plug-in cannot be loaded or breaks its contract."""


class WorkerFailed(SensoriumError, RuntimeError):
    """Workers of a job were lost, or failed, more often than they are started again."""


class StorageError(SensoriumError, OSError):
    """The storage failed: full disk, lost connection, file gone."""


class CommitConflict(StorageError):
    """A commit lost against concurrent writers more often than we retry."""


class CorruptData(SensoriumError):
    """Bytes in the lake are not those that were committed."""


class ProgramFailed(SensoriumError):
    """A program that was run beside the process ended badly, or took too long; what it said."""


def close_matches(wanted: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A sentence that names the known names nearest to ``wanted``, or all of a short list, or nothing."""
    names = sorted(known)
    near = difflib.get_close_matches(wanted, names, n=limit, cutoff=0.5)
    if near:
        return "Did you mean " + " or ".join(repr(name) for name in near) + "?"
    if 0 < len(names) <= 12:
        return "There are: " + ", ".join(names) + "."
    return ""


def ours(error: BaseException) -> SensoriumError | None:
    """The first error of ours among ``error`` and what caused it, such as a worker's that comes back wrapped; else None."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, SensoriumError):
            return current
        failures = getattr(current, "worker_failures", None)  # of Ray Train, by rank
        waiting += [getattr(current, "cause", None), current.__cause__]
        waiting += list(failures.values()) if isinstance(failures, dict) else []
    return None
