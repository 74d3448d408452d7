"""The application on a real Ray Serve, as the command starts it: replicas that die, queues that fill, versions that change."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.platform.errors import InvalidSetting, UserError
from sensorium.serve.front import bound
from sensorium.serve.options import ServeOptions
from tests.benchmarks.clients import Load, load, request
from tests.serve import small_cnn
from tests.serve.running import installed

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def body() -> bytes:
    content = io.BytesIO()
    np.save(content, PICTURE)
    return content.getvalue()


@dataclass(frozen=True)
class Command:
    """``sensorium serve`` as a process."""

    process: subprocess.Popen[str]
    port: int
    catalog: Catalog
    log: Path

    def children(self) -> list[int]:
        """Processes below it."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--sid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(line) for line in found.stdout.split() if int(line) != self.process.pid]

    def replicas(self, name: str) -> list[int]:
        """Replicas of a deployment."""
        listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
        own = set(self.children())
        lines = (line.split(maxsplit=1) for line in listed.splitlines())
        return [
            int(pid)
            for pid, title in lines
            if title.startswith(f"ray::ServeReplica:sensorium:{name}") and int(pid) in own
        ]

    def load(self, clients: int, *, count: int = 0, seconds: float = 0.0, models: tuple[str, ...] = ("small",)) -> Load:
        asked = [request(f"/v1/models/{name}/predict", body()) for name in models]
        return asyncio.run(load(self.port, asked, clients, count=count, seconds=seconds))


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("application")
    with installed(folder / "site"):
        catalog = Catalog(folder / "lake")
        small_cnn.save(catalog)
        small_cnn.save(catalog, "slow", small_cnn.Config(width=96))
        catalog.create("photos", modality="image").append(
            [{"id": "a", "image": PICTURE}, {"id": "b", "image": PICTURE[::-1]}]
        )
        environment = {**os.environ, **small_cnn.install(folder / "site"), "SENSORIUM_CPUS": "2"}
        arguments = [
            "serve",
            "--port",
            "0",
            "--no-pages",
            "--replicas",
            "2",
            "--queue",
            "16",
            "--log",
            str(folder / "log"),
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", "from sensorium.platform.cli import main; main()", "--lake", str(folder / "lake"), *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            said = []
            for line in process.stdout or ():
                said.append(line)
                found = re.search(r" at http://127\.0\.0\.1:(\d+)", line)
                if found:
                    break
            else:
                pytest.fail("it did not start: " + "".join(said))
            yield Command(process, int(found[1]), catalog, folder / "log")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def test_it_answers_and_listens_on_loopback_only(command: Command) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{command.port}", timeout=30) as client:
        answer = client.post("/v1/models/small/predict", content=body())
        assert answer.status_code == 200, answer.text
        expected = small_cnn.predicted(command.catalog.model("small"), PICTURE)
        assert np.allclose(answer.json()["result"]["probabilities"], expected["probabilities"], atol=1e-6)
        assert client.get("/readyz").json() == {"ready": True, "replicas": 2}
    until = time.monotonic() + 20
    while "/readyz" not in command.log.read_text() and time.monotonic() < until:
        time.sleep(0.2)
    lines = [json.loads(line) for line in command.log.read_text().splitlines()]
    assert [line["status"] for line in lines if line.get("path") == "/readyz"] == [200]
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=False).stdout
    places = [line.split()[3] for line in listening.splitlines() if line.split()[3].endswith(f":{command.port}")]
    assert places == [f"127.0.0.1:{command.port}"]


def test_a_killed_replica_costs_no_answer(command: Command) -> None:
    command.load(4, count=40)
    victim = command.replicas("ModelHost")[0]

    async def killed() -> Load:
        asked = [request("/v1/models/small/predict", body())]
        under_way = asyncio.create_task(load(command.port, asked, 4, seconds=6))
        await asyncio.sleep(1.5)
        os.kill(victim, signal.SIGKILL)
        return await under_way

    found = asyncio.run(killed())
    assert set(found.statuses) <= {200, 503}
    assert found.statuses[200] > 50
    assert found.statuses.get(503, 0) <= 8
    assert found.lost == 0
    until = time.monotonic() + 60
    while len(command.replicas("ModelHost")) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert victim not in command.replicas("ModelHost")
    assert len(command.replicas("ModelHost")) == 2


def test_a_promoted_version_takes_over_under_load(command: Command) -> None:
    for seed in (1, 2):
        small_cnn.save(command.catalog, "changing", seed=seed)
    command.catalog.promote("changing@1", "production")
    before = command.load(4, count=40, models=("changing", "small"))
    assert before.statuses == {200: 40}
    command.catalog.promote("changing@2", "production")
    during = command.load(4, seconds=6, models=("changing", "small"))
    assert set(during.statuses) == {200}
    assert during.lost == 0
    answer = httpx.post(f"http://127.0.0.1:{command.port}/v1/models/changing/predict", content=body(), timeout=30)
    assert answer.json()["model"] == "changing@2"


def test_more_clients_than_it_can_serve_are_told_to_come_again(command: Command) -> None:
    found = command.load(160, seconds=3, models=("slow",))
    assert set(found.statuses) <= {200, 503}
    assert found.statuses[503] > 0
    assert found.statuses[200] > 0
    after = command.load(1, count=10)
    assert after.statuses == {200: 10}


def test_a_bulk_prediction_is_a_task(command: Command) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{command.port}", timeout=60) as client:
        asked = {"model": "small", "data": "photos", "into": "answers"}
        begun = client.post("/v1/tasks", json=asked)
        assert begun.status_code == 202, begun.text
        place = begun.headers["location"]
        until = time.monotonic() + 90
        while (job := client.get(place).json())["state"] in ("waiting", "running") and time.monotonic() < until:
            time.sleep(0.3)
        assert job["state"] == "finished", job
        assert (job["result"]["computed"], job["result"]["errors"]) == (2, 0)
        rows = client.get("/v1/datasets/answers/samples").json()["rows"]
        assert sorted(row["id"] for row in rows) == ["a", "b"]
        failed = client.post("/v1/tasks", json={**asked, "data": "nothing"}).headers["location"]
        while (job := client.get(failed).json())["state"] in ("waiting", "running") and time.monotonic() < until:
            time.sleep(0.3)
        assert (job["state"], "nothing" in job["error"]) == ("failed", True)
        assert client.get("/v1/tasks/none").status_code == 404


def test_ctrl_c_ends_all_that_it_started(command: Command) -> None:
    children = command.children()
    assert len(children) > 4
    os.kill(command.process.pid, signal.SIGINT)
    assert command.process.wait(60) == 0
    until = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.2)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", command.port), timeout=2)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::"])
def test_strangers_are_let_in_with_a_sign_in_only(host: str) -> None:
    with pytest.raises(InvalidSetting, match="token"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, token="a-token-for-tests-only").guarded
    assert ServeOptions(host=host, proxy_header="X-Forwarded-User").guarded


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    held = bound("127.0.0.1", 0)
    held.listen()
    with pytest.raises(UserError, match="cannot be listened on"):
        bound("127.0.0.1", held.getsockname()[1])
    held.close()
