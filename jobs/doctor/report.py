"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAILED", "MISSING", "OK", "Finding"]

OK = "ok"
#: something optional is not there; all that does not need it works
MISSING = "missing"
#: what was asked for, or is always needed, does not work
FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        area: ``python``, ``packages``, ``ray``, ``storage``, ``codecs``, ``accelerator``, ``caches`` or ``tracking``.
        subject: what was looked at.
        state: OK, MISSING or FAILED.
        found: what is there.
        remedy: what to do, and for what it is needed; empty where nothing is to be done.
    """

    area: str
    subject: str
    state: str
    found: str
    remedy: str = ""
