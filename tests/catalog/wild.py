"""An importer of a package that is not ours, whose files say what they do to their reader."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.catalog.importer import Importer, Item, Source
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, UnreadableFile


def _plan(source: Source) -> Iterator[Item]:
    if "plan" in source.options:
        with (source.path / "planned").open("a") as planned:
            planned.write(f"{os.getpid()}\n")
        if source.options["plan"] == "crash":
            os.abort()
        if source.options["plan"] == "odd":
            raise ZeroDivisionError("a fault of the planner")
        if source.options["plan"] == "bad":
            raise UnreadableFile(f"{source.path}: is bad. Mend it.")
    for path in source.files(frozenset((".wild",))):
        yield Item(source.identifier(path), (path,), {"size": path.stat().st_size})


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    if "limit" in options:
        raise InvalidSetting("limit must be a number above 0; got 'x'.")
    path = item.paths[0]
    what, _, value = path.read_text().partition(" ")
    if what != "large":
        with path.with_suffix(".read").open("a") as reads:
            reads.write(f"{os.getpid()}\n")
    if what == "crash":
        os.abort()
    if what == "hang":
        time.sleep(3600)
    if what == "grow":
        held = [np.ones(1 << 28, np.uint8) for _ in range(10_000)]
        return {"signal": held[0]}
    if what == "odd":
        raise ZeroDivisionError("a fault of the parser")
    if what == "bad":
        raise UnreadableFile(f"{path}: is bad. Mend it.")
    if what == "text":
        return {**item.scalars, "signal": np.ones((1, 3)), "note": value}
    if what == "large":
        return {**item.scalars, "signal": np.full((1, 3750), float(value)), "note": float(value)}
    return {**item.scalars, "signal": np.full((1, 3), float(value)), "note": float(value)}


importer = Importer(
    name="wild",
    title="files that misbehave",
    modality="series",
    matches=lambda source: 0.9 * bool(source.files(frozenset((".wild",)))),
    plan=_plan,
    read=_read,
    attributes=lambda source: {"sampling_rate": 1.0},
    options={"limit": "wrong whatever it is"},
)
#: the same, whose plan may do harm, too
planner = replace(
    importer, name="wild_planner", matches=lambda _: 0.0, plans_guarded=True, options={"plan": "what it does"}
)


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """The importer is installed for the length of the block, for processes that are started in it, too."""
    about = folder / "wild-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wild\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[sensorium.importers]\nwild = tests.catalog.wild:importer\nwild_planner = tests.catalog.wild:planner\n"
    )
    before = sys.path[:]
    sys.path[:0] = [str(folder), str(Path(__file__).parents[2])]
    _forget()
    try:
        yield
    finally:
        sys.path[:] = before
        _forget()


def _forget() -> None:
    for cached in (plugins._group, plugins._loaded):
        cached.cache_clear()
