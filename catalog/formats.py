"""Which version of the lake's layout something was written in, and whether this catalog can read it.

Every sample table carries the version as a property, and the lake as a whole in a small file. What carries none was made
before there were versions, which is version 1. A table's version rises with the first commit of a newer catalog and never
falls; older versions stay readable for good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sensorium.platform.errors import CorruptData, UserError
from sensorium.platform.storage import Storage

__all__ = ["FILE", "FORMAT", "PROPERTY", "NewerFormat", "check_lake", "check_table", "mark_lake"]

#: the version that is written; raise it when an older catalog could no longer read what this one writes
FORMAT = 1
#: of a sample table
PROPERTY = "sensorium.format"
#: of a lake
FILE = "format.json"
#: of what carries no version
_FIRST = 1


class NewerFormat(UserError):
    """Something in the lake was written by a newer version of this program."""


def check_table(properties: Mapping[str, str | None], place: str) -> int:
    """The format version of a table.

    Raises:
        NewerFormat: it is newer than this catalog.
    """
    return _checked(properties.get(PROPERTY) or str(_FIRST), place)


def check_lake(storage: Storage) -> int:
    """The format version of the lake in ``storage``; that of an empty one is the first.

    Raises:
        NewerFormat: it is newer than this catalog.
    """
    try:
        content = storage.read(FILE)
    except FileNotFoundError:
        return _FIRST
    try:
        found = json.loads(content)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(
            f'{storage.url}/{FILE} does not say which format the lake has. It should read {{"format": {FORMAT}}}.'
        ) from error
    return _checked(str(found), storage.url)


def mark_lake(storage: Storage) -> None:
    """Write down that the lake has the present format."""
    storage.write(json.dumps({"format": FORMAT}).encode(), FILE, durable=True)


def _checked(text: str, place: str) -> int:
    if not text.isdecimal():
        raise CorruptData(f"{place}: its format version should be a number; got {text!r}.")
    if int(text) > FORMAT:
        raise NewerFormat(
            f"{place} has format version {text}; this version of Sensorium reads up to {FORMAT}. "
            "Upgrade Sensorium: pip install --upgrade sensorium."
        )
    return int(text)
