"""Many processes write, while others delete, compact, vacuum and read: nothing lost, torn or twice, and no reader fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from tests.catalog.racing import expected

_PROGRAM = Path(__file__).with_name("racing.py")
_WRITERS, _COMMITS = 8, 4
_OTHERS = ("delete", "compact", "vacuum", "read")


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(_PROGRAM), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, f"{process.args}: {errors}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.slow
def test_writers_a_deleter_a_compactor_a_vacuum_and_a_reader(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    dataset = Catalog(lake).create("photos", modality="image")
    others = {role: start(role, lake) for role in _OTHERS}
    writers = [start("write", lake, number, _COMMITS, "durable") for number in range(_WRITERS)]
    commits = [line for process in writers for line in lines(process)]
    (lake / "STOP").touch()
    told = {role: lines(process) for role, process in others.items()}

    assert not [line for line in told["read"] if "wrong" in line]
    assert [line for line in told["read"] if "read" in line]
    assert len({line["version"] for line in commits}) == _WRITERS * _COMMITS, "two commits were given one version"
    written = {identifier for line in commits for identifier in line["ids"]}
    attempted = {line["deleting"] for line in told["delete"] if "deleting" in line}
    deleted = {line["deleted"] for line in told["delete"] if "deleted" in line}
    held = {sample.id: sample["image"] for sample in dataset.select()}
    assert len(dataset) == len(held)
    assert written - attempted <= set(held)
    assert set(held) <= written - deleted
    for identifier, image in held.items():
        np.testing.assert_array_equal(image, expected(identifier))
    assert dataset.verify().is_empty()
    assert [line for line in told["compact"] if line["compacted"] > 0]
