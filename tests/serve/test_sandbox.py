"""Whatever a file does to its reader, the service answers it with a 4xx and goes on with the others."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import uvloop

from sensorium.platform.errors import UnknownPlugin, WorkerFailed
from sensorium.platform.processes import wire
from sensorium.platform.processes.pool import JobLost, Pool
from sensorium.serve.uploads import sandbox as sandboxes
from sensorium.serve.uploads.errors import RejectedUpload
from sensorium.serve.uploads.limits import Limits
from sensorium.serve.uploads.sandbox import Sandbox
from tests.serve import made_files as made

T = TypeVar("T")
PNG = made.picture("PNG")
FILES = made.every_kind()
SECRET = "SENSORIUM_TEST_SECRET"
QUICK = Limits(seconds=1.0, megabytes=256)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def hostile(loop: asyncio.Runner) -> Iterator[Sandbox]:
    """A sandbox whose files can take over their worker by saying so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2])
        patch.setattr(sandboxes, "_MODULE", "tests.serve.hostile_jobs")
        patch.setenv(SECRET, "hunter2")
        sandbox = Sandbox()
        loop.run(sandbox.read({"file": PNG}, "image", {}))  # until it has started
        yield sandbox
        sandbox.close()


@pytest.fixture
def pool(hostile: Sandbox) -> Pool:
    return hostile._pool


async def timed(work: Coroutine[Any, Any, T]) -> tuple[T | BaseException, float]:
    clock = asyncio.get_running_loop().time
    begun = clock()
    try:
        return await work, clock() - begun
    except RejectedUpload as error:
        return error, clock() - begun


def test_files_are_read_apart(loop: asyncio.Runner, hostile: Sandbox) -> None:
    sample = loop.run(hostile.read({"file": PNG}, "image", {"label": "cat"}))
    np.testing.assert_array_equal(sample["image"], made.RGB)
    assert sample["label"] == "cat"
    assert sample["image"].flags.writeable
    assert sample["image"].ctypes.data % 16 == 0


@pytest.mark.parametrize("name", FILES)
def test_every_kind_comes_through(name: str, loop: asyncio.Runner, hostile: Sandbox) -> None:
    modality, data, scalars = FILES[name]
    sample = loop.run(hostile.read({"file": data}, modality, scalars))
    assert any(isinstance(value, np.ndarray) for value in sample.values())


def test_plain_arrays_are_parsed_here(loop: asyncio.Runner) -> None:
    sandbox = Sandbox()
    sandbox.close()  # it needs no process
    sample = loop.run(sandbox.read({"image": made.npy(made.RGB)}, "image", {}))
    np.testing.assert_array_equal(sample["image"], made.RGB)
    large = made.npy(np.zeros((800, 800, 3), np.uint8))
    assert loop.run(sandbox.read({"image": large}, "image", {}))["image"].shape == (800, 800, 3)
    with pytest.raises(WorkerFailed, match="closed"):
        loop.run(sandbox.read({"file": PNG}, "image", {}))


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ("SEGFAULT", 422, "crashed its reader"),
        ("EXIT", 422, "crashed its reader"),
        ("RAISE", 422, "crashed its reader"),
        ("LOOP", 413, "more than 1 s"),
        ("SLEEP", 413, "more than 1 s"),
        ("HOG", 413, "256 MiB"),
        ("SYSTEM", 413, "MiB"),
        ("GARBAGE", 422, "crashed its reader"),
        ("PICKLE", 422, "crashed its reader"),
        ("HUGE", 422, "crashed its reader"),
        ("OBJECTS", 422, "crashed its reader"),
        ("SHAPE", 422, "crashed its reader"),
    ],
)
def test_a_file_that_takes_over_its_worker(
    what: str, status: int, words: str, loop: asyncio.Runner, hostile: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def beside() -> None:
        # a short time only where time is what runs out: a busy machine needs longer for the rest
        limits = QUICK if what in ("LOOP", "SLEEP") else Limits(megabytes=256)
        attack = asyncio.create_task(timed(hostile.read({"file": PNG + b"DO:" + what.encode()}, "image", {}, limits)))
        good = [await hostile.read({"file": PNG}, "image", {}) for _ in range(3)]
        error, seconds = await attack
        assert isinstance(error, RejectedUpload)
        assert error.status == status
        assert words in str(error)
        assert seconds < 30
        good.append(await hostile.read({"file": PNG}, "image", {}))
        for sample in good:
            np.testing.assert_array_equal(sample["image"], made.RGB)

    loop.run(beside())
    assert "SENSORIUM_UNPICKLED" not in os.environ


def test_more_attacks_than_workers(loop: asyncio.Runner, hostile: Sandbox) -> None:
    async def all_at_once() -> list[Any]:
        attacks = [hostile.read({"file": PNG + b"DO:SEGFAULT"}, "image", {}) for _ in range(6)]
        friends = [hostile.read({"file": PNG}, "image", {}) for _ in range(6)]
        return await asyncio.gather(*attacks, *friends, return_exceptions=True)

    results = loop.run(all_at_once())
    assert all(isinstance(result, RejectedUpload) for result in results[:6])
    assert all(isinstance(result, dict) for result in results[6:])


def test_workers_see_no_secret_and_have_limits(loop: asyncio.Runner, pool: Pool) -> None:
    async def look() -> dict[str, Any]:
        return (await pool.run("look", {}, [bytes([1, 2, 3])], seconds=20, megabytes=128, answer_bytes=0))[0]

    seen = loop.run(look())
    assert os.environ[SECRET] == "hunter2"
    assert SECRET not in seen["environment"]
    assert "HOME" not in seen["environment"]
    assert seen["limits"]["RLIMIT_CORE"] == [0, 0]
    assert seen["limits"]["RLIMIT_NOFILE"] == [64, 64]
    assert 128 << 20 < seen["limits"]["RLIMIT_AS"][0] < 8 << 30
    assert seen["temporary"] == seen["folder"] != str(Path.cwd())
    assert (seen["files"], seen["sum"]) == ([], 6)  # no trace of the files of those before


def test_a_cancelled_request_frees_its_worker(loop: asyncio.Runner, hostile: Sandbox, pool: Pool) -> None:
    async def leave() -> None:
        running = [
            asyncio.create_task(pool.run("do", {"what": "SLEEP"}, seconds=60, megabytes=128, answer_bytes=0))
            for _ in range(2)
        ]
        await asyncio.sleep(0.05)
        for task in running:
            task.cancel()
        assert all(
            isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*running, return_exceptions=True)
        )
        async with asyncio.timeout(30):
            await hostile.read({"file": PNG}, "image", {})

    loop.run(leave())


def test_time_of_one_job_is_not_that_of_the_next(loop: asyncio.Runner, pool: Pool) -> None:
    async def numbers() -> set[int]:
        found = set()
        for _ in range(5):
            answer, _ = await pool.run("look", {}, seconds=20, megabytes=64, answer_bytes=0)
            found.add(answer["number"])
        return found

    assert len(loop.run(numbers())) == 1  # the same worker goes on


def test_a_worker_that_dies_while_it_waits(loop: asyncio.Runner, pool: Pool) -> None:
    async def number() -> int:
        answer, _ = await pool.run("look", {}, seconds=20, megabytes=64, answer_bytes=0)
        return int(answer["number"])

    first = loop.run(number())
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(first)
    assert loop.run(number()) != first


def test_the_process_that_begets_workers_may_die_too(loop: asyncio.Runner, hostile: Sandbox, pool: Pool) -> None:
    pool._zygote._process.kill()
    pool._zygote._process.wait()
    for worker in pool._idle:
        os.kill(worker.number, signal.SIGKILL)
        with pytest.raises(ProcessLookupError):
            _wait_until_gone(worker.number)
    assert loop.run(hostile.read({"file": PNG}, "image", {}))["image"].shape == (20, 24, 3)


def test_a_module_that_cannot_be_imported_is_told(loop: asyncio.Runner) -> None:
    broken = Pool("sensorium.serve.no_such_jobs")
    with pytest.raises(WorkerFailed, match="no_such_jobs"):
        loop.run(broken.run("x", {}, seconds=1, megabytes=64, answer_bytes=0))
    broken.close()


