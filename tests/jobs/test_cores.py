"""Work that has a core of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sensorium.jobs.cores import one_core

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot tie work to a core")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of this test only: a sweep may run beside it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_block_has_one_core_and_gives_it_back() -> None:
    before = os.sched_getaffinity(0)
    with one_core() as core:
        assert core in before
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_no_two_blocks_share_a_core_and_one_too_many_is_left_alone() -> None:
    before = os.sched_getaffinity(0)
    held = [one_core() for _ in before]
    cores = []
    for block in held:
        cores.append(block.__enter__())
        os.sched_setaffinity(0, before)
    assert set(cores) == before
    with one_core() as none:
        assert none is None
        assert os.sched_getaffinity(0) == before
    for block in held:
        block.__exit__(None, None, None)
    with one_core() as again:
        assert again in before


def test_a_process_that_dies_gives_its_core_back(tmp_path: Path) -> None:
    held = subprocess.run(
        [sys.executable, "-c", "import os\nfrom sensorium.jobs.cores import one_core\n"
         "for _ in os.sched_getaffinity(0):\n    block = one_core(); block.__enter__()\nos._exit(9)"],
        env={**os.environ, "TMPDIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert held.returncode == 9
    with one_core() as core:
        assert core is not None


def test_programs_inherit_the_core() -> None:
    with one_core() as core:
        seen = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], capture_output=True, check=True
        )
    assert seen.stdout.split() == [str(core).encode()]


def test_a_folder_that_cannot_be_made_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    before = os.sched_getaffinity(0)
    with one_core() as core:
        assert core is None
        assert os.sched_getaffinity(0) == before
