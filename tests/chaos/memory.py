"""Object stores of Ray that are full."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sensorium.catalog import Catalog
from tests.chaos.nodes import cluster
from tests.chaos.outcome import Ledger, Outcome, Unavailable, finished, start

__all__ = ["full", "spilled"]

_SAMPLES, _MEGABYTES = 160, 480
_STORE_BYTES = 80 << 20
_DISK_MB = 120
_LIMIT_S = 40.0

_WRITE = """
import re, sys
import numpy as np, ray
from ray._private.internal_api import memory_summary
from sensorium.catalog import Catalog

def made(row):
    return {"id": f"s{row['id']:03d}", "image": np.full((1024, 1024, 3), row["id"], np.uint8)}

ray.init(address=sys.argv[1], log_to_driver=False)
rows = ray.data.range(int(sys.argv[3]), override_num_blocks=12).map(made)
if sys.argv[4] == "held":
    rows = rows.materialize()  # all of it in the object stores at once
told = memory_summary(sys.argv[1], stats_only=True)
with open(sys.argv[5], "w") as file:
    file.write(str(sum(map(int, re.findall(r"(?:Spilled|filesystem mmap usage:) (\\d+) MiB", told)))))
Catalog(sys.argv[2])["images"].write_ray(rows)
"""


def written(folder: Path, how: str, place: Path | None = None) -> tuple[int | None, Ledger, int]:
    """Write through object stores that are too small: exit code, what is there, megabytes that were put on disk instead.

    ``place``: a folder for all that Ray writes, where that should not be the usual one.
    """
    catalog = Catalog(folder / "lake")
    dataset = catalog["images"] if "images" in catalog else catalog.create("images", modality="image")
    aside = folder / "aside"
    with cluster(2, place=place, object_store_memory=_STORE_BYTES) as nodes:
        line = [sys.executable, "-c", _WRITE, nodes.address, folder / "lake", _SAMPLES, how, aside]
        code = finished(start(line, folder / "commands.log", nodes.environment), _LIMIT_S)
    expected = [f"s{number:03d}" for number in range(_SAMPLES)]
    ledger = Ledger.of(dataset, expected, dataset.select(fields=[]).frame()["id"])
    return code, ledger, int(aside.read_text()) if aside.exists() else 0


def spilled(folder: Path) -> Outcome:
    """More than the object stores hold, at once: Ray puts the rest on disk."""
    code, ledger, size = written(folder, "held")
    seen = f"{_MEGABYTES} MB held in {_STORE_BYTES >> 20} MB a node, {size} MB put on disk; ended with {code}; {ledger}"
    return Outcome("it takes longer and ends well", seen, code == 0 and ledger.whole and size > 0)


def full(folder: Path) -> Outcome:
    """The same where the disk is full, too."""
    with small_disk() as place:
        code, first, _ = written(folder, "held", place)
    named = re.findall(
        r"\w*(?:OutOfDisk|ObjectStoreFull|OutOfMemory)\w*", (folder / "commands.log").read_text(errors="replace")
    )
    why = f" ({named[-1]})" if named else ""
    ended = (
        f"was still waiting after {_LIMIT_S:.0f} s, and was ended" if code is None else f"ended with code {code}{why}"
    )
    _, second, _ = written(folder, "streamed")
    seen = f"the program {ended}, {first.expected - first.lost} there; again with room on the disk: {second}"
    nothing = code != 0 and bool(named) and first.lost == first.expected
    return Outcome("nothing is visible; the same goes through where there is room", seen, nothing and second.whole)


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of :data:`_DISK_MB`."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    try:
        if mounted.returncode:
            raise Unavailable(f"a small file system cannot be mounted ({mounted.stderr.strip()})")
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
        folder.rmdir()
