"""A selection reads what it needs and no more, and never passes the driver."""

from __future__ import annotations

import json
import mmap
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sensorium.catalog import Catalog, Dataset

_IO = Path("/proc/self/io")
_MAPS = Path("/proc/self/smaps")
_SHARD = re.compile(r"(/\S+/fragments/\S+)\n(?:\w+:.*\n)*?Rss: +(\d+)")
needs_accounting = pytest.mark.skipif(not _IO.exists(), reason="this system does not count the bytes a process reads")

SAMPLES, SIDE, WIDE = 2000, 64, 8000
IMAGE_BYTES = SIDE * SIDE * 3


def bytes_read(action: Callable[[], object]) -> int:
    """Bytes that this process read from files while ``action`` ran, as the kernel counts them.

    What is read through the memory map of a shard is no read call: it is the pages that came to be mapped.
    """
    before = _mapped(), _called()
    action()
    called = _called() - before[1]
    return called + _mapped() - before[0]


def _called() -> int:
    return int(_IO.read_text().split("rchar:")[1].split()[0])


def _mapped() -> int:
    return sum(int(held) * 1024 for _, held in _SHARD.findall(_MAPS.read_text()))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images beside a column of 16 MB that no query below asks for."""
    random = np.random.default_rng(0)
    dataset = Catalog(tmp_path_factory.mktemp("wide") / "lake").create("photos", modality="image")
    with dataset.writer(batch=SAMPLES // 4) as writer:
        for number in range(SAMPLES):
            image = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            writer.add({"id": f"{number:05d}", "image": image, "label": number % 10, "wide": random.bytes(WIDE)})
    return dataset


@needs_accounting
def test_only_the_columns_asked_for_are_read(wide: Dataset) -> None:
    narrow = bytes_read(lambda: wide.select("label = 3", fields=["label"]).frame())
    everything = bytes_read(lambda: wide.select(fields=["wide"]).frame())
    assert everything > SAMPLES * WIDE
    assert narrow < everything / 10


@needs_accounting
def test_files_that_cannot_hold_the_id_are_not_read(wide: Dataset) -> None:
    one = bytes_read(lambda: wide.select("id = '01999'", fields=["wide"]).frame())
    everything = bytes_read(lambda: wide.select(fields=["wide"]).frame())
    assert one < everything / 3


@needs_accounting
def test_a_selection_reads_no_payload(wide: Dataset) -> None:
    read = bytes_read(lambda: wide.select("label = 3").rows)
    assert read < SAMPLES * IMAGE_BYTES / 10 + 3 * SAMPLES * WIDE


@needs_accounting
def test_one_sample_reads_its_own_chunk(wide: Dataset) -> None:
    sample = wide.select(fields=["image"])["01234"]
    _ = wide.select(fields=["image"])["01020"]["image"]  # metadata of the fragment is read once and kept
    with open(max(name for name, _ in _SHARD.findall(_MAPS.read_text())), "rb") as shard:
        fresh = mmap.mmap(shard.fileno(), 0, access=mmap.ACCESS_READ)
    around = bytes_read(lambda: fresh[len(fresh) // 2])  # what the kernel maps at once about a byte of a file in memory
    read = bytes_read(lambda: sample["image"])
    assert IMAGE_BYTES <= read < IMAGE_BYTES + 2 * around
    assert around < len(fresh) / 4


@needs_accounting
def test_a_slice_of_a_volume_reads_its_chunks(catalog: Catalog) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, (128, 256, 256), dtype=np.int16)
    dataset = catalog.create("ct", modality="volume")
    dataset.append([{"id": "v", "volume": volume, "spacing": [1.0, 1.0, 1.0]}])
    view = dataset.select()["v"].view("volume")
    read = bytes_read(lambda: np.testing.assert_array_equal(view[3, 4:8], volume[3, 4:8]))
    assert read < volume.nbytes / 2


@needs_accounting
def test_verify_can_leave_payload_alone(wide: Dataset) -> None:
    read = bytes_read(lambda: wide.verify(checksums=False))
    assert read < SAMPLES * IMAGE_BYTES / 4 + 3 * SAMPLES * WIDE


_BOUNDED = """
import json, resource, sys
import numpy as np
from sensorium.catalog import Catalog
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings

lake, allowance = sys.argv[1], int(sys.argv[2])
selection = Catalog(lake)["big"].select(fields=["image"])
payload = int(selection.rows["image"].struct.field("nbytes").sum())
with ray_session(Settings(cpus=2, object_store_mb=300)):
    selection.ray(batch=8).map_batches(lambda batch: {"n": [len(batch["id"])]}).count()  # imports and pools are there now
    data = resource.getrlimit(resource.RLIMIT_DATA)
    # private writable memory: all that a process can allocate, less the shared memory that Ray maps
    anonymous = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (anonymous + allowance, data[1]))
    sums = selection.ray(batch=8).map_batches(
        lambda batch: {"total": [int(sum(int(image.sum(dtype=np.int64)) for image in batch["image"]))]}
    )
    total = sum(int(row["total"]) for row in sums.iter_rows())
    copy = Catalog(lake).create("copy", modality="image")
    copy.write_ray(selection.ray(batch=8))
    try:
        np.ones(payload, np.uint8)
        bounded = False
    except MemoryError:
        bounded = True
    resource.setrlimit(resource.RLIMIT_DATA, data)
print(json.dumps({"bounded": bounded, "payload": payload, "total": total, "copied": len(copy)}))
"""


@pytest.mark.slow
def test_a_selection_larger_than_the_drivers_memory(tmp_path: Path) -> None:
    """The driver may not allocate a quarter of what the workers read and write."""
    random = np.random.default_rng(0)
    dataset = Catalog(tmp_path / "lake").create("big", modality="image")
    count, shape = 200, (1024, 1024, 3)
    expected = 0
    with dataset.writer(batch=16) as writer:
        for number in range(count):
            image = random.integers(0, 256, shape, dtype=np.uint8)
            expected += int(image.sum(dtype=np.int64))
            writer.add({"id": f"{number:04d}", "image": image})
    payload = count * int(np.prod(shape))
    allowance = payload // 4
    # a thread reserves a stack of the limit's size: a small one, or threads alone would use up the allowance
    small_stacks = ["bash", "-c", 'ulimit -s 512 && exec "$@"', "bounded"]
    done = subprocess.run(
        [
            *small_stacks,
            sys.executable,
            "-c",
            _BOUNDED,
            str(tmp_path / "lake"),
            str(allowance),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["bounded"], "the limit does not bind: this test would prove nothing"
    assert told["payload"] == payload
    assert told["total"] == expected
    assert told["copied"] == count


def test_large_samples_go_to_a_worker_alone(catalog: Catalog) -> None:
    to_ray = pytest.importorskip("sensorium.catalog.to_ray", reason="ray is not installed")
    dataset = catalog.create("scans", modality="volume")
    depths = [200 if number % 3 == 0 else 20 for number in range(9)]
    dataset.append(
        {"id": f"{number}", "volume": np.zeros((depth, 512, 512), np.int16), "spacing": [1.0, 1.0, 1.0]}
        for number, depth in enumerate(depths)
    )
    parts = to_ray.packed(dataset.select(), 64)
    ids = [to_ray.read_packed(dataset.storage, [], part)["id"] for part in parts]
    assert ids == [["0"], ["1", "2"], ["3"], ["4", "5"], ["6"], ["7", "8"]]
    assert len(to_ray.packed(dataset.select(fields=["spacing"]), 4)) == 3
    assert to_ray.packed(dataset.select("id = 'none'"), 4) == []
