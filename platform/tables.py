"""Tables for people and for programs: one way to print a data frame."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import polars as pl

__all__ = ["human_bytes", "json_text", "markdown", "print_rows", "print_table"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def human_bytes(count: float) -> str:
    """``1234567`` as ``1.2 MB``."""
    for unit in _UNITS:
        text = f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        if abs(count) < 999.95 or unit == _UNITS[-1]:  # what would be rounded to 1000 is one of the next unit
            break
        count /= 1000
    return text


def json_text(value: Any) -> str:
    """A value as JSON for programs: times in ISO 8601, null for NaN and infinities."""
    return json.dumps(_finite(value), default=_as_json, ensure_ascii=False, allow_nan=False)


def print_table(frame: pl.DataFrame, *, as_json: bool, empty: str = "Nothing.", limit: int | None = None) -> None:
    """Print a data frame as a table, or as a JSON list of objects.

    Args:
        frame: what to print.
        as_json: for programs: all rows, times in ISO 8601.
        empty: what to say to people where there are no rows.
        limit: rows shown to people at most.
    """
    if as_json:
        typer.echo(json_text(frame.to_dicts()))
        return
    if frame.is_empty():
        typer.echo(empty)
        return
    shown = frame if limit is None else frame.head(limit)
    print_rows(
        frame.columns, [[_cell(name, value) for name, value in row.items()] for row in shown.iter_rows(named=True)]
    )
    if shown.height < frame.height:
        typer.echo(f"… and {frame.height - shown.height} more rows (--json prints all)")


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a header; numbers to the right."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(header):
        numeric = bool(rows) and all(_numeric(row[index]) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    if not console.is_terminal:  # a pipe has no width: do not fold what a program may read
        columns = zip(header, *rows, strict=True)
        console = Console(width=sum(max(map(cell_len, column)) + 3 for column in columns) + 1)
    console.print(table)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _numeric(cell: str) -> bool:
    return cell.replace(".", "").replace("-", "").replace(",", "").strip().split(" ")[0].isdigit() or cell == ""


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "bytes":
        return human_bytes(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    if isinstance(value, dict) and "shape" in value and "dtype" in value:
        return f"{value['dtype']} {list(value['shape'])}"
    return str(value)


def _finite(value: Any) -> Any:
    """NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return value


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
