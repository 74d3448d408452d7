"""The one answer to an upload that is not taken."""

from __future__ import annotations

from sensorium.platform.errors import UserError

__all__ = ["DAMAGED", "NOT_TAKEN", "TOO_LARGE", "RejectedUpload", "shown"]

#: the HTTP status of each class of reason
TOO_LARGE, NOT_TAKEN, DAMAGED = 413, 415, 422


class RejectedUpload(UserError, ValueError):
    """A file that is not taken, and why.

    Attributes:
        status: of the HTTP answer: 413 too large, 415 of a kind that is not recognised or not taken here, 422 damaged or
            against a rule.
    """

    def __init__(self, message: str, status: int = DAMAGED) -> None:
        super().__init__(message)
        self.status = status


def shown(text: object, length: int = 60) -> str:
    """A stranger's text as it can stand in a message or a log: quoted, no control characters, cut."""
    whole = ascii(text)
    return whole if len(whole) <= length else whole[: length - 4] + "..." + whole[-1]
