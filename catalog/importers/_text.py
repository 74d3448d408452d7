"""Text files of known layouts: read whole, within a limit, with errors that name the place."""

from __future__ import annotations

from pathlib import Path

from sensorium.catalog.importers._files import unreadable

__all__ = ["FETCH", "lines"]

FETCH = "Fetch the file anew."
_MAX_BYTES = 1 << 28


def lines(path: Path, limit: int = _MAX_BYTES, *, fallback: str | None = None) -> list[str]:
    """The lines of a text file in UTF-8, or in the encoding ``fallback`` where it is none.

    Raises:
        UnreadableFile: it is gone, no such text, or larger than ``limit`` bytes.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise unreadable(path, f"has more than {limit} bytes, too many for such a text", "Leave it out.")
        return content.decode("utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise unreadable(path, "is gone", "Plan the import anew.") from error
    except UnicodeDecodeError as error:
        if fallback is not None:
            return content.decode(fallback, "replace").splitlines()
        raise unreadable(path, f"is no UTF-8 text (byte {error.start})", FETCH) from error
    except OSError as error:
        raise unreadable(path, f"cannot be read ({error.strerror})", "Check the file's permissions.") from error