def test_reasons_of_the_reader_come_through(loop: asyncio.Runner, hostile: Sandbox) -> None:
    async def read(data: bytes, modality: str) -> None:
        await hostile.read({"file": data}, modality, {})

    for data, modality, status in (
        (made.png_header(30000, 30000), "image", 413),
        (b"\x7fELF" + bytes(99), "image", 415),
        (PNG[:100], "image", 422),
        (PNG, "panorama", 422),
    ):
        with pytest.raises(RejectedUpload) as caught:
            loop.run(read(data, modality))
        assert caught.value.status == status
    with pytest.raises(UnknownPlugin):
        loop.run(read(PNG, "imaeg"))


def test_it_works_on_uvloop() -> None:
    sandbox = Sandbox(processes=1)

    async def both() -> list[dict[str, Any]]:
        return await asyncio.gather(*(sandbox.read({"file": PNG}, "image", {}) for _ in range(4)))

    assert len(uvloop.run(both())) == 4
    sandbox.close()


def test_closing_ends_every_process(loop: asyncio.Runner) -> None:
    sandbox = Sandbox(processes=1)
    loop.run(sandbox.read({"file": PNG}, "image", {}))
    zygote, worker, folder = sandbox._pool._zygote, sandbox._pool._idle[0].number, sandbox._pool._zygote.folder
    sandbox.close()
    assert zygote._process.poll() is not None
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(worker)


def test_workers_and_their_folder_go_with_a_killed_service(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from sensorium.serve.uploads.sandbox import Sandbox\n"
        "sandbox = Sandbox(processes=1)\n"
        "read = sandbox.read({'file': sys.stdin.buffer.read()}, 'image', {})\n"
        "asyncio.run(read)\n"
        "zygote = sandbox._pool._zygote\n"
        "print(zygote._process.pid, sandbox._pool._idle[0].number, zygote.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    service = subprocess.run([sys.executable, "-c", code], input=PNG, capture_output=True, check=False)
    assert service.returncode == -signal.SIGKILL, service.stderr
    zygote, worker, folder = service.stdout.decode().split()
    for number in (int(worker), int(zygote)):
        with pytest.raises(ProcessLookupError):
            _wait_until_gone(number)
    assert not Path(folder).exists()


def _wait_until_gone(number: int) -> None:
    """Raises ProcessLookupError once no process has this id; a zombie that nobody waits for is one of the system's."""
    for _ in range(100):
        os.kill(number, 0)
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError as error:
            raise ProcessLookupError from error
        if state == "Z":
            raise ProcessLookupError
        signal.sigtimedwait([], 0.02)


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [b"[]", b"{}", b'{"sizes": [-1]}', b'{"sizes": [1, 2]}', b'{"sizes": ["x"]}', b"\xff", b'{"sizes": ' + b"[" * 9000],
)
def test_headers_that_are_none(header: bytes) -> None:
    with pytest.raises(wire.BadMessage):
        wire.decode(header, memoryview(bytes(64)))


@pytest.mark.parametrize("dtype", ["|O", "<U4", "<M8[s]", "f4,f4", "nonsense", "|V8", ""])
def test_samples_of_other_things_than_numbers(dtype: str) -> None:
    with pytest.raises(wire.BadMessage):
        wire.unpack({"arrays": [["x", dtype, [1]]], "scalars": {}}, [memoryview(bytes(8))])


def test_samples_survive_the_wire() -> None:
    sample = {
        "a": made.RGB,
        "b": np.zeros((0, 3)),
        "c": np.asfortranarray(np.eye(3)),
        "d": 1.5,
        "e": ["x"],
        "f": np.int64(3),
    }
    header, buffers = wire.pack(sample)
    message = b"".join(bytes(piece) for piece in wire.encode(header, buffers))
    text, total = wire.lengths(message[: wire.PREFIX.size], 1 << 20)
    place = wire.PREFIX.size
    content, views = wire.decode(message[place : place + text], memoryview(message)[place + text :])
    assert len(message) == place + text + total
    found = wire.unpack(content, views)
    for name in "abc":
        np.testing.assert_array_equal(found[name], sample[name])
    assert (found["d"], found["e"], found["f"]) == (1.5, ["x"], 3)


def test_lost_jobs_say_why() -> None:
    assert "memory" in str(JobLost("memory", "it grew"))
