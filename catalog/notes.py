"""What a commit says of itself in the history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sensorium.catalog.declaration import Source

__all__ = ["MARK", "CommitNote"]

#: what the names of our entries in a commit begin with
MARK = "sensorium."


@dataclass(frozen=True)
class CommitNote:
    """What a commit says of itself in the history.

    Attributes:
        operation: ``append``, ``update``, ``delete``, ``compact`` …
        samples: how many samples it touched.
        message: the user's remark.
        sources: data sets, at versions, that the samples were made from.
        run: id of the run that made them.
        key: the user's idempotency key: a second change with the same key does nothing.
    """

    operation: str
    samples: int = 0
    message: str = ""
    sources: tuple[Source, ...] = ()
    run: str = ""
    key: str = ""

    def metadata(self) -> dict[str, str]:
        content: dict[str, str] = {"operation": self.operation, "samples": str(self.samples)}
        if self.sources:
            content["sources"] = json.dumps([[source.dataset, source.version] for source in self.sources])
        content.update({name: value for name in ("message", "run", "key") if (value := getattr(self, name))})
        return {MARK + name: value for name, value in content.items()}

    @classmethod
    def read(cls, commit: Mapping[str, Any]) -> CommitNote:
        """From an entry of the Delta history."""
        found = {key.removeprefix(MARK): value for key, value in commit.items() if key.startswith(MARK)}
        return cls(
            operation=found.get("operation", str(commit.get("operation", "")).lower()),
            samples=int(found.get("samples", 0)),
            message=found.get("message", ""),
            sources=tuple(Source(name, version) for name, version in json.loads(found.get("sources", "[]"))),
            run=found.get("run", ""),
            key=found.get("key", ""),
        )
