"""Programs beside the process: what they return, and how they may fail."""

import os
import sys
import threading
import time

import pytest

from sensorium.jobs import subprocesses
from sensorium.platform.errors import ProgramFailed

COPY = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


def test_data_goes_in_and_out_unchanged() -> None:
    data = os.urandom(1_000_000)
    assert subprocesses.run(python(COPY), data) == data[::-1]


def test_no_shell_expands_the_arguments() -> None:
    odd = ["$HOME", "`ls`", "a b", "*", "", "'", '"', "\\n", ";"]
    said = subprocesses.run([*python("import sys; print(sys.argv[1:])"), *odd])
    assert said.decode().strip() == str(odd)


def test_it_runs_in_the_folder() -> None:
    with subprocesses.memory_folder() as folder:
        subprocesses.run(python("open('made', 'w').write('here')"), cwd=str(folder))
        assert (folder / "made").read_text() == "here"
    assert not folder.exists()


def test_an_error_says_what_the_program_said() -> None:
    with pytest.raises(ProgramFailed, match=r"ended with 3: the disk is on fire"):
        subprocesses.run(["sh", "-c", "echo the disk is on fire >&2; exit 3"])
    with pytest.raises(ProgramFailed, match=r"sh ended with 1: it said nothing"):
        subprocesses.run(["sh", "-c", "exit 1"])


def test_a_crash_names_the_signal() -> None:
    with pytest.raises(ProgramFailed, match="killed by signal 11"):
        subprocesses.run(["sh", "-c", "kill -SEGV $$"])


def test_a_program_that_hangs_is_killed() -> None:
    started = time.monotonic()
    with pytest.raises(ProgramFailed, match=r"did not end within 0.3 s"):
        subprocesses.run(["sleep", "60"], seconds=0.3)
    assert time.monotonic() - started < 30


def test_memory_is_limited() -> None:
    grow = "held = bytearray(600 << 20); print('fine')"
    assert subprocesses.run(python(grow), megabytes=2048) == b"fine\n"
    with pytest.raises(ProgramFailed, match="MemoryError"):
        subprocesses.run(python(grow), megabytes=400)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramFailed, match=r"no-such-encoder cannot be started: .*not found"):
        subprocesses.run(["no-such-encoder"])
    with pytest.raises(ProgramFailed, match="cannot be started"):
        subprocesses.run(["true"], cwd="/no/such/folder")


def test_cpu_time_counts_other_threads_and_programs() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    started, own = subprocesses.cpu_seconds(), time.thread_time()
    subprocesses.run(python(burn))
    after_program = subprocesses.cpu_seconds()
    thread = threading.Thread(target=lambda: sum(range(5_000_000)))
    thread.start()
    thread.join()
    assert after_program - started >= 0.19
    assert subprocesses.cpu_seconds() - after_program > time.thread_time() - own
