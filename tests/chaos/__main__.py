"""``make chaos``: faults made on purpose, and what was in the lake afterwards. ``python -m tests.chaos [NAME…]``.

Every line of the table is measured: a fault is a function that does work, makes the fault, and looks at the lake. Its line in
docs/reliability.md is written anew; those of others stay, with the day on which they were measured.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sensorium.platform.storage import plain
from sensorium.platform.tables import markdown
from tests.chaos import clocks, losing_drivers, losing_nodes, memory, stores
from tests.chaos.outcome import Outcome, Unavailable

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "reliability.md"

_HEADER = ["fault", "promised", "seen", "held", "measured"]

Fault = Callable[[Path], Outcome]
#: name -> what happens, the function that makes it happen
FAULTS: dict[str, tuple[str, Fault]] = {
    "ingest-node": ("a node is lost during an import", losing_nodes.ingest_loses),
    "sweep-node": ("a node is lost during a sweep", losing_nodes.sweep_loses),
    "committer-node": ("the node of a sweep's committer is lost", losing_nodes.committer_lost),
    "fit-node": ("a node is lost during a fit on two, another comes", losing_nodes.fit_loses),
    "predict-node": ("a node is lost during a prediction", losing_nodes.predict_loses),
    "slow-node": ("a node works a third of the time", losing_nodes.slow_node),
    "hung-node": ("a node hangs, is given up, and wakes", losing_nodes.hung_node),
    "local-driver": ("an import without Ray is killed", losing_drivers.local_driver),
    "ingest-driver": ("the command of an import is killed", losing_drivers.driver_of_ingest),
    "sweep-driver": ("the command of a sweep is killed", losing_drivers.driver_of_sweep),
    "fit-driver": ("the command of a fit is killed", losing_drivers.driver_of_fit),
    "predict-driver": ("the command of a prediction is killed", losing_drivers.driver_of_predict),
    "head-lost": ("the head is lost, without Redis", losing_drivers.head_lost),
    "head-back": ("the head is lost and comes back, with Redis", losing_drivers.head_comes_back),
    "spilling": ("more than the object store holds", memory.spilled),
    "store-full": ("more than the object store and the disk hold", memory.full),
    "storage-fails": ("storage fails every tenth request", stores.every_tenth_fails),
    "storage-silent": ("storage does every tenth request, and says that it failed", stores.every_tenth_is_lost),
    "storage-stalls": ("storage stalls", stores.stalls),
    "storage-away": ("storage is away", stores.outage),
    "clocks": ("clocks of writers are 40 days off", clocks.skewed),
}


def tried(name: str) -> list[str]:
    """A row of the table."""
    title, fault = FAULTS[name]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
        try:
            outcome = fault(Path(folder))
            row = [title, outcome.promise, outcome.seen, "yes" if outcome.held else "**no**"]
        except Unavailable as error:
            row = [title, "–", f"not tried: {error}", "–"]
        except Exception as error:  # the others go on
            traceback.print_exc()
            row = [title, "–", f"could not be made: {type(error).__name__}: {plain(error)}".replace("|", "/"), "**no**"]
        log = Path(folder) / "commands.log"
        if row[-1] == "**no**" and log.exists():
            sys.stderr.write(log.read_text(errors="replace")[-4000:])
    sys.stdout.write(f"{name} ({time.monotonic() - began:.0f} s): {row[3]} – {row[2]}\n")
    sys.stdout.flush()
    return row


def page(found: dict[str, list[str]]) -> None:
    """Put lines of the table into the page, beside those of faults that were not made this time."""
    text = PAGE.read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    kept = {line[0]: line for line in lines if len(line) == len(_HEADER)}
    fresh = {row[0]: [*row, str(date.today())] for row in found.values()}
    rows = [{**kept, **fresh}[title] for title, _ in FAULTS.values() if title in kept or title in fresh]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ray", "deltalake", "s3fs", "moto"))
    held = sum(row[3] == "yes" for row in rows)
    told = f"`make chaos`, {os.cpu_count()} cores: {held} of {len(rows)} held. {libraries}."
    fill(PAGE, "chaos", f"{markdown(_HEADER, rows)}\n\n{told}")


def fill(path: Path, name: str, content: str) -> None:
    """Put what was measured between the marks of ``name`` in a page."""
    path.write_text(_docs().filled(path.read_text(), name, content))


def _docs() -> Any:
    """The module that fills pages, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("regenerate", ROOT / "docs" / "regenerate.py")
    if spec is None or spec.loader is None:
        raise RuntimeError("docs/regenerate.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Make the faults that are named, or all of them."""
    names = sys.argv[1:] or list(FAULTS)
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        sys.stderr.write(f"there is no fault {unknown[0]!r}; there are: {', '.join(FAULTS)}\n")
        return 2
    found = {name: tried(name) for name in names}
    page(found)
    return int(any(row[3] == "**no**" for row in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
