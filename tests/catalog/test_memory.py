"""Imports hold the plan and a few groups of samples, however many files there are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sensorium.catalog import Catalog
from tests.catalog import test_dicom
from tests.catalog.importing import picture, sound

_FILES = 1500
#: bytes of each sample's payload
_SIZE = 120_000
_IMPORT = """
import resource
from sensorium.catalog import Catalog
if __name__ == "__main__":
    catalog = Catalog("lake")
    catalog.ingest("first", "first", workers=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = catalog.ingest("in", "samples", workers=1)
    print(report.added, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _image(path: Path) -> Path:
    return picture(path.with_suffix(".png"), np.full((200, 200, 3), 7, np.uint8))


def _audio(path: Path) -> Path:
    return sound(path.with_suffix(".wav"), np.zeros(_SIZE // 2, np.int16))


def _npz(path: Path) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), signal=np.zeros((3, 10_000), np.float32), sampling_rate=50.0)
    return path.with_suffix(".npz")


def _dicom(path: Path) -> Path:
    data = test_dicom.data_set(np.full((200, 300), 7, np.uint16), (0, 0, 0), "1.2.100000")
    return test_dicom.save(path.with_suffix(".dcm"), data)


@pytest.mark.parametrize("make", [_image, _audio, _npz, _dicom])
def test_memory_does_not_grow_with_the_number_of_files(make: Callable[[Path], Path], tmp_path: Path) -> None:
    for folder, count in (("first", 40), ("in", _FILES)):
        (tmp_path / folder).mkdir()
        first = make(tmp_path / folder / "0")
        for number in range(1, count):
            other = first.with_name(f"{number}{first.suffix}")
            if make is _dicom:  # a series each
                other.write_bytes(first.read_bytes().replace(b"1.2.100000", b"1.2.%d" % (100_000 + number)))
            else:
                os.link(first, other)
    (tmp_path / "job.py").write_text(_IMPORT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "job.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    added, grown = ended.stdout.splitlines()[-1].split()
    assert int(added) == _FILES
    dataset = Catalog(tmp_path / "lake")["samples"]
    (main,) = (name for name in dataset.declaration.arrays if name in ("image", "audio", "signal", "volume"))
    assert dataset.select(limit=1)["0"][main].nbytes == _SIZE
    assert 1024 * int(grown) < _FILES * _SIZE / 4
