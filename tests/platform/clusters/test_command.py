"""What may be submitted: checked before anybody is asked."""

from __future__ import annotations

import http.server
import shlex
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from sensorium.platform.clusters.command import Command, parse
from sensorium.platform.clusters.jobs_api import Jobs, _Heard, jobs_address
from sensorium.platform.clusters.submission import environment_of
from sensorium.platform.clusters.wheel import write_wheel
from sensorium.platform.errors import InvalidSetting, UserError, WorkerFailed

FIT = ["fit", "water_pollutants", "--data", "water"]


def test_a_command_on_an_object_store_is_taken_as_it_is() -> None:
    command = parse(FIT, "s3://lake", elsewhere=True)
    assert command == Command("fit", tuple(FIT), "s3://lake")
    words = shlex.split(command.entrypoint)
    assert words[0] == "python"
    assert words[-len(FIT) - 2 :] == ["--lake", "s3://lake", *FIT]


def test_the_name_of_the_program_may_stand_before_it() -> None:
    assert parse(["sensorium", *FIT], "s3://lake", elsewhere=True).name == "fit"


def test_words_reach_the_job_as_they_are(tmp_path: Path) -> None:
    hostile = ["catalog", "query", "SELECT 'a; rm -rf $HOME' FROM x -- `y`", "--lake", str(tmp_path / "a b")]
    command = parse(hostile, "./lake", elsewhere=False)
    told = subprocess.run(
        ["sh", "-c", "printf '%s\\0' " + command.entrypoint], capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]
    assert told[-3:] == hostile[:3]
    assert str(tmp_path / "a b") in told


def test_the_lake_of_the_command_wins() -> None:
    for words in (["--lake", "s3://other", *FIT], [*FIT, "--lake=s3://other"]):
        command = parse(words, "./lake", elsewhere=True)
        assert (command.lake, command.arguments) == ("s3://other", tuple(FIT))


@pytest.mark.parametrize("lake", ["./lake", "lake", "~/lake", "file://lake"])
def test_a_relative_lake_is_refused_for_another_machine(lake: str) -> None:
    with pytest.raises(InvalidSetting, match=r"(?s)folder of this machine.*--lake s3://"):
        parse(FIT, lake, elsewhere=True)


def test_a_relative_lake_becomes_absolute_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(FIT, "./lake", elsewhere=False).lake == str(tmp_path / "lake")


def test_an_absolute_lake_is_warned_of_for_another_machine() -> None:
    command = parse(FIT, "/mnt/lake", elsewhere=True)
    assert command.lake == "/mnt/lake"
    assert "every node" in command.warning
    assert parse(FIT, "/mnt/lake", elsewhere=False).warning == ""


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_lake_in_memory_is_refused(elsewhere: bool) -> None:
    with pytest.raises(InvalidSetting, match="memory of one machine"):
        parse(FIT, "memory://lake", elsewhere=elsewhere)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no command"),
        (["--data", "x"], "no command"),
        (["fti"], "Did you mean 'fit'"),
        (["submit", "--", "fit"], "cannot be submitted"),
        (["jobs", "list"], "cannot be submitted"),
        (["fit", "--address", "ray://x:1"], "before --"),
        (["fit", "--lake"], "needs a value"),
    ],
)
def test_what_cannot_be_submitted_is_told(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(words, "s3://lake", elsewhere=True)


def test_the_key_is_of_command_and_lake() -> None:
    keys = {
        parse(words, lake, elsewhere=True).key
        for words, lake in ((FIT, "s3://a"), (FIT, "s3://b"), ([*FIT, "--workers", "2"], "s3://a"))
    }
    assert len(keys) == 3
    assert parse(["sensorium", *FIT], "s3://a", elsewhere=True).key in keys


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://head:8265", "http://head:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("https://ray.example.org", "https://ray.example.org"),
        ("head:8265", "http://head:8265"),
    ],
)
def test_addresses_of_the_jobs_api(given: str, wanted: str) -> None:
    assert jobs_address(given) == wanted


@pytest.mark.parametrize("given", ["", "auto", "ray://head:10001", "http://", "http://head:port", "head:port"])
def test_other_addresses_are_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(InvalidSetting, match="http://HEAD:8265"):
        jobs_address(given)


def test_the_address_of_the_jobs_api_stands_in_for_one_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")
    assert jobs_address("ray://head:10001") == "http://head:8265"
    assert jobs_address("http://other:1") == "http://other:1"


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "here")
    assert environment_of(["A=1", "B=x=y", "HERE", "C="]) == {"A": "1", "B": "x=y", "HERE": "here", "C": ""}
    for wrong in ("ABSENT_HERE", "1A=secret", "=secret"):
        with pytest.raises(InvalidSetting) as told:
            environment_of([wrong])
        assert "secret" not in str(told.value)


def test_the_wheel_is_the_same_each_time_and_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = write_wheel(tmp_path / "a"), write_wheel(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
        points = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    needed = [line for line in text.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert needed == []
    assert "Provides-Extra: fit" in text
    assert "submit = sensorium.platform.clusters.cli:submit" in points
    assert {"sensorium/catalog/__init__.py", "sensorium/platform/cli.py", "sensorium/serve/py.typed"} <= names
    assert not [name for name in names if "__pycache__" in name or name == "sensorium/platform/__init__.py"]


def test_nothing_of_a_log_is_said_twice() -> None:
    said: list[str] = []
    heard = _Heard(said.append)
    for place, text in ((0, "ab"), (2, "cd"), (0, "abc"), (3, "de"), (0, "abcde"), (0, "abcdef")):
        heard.take(place, text)
    assert "".join(said) == "abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "name.invalid:8265"])
def test_nobody_at_the_address(host: str) -> None:
    with pytest.raises(UserError, match="no Jobs API answers"):
        Jobs(f"http://{host}")


def test_somebody_else_at_the_address() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(WorkerFailed, match="cannot do that"):
                Jobs(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
