"""The documentation is run: every code block works, every generated table is what its command makes now."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sensorium.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)


def blocks(document: str) -> list[tuple[str, str]]:
    """(language, code) of all blocks of a document that are to be run."""
    found = _BLOCK.finditer((ROOT / document).read_text())
    return [(match["language"], match["code"]) for match in found if match["reason"] is None]


def documents() -> list[Path]:
    """All documents of the project, none of its environments and caches."""
    found = (path for path in ROOT.rglob("*.md") if not path.relative_to(ROOT).parts[0].startswith("."))
    return sorted(found)


@pytest.fixture(scope="module")
def regenerate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("regenerate", ROOT / "docs" / "regenerate.py")
    if spec is None or spec.loader is None:
        pytest.fail("docs/regenerate.py is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(600)  # some thirty programs, one after the other
def test_the_code_of_the_readme_runs(demo: Any, tmp_path: Path) -> None:
    shutil.copytree(demo.folder / "lake", tmp_path / "lake")
    found = blocks("README.md")
    assert {language for language, _ in found} == {"bash", "python"}
    script = "\n".join(code for language, code in found if language == "python")
    for command in (
        ["bash", "-euo", "pipefail", "-c", "\n".join(code for language, code in found if language == "bash")],
        [sys.executable, "-W", "error::UserWarning", "-c", script],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=demo.environment, capture_output=True, text=True, check=False, timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "phantoms.png").is_file()
    assert (tmp_path / "grey" / "camera.png").is_file()


@pytest.mark.slow
def test_the_demos_table_is_what_the_demo_makes(demo: Any, regenerate: ModuleType) -> None:
    assert regenerate.demo_table(Catalog(demo.folder / "lake")) in (ROOT / "README.md").read_text()


def test_the_list_of_photographs_is_current(regenerate: ModuleType) -> None:
    assert regenerate.photographs_list() in (ROOT / "README.md").read_text()


def test_the_list_of_systems_is_current(regenerate: ModuleType) -> None:
    assert regenerate.systems_table() in (ROOT / "README.md").read_text()


def test_the_list_of_formats_is_current(regenerate: ModuleType) -> None:
    assert regenerate.format_reference() == (ROOT / "docs" / "formats.md").read_text(), "run: make docs"


def test_the_command_reference_is_current(regenerate: ModuleType) -> None:
    assert regenerate.command_reference() == (ROOT / "docs" / "cli.md").read_text(), "run: make docs"


def test_no_code_of_other_documents_is_left_unmarked() -> None:
    """The README is run; whatever else looks like code must say why it is not."""
    for document in documents():
        if document.name != "README.md" or document.parent != ROOT:
            runnable = [code for language, code in blocks(str(document.relative_to(ROOT))) if language != "text"]
            assert runnable == [], f"{document.relative_to(ROOT)}: mark the block with <!-- not run: reason -->"


def test_links_between_documents_lead_somewhere() -> None:
    assert len(documents()) > 8
    for document in documents():
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"
