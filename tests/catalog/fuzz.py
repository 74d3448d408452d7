"""Damaged files at the importers' borders: whatever a file holds, the answer is a sample or a sentence that names the file.

    python -m tests.catalog.fuzz [--seconds 600] [--only NAME] [--keep FOLDER]

Each round damages one file of an importer's example (``examples.py``): bits flipped, cut off, parts repeated, integers of
headers replaced by those that break sums, foreign bytes put in. The plan is made in this process, reading is done in one that
may die, as in an import. A fault is an error of ``plan`` that is none of ours; a loss is a reader that crashed or hung, which
an import survives, but which somebody should look at. The files of both are kept.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sensorium.catalog import readers
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.catalog.readers import Lost, Reader
from sensorium.catalog.reading import Group
from sensorium.platform import plugins
from sensorium.platform.errors import UserError
from sensorium.platform.storage import Storage
from sensorium.platform.tables import print_rows
from tests.catalog.examples import EXAMPLES

__all__ = ["attempt", "damaged"]

#: seconds that one file may take
_LIMIT_S = 20
_BREAKING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)
_UNFORESEEN = re.compile(r"cannot be read as \w+ \(")


def damaged(content: bytes, chance: random.Random) -> bytes:
    """``content`` with one to three faults."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        if not data:
            return bytes(data)
        # headers are where it hurts
        place = chance.randrange(min(len(data), 512) if chance.random() < 0.6 else len(data))
        kind = chance.randrange(6)
        if kind == 0:
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            data[place:place] = data[place : place + chance.randint(1, 64)] * chance.randint(1, 4)
        elif kind == 3:
            form = chance.choice(("<I", ">I", "<H", ">H", "<Q", ">Q", "B"))
            width = struct.calcsize(form)
            value = chance.choice(_BREAKING) & ((1 << 8 * width) - 1)
            data[place : place + width] = struct.pack(form, value)
        elif kind == 4:
            data[place:place] = chance.randbytes(chance.randint(1, 32))
        else:
            del data[place : place + chance.randint(1, 64)]
    return bytes(data)


def attempt(name: str, seed: int, folder: Path, reader: Reader) -> Counter[str]:
    """Outcomes of one round: ``sample``, ``refused``, ``unforeseen`` (refused for an error of a library), ``fault``, ``lost``.

    The damaged source is left in ``folder``.
    """
    chance = random.Random(f"{name} {seed}")
    options = EXAMPLES[name](folder)
    victim = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    victim.write_bytes(damaged(victim.read_bytes(), chance))
    importer: Importer = plugins.load(GROUP, name, Importer)
    source = Source(folder, options)
    try:
        with _limited():
            importer.matches(source)
            items = tuple(importer.plan(source))
            fields = importer.fields(source) if importer.fields else None
            attributes = importer.attributes(source) if importer.attributes else {}
            declaration = Declaration.new("fuzzed", importer.makes(source), fields, attributes=attributes)
    except UserError:
        return Counter(refused=1)
    except Exception as error:
        sys.stderr.write(f"{name} {seed}: {type(error).__name__}: {error}\n")
        return Counter(fault=1)
    storage = Storage.at(folder.parent / "payload")
    try:
        read = reader.submit(Group(name, options, items, declaration, storage, _LIMIT_S)).result()
    except Lost as error:
        sys.stderr.write(f"{name} {seed}: {error}\n")
        return Counter(lost=1)
    except UserError:
        return Counter(refused=1)
    found = Counter(sample=len(items) - len(read.failures))
    for failure in read.failures.values():
        found["unforeseen" if _UNFORESEEN.search(failure.message) else "refused"] += 1
        if str(folder) not in failure.message:
            sys.stderr.write(f"{name} {seed}: names no file: {failure.message}\n")
            found["fault"] += 1
    return found


@contextmanager
def _limited() -> Iterator[None]:
    """A plan that takes too long is a fault."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    """Fuzz until the time is over, and print what came of it; exit code 1 for a fault or a loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    given = parser.parse_args()
    names = [given.only] if given.only else sorted(EXAMPLES)
    seed = time.time_ns() % 1_000_000_000
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    end = time.monotonic() + given.seconds
    while time.monotonic() < end:
        seed += 1
        for name in names:
            with tempfile.TemporaryDirectory() as place, readers.processes(1) as reader:
                folder = Path(place) / "in"
                folder.mkdir()
                outcome = attempt(name, seed, folder, reader)
                outcome["rounds"] = 1
                found[name] += outcome
                if outcome["fault"] or outcome["lost"]:
                    shutil.copytree(folder, given.keep / f"{name}-{seed}", dirs_exist_ok=True)
    columns = ["rounds", "sample", "refused", "unforeseen", "fault", "lost"]
    print_rows(
        ["importer", *columns], [[name, *(str(one[column]) for column in columns)] for name, one in found.items()]
    )
    if any(one["fault"] or one["lost"] for one in found.values()):
        sys.exit(f"look at {given.keep}")


if __name__ == "__main__":
    main()
