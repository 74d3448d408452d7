"""The wheel: built from a copy of the tree, installed where nothing knows of the tree, and imported there in full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("actors", "catalog", "jobs", "platform", "serve")
SOURCES = (*PACKAGES, "LICENSE", "README.md", "pyproject.toml")

IMPORT_ALL = """
import importlib, json, sys
for name in json.loads(sys.stdin.read()):
    importlib.import_module(name)
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({
    "files": {name: file for name, file in files.items() if name.partition(".")[0] == "sensorium" and file},
    "editable": [str(finder) for finder in sys.meta_path if "__editable__" in str(finder)],
}))
"""


def run(*command: str | Path, cwd: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of this process's environment for Python, and succeeds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what it is made of."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, tree / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tree / "dist", tree, cwd=tree)
    (built,) = (tree / "dist").glob("*.whl")
    return built


@dataclass(frozen=True)
class Installation:
    """A virtual environment that holds the wheel.

    Attributes:
        folder: the environment.
        packages: its folder of packages.
    """

    folder: Path
    packages: Path

    def binary(self, name: str) -> Path:
        return self.folder / "bin" / name


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """A new environment with the wheel; the dependencies are those of the environment that runs the tests.

    They are reached by a line in a ``.pth`` file. Python adds such a folder to its path without reading the ``.pth`` files
    in it, so that the editable installation, which is one of them, stays unknown.
    """
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    run(
        *(sys.executable, "-m", "pip", "--python", folder / "bin" / "python"),
        *("install", "--quiet", "--no-index", "--no-deps", wheel),
        cwd=folder,
    )
    (packages,) = folder.glob("lib/python3*/site-packages")
    dependencies = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    return Installation(folder, packages)


def contents(wheel: Path) -> set[str]:
    """The paths that the wheel's RECORD lists."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        return {line.split(",")[0] for line in archive.read(record).decode().splitlines()}


def test_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    sources = {
        f"sensorium/{path.relative_to(ROOT).as_posix()}" for name in PACKAGES for path in (ROOT / name).rglob("*.py")
    }
    marks = {f"sensorium/{name}/py.typed" for name in PACKAGES}
    assert {path for path in contents(wheel) if ".dist-info/" not in path} == sources | marks


def test_wheel_holds_the_licence(wheel: Path) -> None:
    (licence,) = (path for path in contents(wheel) if path.endswith(".dist-info/licenses/LICENSE"))
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_every_module_imports_from_the_wheel_alone(wheel: Path, installation: Installation) -> None:
    names = sorted(
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in contents(wheel)
        if path.endswith(".py")
    )
    done = run(
        *(installation.binary("python"), "-P", "-c", IMPORT_ALL), cwd=installation.folder, stdin=json.dumps(names)
    )
    imported = json.loads(done.stdout)
    assert imported["editable"] == []
    assert set(imported["files"]) >= set(names)
    strangers = [file for file in imported["files"].values() if not Path(file).is_relative_to(installation.packages)]
    assert strangers == []


def test_command_line_works_from_the_wheel(wheel: Path, installation: Installation) -> None:
    version = wheel.name.split("-")[1]
    sensorium = installation.binary("sensorium")
    assert run(sensorium, "--version", cwd=installation.folder).stdout == f"sensorium {version}\n"
    listed = run(sensorium, "--json", "systems", cwd=installation.folder).stdout
    assert "machine_quality" in {system["name"] for system in json.loads(listed)}
