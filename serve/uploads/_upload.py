"""One file on its way into a sample, and what its readers share."""

from __future__ import annotations

import atexit
import functools
import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensorium.catalog.fields import ArrayField
from sensorium.catalog.modality import Modality
from sensorium.platform.errors import MissingDependency, UserError
from sensorium.serve.uploads.errors import NOT_TAKEN, TOO_LARGE, RejectedUpload, shown
from sensorium.serve.uploads.kinds import TITLES
from sensorium.serve.uploads.limits import Limits

__all__ = ["Upload", "on_disk", "target", "too_large"]

#: a sentence of an importer's message that speaks of options, which whoever sends a file does not have
_OPTION = re.compile(r"[^.:]*\b[a-z_]+=[^.]*\.")
#: options of importers -> the scalars that stand for them here
_SCALARS = {"sampling_rate": "sampling_rate", "variables": "variable_names"}

_numbers = itertools.count()


@dataclass(frozen=True)
class Upload:
    """One file.

    Attributes:
        data: its bytes.
        kind: a key of ``kinds.TITLES``.
        label: what to call it in a message, such as ``field 'image'``.
        field: the array field that it is for; None where the file holds a whole sample.
        modality: of the sample.
        scalars: that were sent with the files.
        sample: what the files before this one gave.
        limits: of the upload.
    """

    data: bytes
    kind: str
    label: str
    field: ArrayField | None
    modality: Modality
    scalars: Mapping[str, Any]
    sample: Mapping[str, Any]
    limits: Limits


def target(upload: Upload) -> ArrayField:
    """The field that the file is for, of a kind that holds no whole sample.

    Raises:
        RejectedUpload: 415, none was named and the modality has none that the kind can be.
    """
    if upload.field is None:
        raise RejectedUpload(
            f"{upload.label}: {TITLES[upload.kind]} holds no whole sample of modality {upload.modality.name}. "
            f"Name the field that it is for: {', '.join(upload.modality.arrays)}.",
            NOT_TAKEN,
        )
    return upload.field


@contextmanager
def on_disk(upload: Upload, suffix: str, data: bytes | None = None) -> Iterator[Path]:
    """The file (or ``data`` in its place) in a private folder, for readers that want a path; its name is ours.

    Whatever the reader says of it comes out as a 422 that names the field instead of the path.
    """
    path = Path(_folder(), f"{next(_numbers)}{suffix}")  # never a name twice: importers may remember files by theirs
    path.write_bytes(upload.data if data is None else data)
    try:
        yield path
    except (RejectedUpload, MissingDependency, MemoryError):
        raise
    except UserError as error:
        raise RejectedUpload(_retold(str(error), path, upload.label)) from error
    except Exception as error:  # decoders raise whatever comes to their mind on broken files
        reason = f"{type(error).__name__}: {shown(str(error).replace(str(path), 'it'), 200)}"
        raise RejectedUpload(
            f"{upload.label}: cannot be decoded ({reason}). Export it anew from its source."
        ) from error
    finally:
        path.unlink()


@functools.cache
def _folder() -> str:
    """A private folder of this process; one for all files, since to make and remove one costs more than to read a picture."""
    folder = tempfile.mkdtemp(prefix="upload-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _retold(message: str, path: Path, label: str) -> str:
    """An importer's message without path and options."""
    text = message.removeprefix(f"{path}: ").replace(str(path), "the file").replace(path.parent.as_posix(), "")
    return f"{label}: {_OPTION.sub(_instead, text, count=1)}"


def _instead(sentence: re.Match[str]) -> str:
    """What to do here, where an importer would be given an option."""
    named = next((name for option, name in _SCALARS.items() if f"{option}=" in sentence[0]), None)
    return " Mend the file." if named is None else f" Mend the file, or send {named} with the scalars."


def too_large(upload: Upload, what: str, value: float, limit: float, remedy: str) -> RejectedUpload:
    """A 413: the file has ``value`` of ``what``, more than ``limit``."""
    return RejectedUpload(
        f"{upload.label}: its header claims {value:g} {what}, more than {limit:g}. {remedy}", TOO_LARGE
    )
