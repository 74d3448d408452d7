"""Tables for people and for programs."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from sensorium.platform.tables import human_bytes, print_rows, print_table

Out = pytest.CaptureFixture[str]


def lines(capsys: Out) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


# -- for programs -----------------------------------------------------------------------------------------------------


def test_json_is_a_list_of_objects_with_all_rows(capsys: Out) -> None:
    frame = pl.DataFrame({"name": ["zwölf", 'a "quoted" ✓'], "samples": [1, None], "share": [0.123456789, 2.0]})
    print_table(frame, as_json=True, limit=1)
    assert json.loads(capsys.readouterr().out) == [
        {"name": "zwölf", "samples": 1, "share": 0.123456789},
        {"name": 'a "quoted" ✓', "samples": None, "share": 2.0},
    ]


def test_json_has_bytes_as_they_are_and_times_in_iso_8601(capsys: Out) -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    print_table(pl.DataFrame({"bytes": [1_234_567], "updated": [moment]}), as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"bytes": 1_234_567, "updated": "2026-02-03T04:05:06+00:00"}]


def test_json_of_nested_and_odd_values(capsys: Out) -> None:
    frame = pl.DataFrame(
        {
            "list": [["a", "b"]],
            "struct": [{"fragment": "f", "shape": [2, 3]}],
            "binary": [b"\x00\xff"],
            "day": [date(2026, 2, 3)],
            "time": [timedelta(seconds=90)],
            "decimal": [Decimal("1.50")],
        }
    )
    print_table(frame, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["list"] == ["a", "b"]
    assert row["struct"] == {"fragment": "f", "shape": [2, 3]}
    assert row["binary"] == "00ff"
    assert row["day"] == "2026-02-03"
    assert row["time"] == "0:01:30"
    assert row["decimal"] == "1.50"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_numbers_that_json_does_not_know(capsys: Out, value: float) -> None:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    print_table(pl.DataFrame({"psnr": [value], "nested": [[value]]}), as_json=True)
    assert len(json.loads(capsys.readouterr().out, parse_constant=refuse)) == 1


def test_json_of_nothing_is_an_empty_list(capsys: Out) -> None:
    print_table(pl.DataFrame(schema={"name": pl.String}), as_json=True, empty="Nothing here.")
    assert capsys.readouterr().out == "[]\n"


# -- for people -------------------------------------------------------------------------------------------------------


def test_nothing_is_told_in_words(capsys: Out) -> None:
    print_table(pl.DataFrame(schema={"name": pl.String}), as_json=False, empty="No runs yet.")
    assert capsys.readouterr().out == "No runs yet.\n"


def test_cells_are_readable(capsys: Out) -> None:
    frame = pl.DataFrame(
        {
            "name": ["cats"],
            "bytes": [1_234_567],
            "updated": [datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)],
            "psnr": [41.23456],
            "tags": [["v1", "best"]],
            "image": [{"dtype": "uint8", "shape": [4, 5, 3], "fragment": "f"}],
            "licence": [None],
        },
        schema_overrides={"licence": pl.String},
    )
    print_table(frame, as_json=False)
    header, rule, row = lines(capsys)
    assert header.split() == list(frame.columns)
    assert set(rule) == {"─"}
    cells = [cell.strip() for cell in row.split("  ") if cell.strip()]
    assert cells == ["cats", "1.2 MB", "2026-02-03 04:05:06", "41.23", "v1, best", "uint8 [4, 5, 3]"]


def test_numbers_stand_to_the_right_and_text_to_the_left(capsys: Out) -> None:
    print_rows(["name", "count"], [["a", "1"], ["bcd", "1234"]])
    _, _, first, second = lines(capsys)
    assert first == "a          1"
    assert second == "bcd     1234"


def test_limit_is_told(capsys: Out) -> None:
    print_table(pl.DataFrame({"n": range(5)}), as_json=False, limit=2)
    shown = lines(capsys)
    assert [line.strip() for line in shown[2:4]] == ["0", "1"]
    assert shown[4:] == ["… and 3 more rows (--json prints all)"]


@pytest.mark.parametrize("limit", [None, 5, 6])
def test_limit_that_is_not_reached_is_not_told(capsys: Out, limit: int | None) -> None:
    print_table(pl.DataFrame({"n": range(5)}), as_json=False, limit=limit)
    assert len(lines(capsys)) == 7


def test_markup_in_values_is_text(capsys: Out) -> None:
    print_rows(["[bold]field"], [["[red]x[/red] [/] :smile:"]])
    header, _, row = lines(capsys)
    assert (header, row) == ("[bold]field", "[red]x[/red] [/] :smile:")


def test_wide_table_is_not_folded_in_a_pipe(capsys: Out) -> None:
    text = "words " * 40
    print_rows(["description", "licence"], [[text.strip(), "MIT"]])
    assert text.strip() + "   MIT" in lines(capsys)[2]


def test_value_wider_than_any_pipe_is_whole(capsys: Out) -> None:
    print_rows(["message"], [["x" * 1000]])
    assert "x" * 1000 in lines(capsys)


def test_wide_table_is_folded_in_a_terminal_without_loss() -> None:
    code = "from sensorium.platform.tables import print_rows; print_rows(['name', 'text'], [['a', 'word ' * 30]])"
    terminal, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "40", "NO_COLOR": "1"},
    )
    os.close(side)
    drawn = b""
    try:
        while part := _read(terminal):
            drawn += part
    finally:
        os.close(terminal)
    assert child.wait() == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", drawn.decode()).splitlines()
    assert max(len(line) for line in shown) <= 40
    assert sum(line.count("word") for line in shown) == 30


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux tells that the other side has closed
        return b""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (5e9, "5.0 GB"),
        (2.5e12, "2.5 TB"),
        (7e18, "7000.0 PB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_human_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text


def test_human_bytes_never_shows_a_thousand_of_a_unit() -> None:
    assert human_bytes(999_999) == "1.0 MB"
