"""The main job, run once for all end-to-end tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Demo:
    """A finished main job: the folder with its ``lake``, the environment it ran in, what it printed, how it ended."""

    folder: Path
    environment: dict[str, str]
    output: str
    errors: str
    code: int


def environment() -> dict[str, str]:
    """The environment of a user with the project's commands on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TERM": "dumb", "COLUMNS": "160"}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        ["sensorium", "demo", "--no-serve"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    return Demo(folder, environment(), done.stdout, done.stderr, done.returncode)
