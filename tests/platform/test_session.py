"""The Ray session: private, used again by what runs inside it, and gone without a trace afterwards.

Each test looks at a process of its own: another Ray session may be running in this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: starts a session, looks at it from inside, from outside and afterwards, and prints what it saw as JSON
HOST = """
import json, os, subprocess, sys, time
from pathlib import Path
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings

OURS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_USAGE_STATS_ENABLED")
seen = {"before": {name: os.environ.get(name) for name in OURS}}

def running(folder):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        found += [line] if folder in line else []
    return found

def join(**variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    code = sys.argv[1]
    done = subprocess.run(
        [sys.executable, "-c", code, seen["address"]], env={**environment, **variables}, capture_output=True, text=True
    )
    return [done.returncode, done.stdout.strip(), done.stderr[-2000:]]

settings = Settings(cpus=1, object_store_mb=120)
try:
    with ray_session(settings):
        import ray
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        seen["address"] = ray.get_runtime_context().gcs_address
        seen["resources"] = ray.cluster_resources()
        seen["inside"] = {name: os.environ.get(name) for name in OURS}
        seen["folder"] = str(token.parent)
        seen["mode of token"] = token.stat().st_mode & 0o777
        seen["mode of folder"] = token.parent.stat().st_mode & 0o777
        seen["characters of token"] = len(token.read_text())
        with ray_session(Settings(cpus=2, address="192.0.2.99:1")):
            seen["nested address"] = ray.get_runtime_context().gcs_address
        seen["still there after the nested one"] = ray.is_initialized()
        seen["task"] = ray.get(ray.remote(lambda: 6 * 7).remote())
        seen["processes inside"] = len(running(str(token.parent)))
        knows = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        guesses = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_NUM_REDIS_GET_RETRIES": "1"}
        seen["with the token"] = join(**knows)
        seen["without a token"] = join(RAY_NUM_REDIS_GET_RETRIES="1")
        seen["with another token"] = join(**guesses)
        raise ZeroDivisionError
except ZeroDivisionError:
    seen["error passed through"] = True
seen["initialized afterwards"] = ray.is_initialized()
seen["after"] = {name: os.environ.get(name) for name in OURS}
seen["folder afterwards"] = token.parent.exists()
seen["processes afterwards"] = running(str(token.parent))
print(json.dumps(seen))
"""

#: joins the cluster at the address given, and says what came of it
JOIN = """
import sys
from sensorium.platform.errors import SensoriumError
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings
try:
    with ray_session(Settings(address=sys.argv[1])):
        import ray
        print(ray.get(ray.remote(lambda: "joined").remote()))
except SensoriumError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


def child(*arguments: str, timeout: float | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What a process saw of a session before, during and after it."""
    done = child(HOST, JOIN, RAY_USAGE_STATS_ENABLED="1")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_session_runs_tasks_with_what_was_asked_for(seen: dict[str, Any]) -> None:
    assert seen["task"] == 42
    assert seen["resources"]["CPU"] == 1
    assert seen["resources"]["object_store_memory"] == 120 << 20


@pytest.mark.slow
def test_session_is_gone_afterwards(seen: dict[str, Any]) -> None:
    assert seen["error passed through"]
    assert seen["processes inside"] > 0
    assert seen["processes afterwards"] == []
    assert seen["initialized afterwards"] is False
    assert seen["folder afterwards"] is False


@pytest.mark.slow
def test_environment_is_as_before(seen: dict[str, Any]) -> None:
    assert seen["inside"]["RAY_AUTH_MODE"] == "token"
    assert seen["inside"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert seen["after"] == seen["before"]
    assert seen["before"]["RAY_USAGE_STATS_ENABLED"] == "1"


@pytest.mark.slow
def test_nested_session_is_the_same_one_and_leaves_it_alone(seen: dict[str, Any]) -> None:
    assert seen["nested address"] == seen["address"]
    assert seen["still there after the nested one"] is True


@pytest.mark.slow
def test_token_is_its_owners_alone(seen: dict[str, Any]) -> None:
    assert oct(seen["mode of token"]) == oct(0o600)
    assert seen["characters of token"] == 64


@pytest.mark.slow
def test_folder_of_the_token_is_its_owners_alone(seen: dict[str, Any]) -> None:
    """Whoever may write there could put a token of his own in its place."""
    assert oct(seen["mode of folder"]) == oct(0o700)


@pytest.mark.slow
def test_another_process_joins_with_the_token(seen: dict[str, Any]) -> None:
    code, out, errors = seen["with the token"]
    assert (code, out) == (0, "joined"), errors


@pytest.mark.slow
@pytest.mark.parametrize("stranger", ["without a token", "with another token"])
def test_stranger_cannot_join(seen: dict[str, Any], stranger: str) -> None:
    code, out, errors = seen[stranger]
    assert code == 2, errors
    assert out.startswith(f"UserError no Ray cluster answers at {seen['address']!r}")
    assert "token" in out
    assert "InvalidAuthToken" in errors


@pytest.mark.slow
def test_address_where_nothing_answers_is_told_soon() -> None:
    done = child(JOIN, "127.0.0.1:1", timeout=30)
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith("UserError no Ray cluster answers at '127.0.0.1:1': ")
    assert "--address or RAY_ADDRESS" in done.stdout


def test_address_that_is_none_is_told() -> None:
    done = child(JOIN, "nonsense")
    assert done.returncode == 2, done.stderr
    assert done.stdout.startswith("UserError no Ray cluster answers at 'nonsense': ")


def test_ray_that_is_not_installed_is_told() -> None:
    done = child("import sys\nsys.modules['ray'] = None\n" + JOIN, "auto")
    assert done.returncode == 2, done.stderr
    assert "ray is needed to run jobs" in done.stdout
    assert "pip install 'sensorium[ray]'" in done.stdout


@pytest.mark.slow
def test_folder_whose_name_is_too_long_for_sockets_is_no_hindrance_or_told(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    start = JOIN.replace("Settings(address=sys.argv[1])", "Settings(cpus=1, object_store_mb=100)")
    done = child(start, TMPDIR=str(deep))
    assert "Traceback" not in done.stderr
    assert done.stdout == "joined\n" or (done.returncode, "TMPDIR" in done.stdout) == (1, True)
    assert list(deep.iterdir()) == []
