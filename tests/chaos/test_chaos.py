"""The quickest of the faults of ``make chaos``, and the page that it writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sensorium.catalog import Catalog
from tests.chaos import __main__ as chaos
from tests.chaos.__main__ import FAULTS
from tests.chaos.outcome import Ledger, Unavailable


@pytest.mark.slow
def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    outcome = FAULTS["local-driver"][1](tmp_path)
    assert outcome.held, outcome.seen


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_clocks_that_are_off_lose_nothing(tmp_path: Path) -> None:
    outcome = FAULTS["clocks"][1](tmp_path)
    assert outcome.held, outcome.seen


def test_a_ledger_tells_what_is_wrong(catalog: Catalog) -> None:
    rows = catalog.create("rows", modality="table", fields={"value": "int64"})
    rows.append([{"id": name, "value": 1} for name in "abc"])
    assert Ledger.of(rows, "abc", "abc").whole
    assert not Ledger.of(rows, "abcd", "abc").whole
    assert not Ledger.of(rows, "abc", "abcc").whole
    assert not Ledger.of(rows, "ab", "abc").whole
    assert not Ledger.of(rows, "abc", "abc", failed=1).whole
    assert not Ledger.of(rows, "", "").whole
    assert str(Ledger.of(rows, "abcd", "abcc")) == "3 of 4 there, 1 twice"


def test_lines_of_other_faults_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- generated: chaos -->\n<!-- end -->\n")
    monkeypatch.setattr(chaos, "PAGE", page)
    title = {name: title for name, (title, _) in FAULTS.items()}
    chaos.page({"clocks": [title["clocks"], "this", "that", "yes"]})
    chaos.page({"sweep-node": [title["sweep-node"], "this", "other", "**no**"]})
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[2] for line in lines] == ["seen", "---", "other", "that"]
    assert "1 of 2 held" in page.read_text()


def test_a_fault_that_cannot_be_made_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> None:
        raise Unavailable("no program")

    def broken(_: Path) -> None:
        raise RuntimeError("it was over before")

    monkeypatch.setitem(FAULTS, "clocks", ("clocks", refused))
    assert chaos.tried("clocks")[2:] == ["not tried: no program", "–"]
    monkeypatch.setitem(FAULTS, "clocks", ("clocks", broken))
    assert chaos.tried("clocks")[3] == "**no**"
