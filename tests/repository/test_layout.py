"""The shape of the repository: what shadows nothing, what imports what, what is declared is there."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer

from sensorium.catalog.importer import Importer
from sensorium.catalog.modality import Modality
from sensorium.jobs.codecs import Codec
from sensorium.jobs.image_metrics import Metric
from sensorium.jobs.machine_tasks import Task
from sensorium.platform import plugins
from sensorium.platform.systems import System

ROOT = Path(__file__).resolve().parents[2]
#: the five packages, from the ground floor upwards
FLOORS = ("platform", "catalog", "actors", "jobs", "serve")
KINDS: dict[str, type[Any]] = {
    "sensorium.commands": typer.Typer,
    "sensorium.systems": System,
    "sensorium.modalities": Modality,
    "sensorium.importers": Importer,
    "sensorium.codecs": Codec,
    "sensorium.metrics": Metric,
    "sensorium.tasks": Task,
}


def declared() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def entry_points() -> list[EntryPoint]:
    groups = declared()["project"]["entry-points"]
    return [EntryPoint(name, value, group) for group, points in groups.items() for name, value in points.items()]


def modules() -> dict[str, Path]:
    """Every Python file of the five packages, by its dotted name; a package goes by ``….__init__``."""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            found[".".join(("sensorium", *path.relative_to(ROOT).with_suffix("").parts))] = path
    return found


MODULES = modules()

# -- Python's own platform module -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [None, str(ROOT)], ids=["working-folder", "PYTHONPATH"])
def test_platform_from_the_root_is_pythons_own(path: str | None) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.system()); print(platform.__file__)"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path or ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    system, file = child.stdout.splitlines()
    assert system == os.uname().sysname
    assert Path(file).parent == Path(sysconfig.get_path("stdlib"))


def test_platform_has_no_init_file() -> None:
    assert (ROOT / "platform" / "plugins.py").is_file()
    assert not (ROOT / "platform" / "__init__.py").exists()


# -- imports run downwards --------------------------------------------------------------------------------------------


def imported(module: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports, wherever in it: ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__", "require"):
                yield node.lineno, str(node.args[0].value)


def upward(module: str, text: str) -> list[str]:
    """The imports of ``module`` that reach a floor above its own, one line each."""
    own = FLOORS.index(module.split(".")[1])
    found = []
    for line, name in imported(module, text):
        first, _, rest = name.partition(".")
        floor = rest.split(".")[0] if first == "sensorium" else ""
        if floor in FLOORS and FLOORS.index(floor) > own:
            found.append(f"{module}:{line} imports {name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    assert upward(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import sensorium.jobs.codecs",
        "import os, sensorium.serve as front",
        "from sensorium.jobs import codecs",
        "from sensorium import jobs",
        "from ..jobs.codecs import jpeg",
        "from .. import serve",
        "from importlib import import_module\nimport_module('sensorium.actors.committer')",
        "def late():\n    from sensorium.jobs.codecs import get",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sensorium.actors.committer import Committer",
    ],
)
def test_the_check_of_imports_finds_an_upward_one(statement: str) -> None:
    assert len(upward("sensorium.catalog.made_up", statement)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "from sensorium.platform import errors",
        "from sensorium.catalog.fields import Field",
        "from .fields import Field",
        "from ..platform import errors",
        "import jobs_of_somebody_else.jobs",
        '"""Used by sensorium.jobs."""',
    ],
)
def test_the_check_of_imports_lets_a_downward_one_pass(statement: str) -> None:
    assert upward("sensorium.catalog.made_up", statement) == []


# -- what stands where ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["actors", "catalog", "infra", "jobs", "platform", "serve", "tests"])
def test_folder_says_what_it_is(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.is_file()
    assert readme.read_text().startswith("# ")


def test_no_module_is_a_dumping_ground() -> None:
    names = {"utils", "util", "helpers", "misc", "common"}
    assert [name for name in MODULES if names.intersection(name.split("."))] == []


# -- nothing is loaded that can run code ------------------------------------------------------------------------------

_UNSAFE_CALLS = {
    *((module, name) for module in ("pickle", "cloudpickle", "dill", "marshal") for name in ("load", "loads")),
    *(("pickle", name) for name in ("Unpickler",)),
    *(("yaml", name) for name in ("load", "load_all", "unsafe_load", "full_load")),
    ("joblib", "load"),
    ("shelve", "open"),
}
_UNSAFE_ARGUMENTS = {("allow_pickle", True), ("weights_only", False), ("trust_remote_code", True)}


def unsafe_loads(text: str) -> list[str]:
    """Calls and imports that would run code hidden in data."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                pair = (node.func.value.id, node.func.attr)
                found += [f"line {node.lineno}: {'.'.join(pair)}"] if pair in _UNSAFE_CALLS else []
            for keyword in node.keywords:
                if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in _UNSAFE_ARGUMENTS:
                    found.append(f"line {node.lineno}: {keyword.arg}={keyword.value.value!r}")
        elif isinstance(node, ast.ImportFrom):
            pairs = {(str(node.module), alias.name) for alias in node.names}
            found += [f"line {node.lineno}: from {a} import {b}" for a, b in sorted(pairs & _UNSAFE_CALLS)]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_load_can_run_code(module: str) -> None:
    assert unsafe_loads(MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import pickle\npickle.load(file)",
        "from pickle import loads",
        "np.load(path, allow_pickle=True)",
        "torch.load(path, map_location='cpu', weights_only=False)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
    ],
)
def test_the_check_of_loads_finds_an_unsafe_one(statement: str) -> None:
    assert len(unsafe_loads(statement)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "json.load(file)",
        "np.load(path, allow_pickle=False)",
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
    ],
)
def test_the_check_of_loads_lets_a_safe_one_pass(statement: str) -> None:
    assert unsafe_loads(statement) == []


# -- what pyproject.toml declares -------------------------------------------------------------------------------------


def test_packages_are_the_folders_that_hold_python_modules() -> None:
    folders = {name.rpartition(".")[0] for name in MODULES}
    packages = declared()["tool"]["setuptools"]["packages"]
    assert packages == sorted(folders)


def test_packages_are_mapped_to_the_folders_at_the_top() -> None:
    mapped = declared()["tool"]["setuptools"]["package-dir"]
    assert mapped == {f"sensorium.{floor}": floor for floor in sorted(FLOORS)}


def test_every_group_of_entry_points_has_a_kind() -> None:
    assert set(declared()["project"]["entry-points"]) == set(KINDS)


@pytest.mark.parametrize("point", entry_points(), ids=lambda point: f"{point.group}:{point.name}")
def test_entry_point_loads_and_is_of_its_kind(point: EntryPoint) -> None:
    plugin = point.load()
    assert isinstance(plugin, KINDS[point.group])
    assert point.group == "sensorium.commands" or plugin.name == point.name


@pytest.mark.parametrize("group", KINDS)
def test_installed_entry_points_are_the_declared_ones(group: str) -> None:
    """A difference means that the project must be installed again."""
    assert set(plugins.names(group)) >= {point.name for point in entry_points() if point.group == group}


def test_console_script_loads() -> None:
    scripts = declared()["project"]["scripts"]
    assert list(scripts) == ["sensorium"]
    assert callable(EntryPoint("sensorium", scripts["sensorium"], "console_scripts").load())
