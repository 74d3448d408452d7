"""Machines whose clocks are days off."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from sensorium.catalog import Catalog
from tests.chaos.outcome import Ledger, Outcome, Unavailable

__all__ = ["skewed"]

_RACING = Path(__file__).parent.parent / "catalog" / "racing.py"
_COMMITS = 6
_OFFSETS = ("-40d", "+0d", "+40d")
#: what a writer is told whose payload is not there any more
_GONE = "a vacuum took payload"
_PROMISE = "what was told to be committed stays, and no vacuum takes what is being written; old versions may end early"
_VACUUM = "import sys; from sensorium.catalog import Catalog; Catalog(sys.argv[1])['photos'].vacuum(dry_run=False)"


def started(offset: str, *words: object) -> subprocess.Popen[str]:
    """A Python program for which it is another day, to Delta as well."""
    program = shutil.which("faketime")
    if program is None:
        raise Unavailable("no program `faketime` (Debian: faketime)")
    line = [program, "-f", offset, sys.executable, *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def skewed(folder: Path) -> Outcome:
    """Writers 40 days behind, right, and 40 days ahead; vacuums of the last two run beside them."""
    lake = folder / "lake"
    dataset = Catalog(lake).create("photos", modality="image")
    writers = [started(offset, _RACING, "write", lake, n, _COMMITS, "durable") for n, offset in enumerate(_OFFSETS)]
    told: list[dict[str, Any]] = []
    vacuums = broken = refused = 0
    while any(writer.poll() is None for writer in writers):
        broken += _vacuumed(lake, _OFFSETS[1 + vacuums % 2])
        vacuums += 1
    for writer in writers:
        output, errors = writer.communicate()
        told += [json.loads(line) for line in output.splitlines()]
        refused += _GONE in errors  # a vacuum ahead of its time took what was about to be committed
        broken += writer.returncode != 0 and _GONE not in errors
        _log(folder, errors)
    broken += _vacuumed(lake, _OFFSETS[2])
    expected = [name for line in told for name in line["ids"]]
    ledger = Ledger.of(dataset, expected, [sample.id for sample in dataset.select()])
    days = [moment.date() for moment in dataset.history()["time"]]
    spread = (max(days) - min(days)) / timedelta(days=1)
    seen = f"commits dated over {spread:.0f} days, {vacuums + 1} vacuums; {refused} writers were refused; {ledger}"
    once = len({line["version"] for line in told}) == len(told)
    return Outcome(_PROMISE, seen, ledger.whole and once and not broken and spread >= 70)


def _vacuumed(lake: Path, offset: str) -> bool:
    """Vacuum by a clock; whether it failed."""
    process = started(offset, "-c", _VACUUM, lake)
    _, errors = process.communicate()
    if process.returncode:
        _log(lake.parent, errors)
    return process.returncode != 0


def _log(folder: Path, text: str) -> None:
    with (folder / "commands.log").open("a") as file:
        file.write(text)
