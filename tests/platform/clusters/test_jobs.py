"""Jobs on a real head with a token, whose nodes have the dependencies and nothing of this project."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from sensorium.catalog import Catalog
from sensorium.jobs.water_pollutants import simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FIT = ["fit", "water_pollutants", "--data", "water", "--track", "off", "--name", "small"]
FIT += [
    f"--set={text}" for text in ("network=rnn", "optimiser=adam", "stride=60", "epochs=1", "folds=4", "validation=0.34")
]


@dataclass(frozen=True)
class Head:
    """A head that runs.

    Attributes:
        address: of its Jobs API.
        token: that it wants.
        folder: for what tests keep; it has a lake.
    """

    address: str
    token: str
    folder: Path

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def environment(self, **more: str) -> dict[str, str]:
        return outside() | {"RAY_AUTH_TOKEN": self.token, "RAY_AUTH_MODE": "token"} | more

    def command(self, *words: str) -> list[str]:
        program = str(Path(sysconfig.get_path("scripts")) / "sensorium")
        return [program, "--address", self.address, "--lake", str(self.lake), *words]

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in self.environment(**more).items() if value}
        return subprocess.run(
            self.command(*words),
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def outside() -> dict[str, str]:
    """The environment of this process without what concerns Ray, Python or the project."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON", "SENSORIUM_"))}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("cluster")
    catalog = Catalog(folder / "lake")
    dataset = catalog.create("water", modality="series", fields=list(simulator.FIELDS))
    dataset.append(simulator.samples(liquids=("ammonia", "hydrochloric_acid"), measurements=4))
    python = bare_environment(folder / "bare")
    token, port = secrets.token_hex(32), free_port()
    environment = outside() | {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with ExitStack() as stack:
        # sockets' names must be short
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="head-", dir="/tmp", ignore_cleanup_errors=True))
        told = folder / "head.log"
        program = "import sys; from ray.scripts.scripts import main; sys.argv[0] = 'ray'; main()"
        options = [
            "--head",
            "--block",
            "--port=0",
            "--node-ip-address=127.0.0.1",
            "--num-cpus=2",
            f"--temp-dir={place}",
        ]
        options += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--object-store-memory=100000000"]
        # Ray's of other tests, and of whoever works here, hold the usual one
        options += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
        with told.open("w") as log:
            process = subprocess.Popen(
                [python, "-c", program, "start", *options],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            answers(process, port, told)
            yield Head(f"http://127.0.0.1:{port}", token, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def bare_environment(folder: Path) -> Path:
    """Python of an environment with the dependencies alone.

    They are reached by a line in a ``.pth`` file, which does not read the ``.pth`` files there: the editable installation of
    this project, which is one of them, stays unknown. pip is what Ray installs our wheel with.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    dependencies = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    python = folder / "bin" / "python"
    pip = folder / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{python}" -m pip "$@"\n')
    pip.chmod(0o755)
    known = subprocess.run(
        [python, "-c", "import ray, importlib.util as u; print(u.find_spec('sensorium'))"],
        env=outside(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert known.stdout.strip() == "None"
    return python


def answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the head listens and knows its node."""
    import time

    import requests

    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            if requests.get(f"http://127.0.0.1:{port}/api/version", timeout=1).status_code in (200, 401):
                return
        except requests.RequestException:
            pass
        threading.Event().wait(0.1)
    pytest.fail(f"the head does not start: {log.read_text()[-2000:]}")


def test_a_job_says_what_it_does_and_ends_with_its_exit_code(head: Head) -> None:
    done = head.run("submit", "--env", "LETTERS=äöü", "--", "catalog", "show", "watr")
    assert done.returncode == 2, done.stderr
    assert "submitted" in done.stderr
    assert "every node" not in done.stderr  # the head is on this machine
    assert "Did you mean 'water'" in done.stdout
    assert "failed" in done.stderr


def test_a_fit_that_was_finished_is_not_fitted_again(head: Head) -> None:
    first = head.run("--json", "submit", "--", *FIT)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    second = json.loads(head.run("--json", "submit", "--", *FIT).stdout)
    assert second["id"] == f"{report['id']}-2"
    log = head.run("jobs", "logs", second["id"])
    assert "small@1 was fitted before" in log.stdout
    catalog = Catalog(head.lake)
    assert catalog.models().height == 1
    assert catalog.runs().height == 1


def test_a_running_job_is_followed_and_stopped(head: Head) -> None:
    """The same command again does not start another; Ctrl-C leaves the job, or stops it where that was asked for."""
    words = ["submit", "--stop-on-interrupt", "--", "serve", "--port", "0", "--no-pages"]
    with subprocess.Popen(
        # a shell that runs us in the background has us ignore Ctrl-C, and what we start too
        ["env", "--default-signal=INT", *head.command(*words)],
        env=head.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=head.folder,
    ) as following:
        try:
            assert following.stderr is not None
            first = following.stderr.readline().split()
            again = json.loads(head.run("--json", "submit", "--detach", "--", *words[3:]).stdout)
            following.send_signal(signal.SIGINT)
            told = following.stderr.read()
            code = following.wait(30)
        finally:
            following.kill()
    identity = again["id"]
    assert first == ["job", identity, "submitted"]
    assert again == {"id": identity, "fresh": False, "lake": str(head.lake)}
    assert code == 130
    assert told.count("stopped") == 1
    ended = head.run("jobs", "logs", "--follow", identity)
    assert ended.returncode == 130
    assert "stopped" in ended.stderr
    assert "has ended already" in head.run("jobs", "stop", identity).stdout
    listed = {job["id"]: job for job in json.loads(head.run("--json", "jobs", "list", RAY_AUTH_MODE="").stdout)}
    assert listed[identity]["status"] == "STOPPED"
    assert listed[identity]["ended"] > listed[identity]["started"]


def test_unknown_jobs(head: Head) -> None:
    for words in (["logs", "-f", "fit-0"], ["stop", "fit-0"]):
        done = head.run("jobs", *words)
        assert done.returncode == 2
        assert "no job 'fit-0'" in done.stderr


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_without_the_token_nobody_is_let_in(head: Head, token: str) -> None:
    more = {"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": "disabled"}
    done = head.run("jobs", "list", **more)
    assert done.returncode == 2
    assert "refuses us" in done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr
