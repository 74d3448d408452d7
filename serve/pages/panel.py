"""What a page is to the front end: a name for its address, a title, and a function that fills it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorium.platform.errors import InvalidName

if TYPE_CHECKING:
    from sensorium.serve.gateway import Gateway

__all__ = ["Panel"]

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class Panel:
    """One page.

    Attributes:
        name: last part of its address: small letters, digits, ``_`` and ``-``.
        title: in the navigation.
        build: makes the components, inside the page's Blocks context.
        listed: whether the navigation names it; what is reached by links only is not listed.
    """

    name: str
    title: str
    build: Callable[[Gateway], None]
    listed: bool = True

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidName(
                f"panel {self.name!r}: its name is part of an address; use small letters, digits, '_' and '-'."
            )
