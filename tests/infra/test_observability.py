"""The page on observability names commands, options and series that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families

from sensorium.platform import plugins
from sensorium.platform.cli import app
from sensorium.serve.measurements import Measurements

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/observability.md", "infra/README.md")
_GLOBAL = {"--json", "--verbose", "--lake", "--address", "--help", "--version", "-vv"}


def named(page: str) -> list[str]:
    """Commands of ours in a document: in code spans, and in lines of blocks."""
    text = (ROOT / page).read_text()
    found = re.findall(r"`(sensorium [^`]+)`", text) + re.findall(r"^(sensorium [^#\n]+)", text, re.MULTILINE)
    return sorted(set(found))


def command_of(words: list[str]) -> Any:
    """The command that the words name, and its own words."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "get_command"):
        context = command.make_context("sensorium", [], resilient_parsing=True)
        found = command.get_command(context, words[0])
        if found is None:
            break
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in PAGES for line in named(page)])
def test_commands_are_ones_that_we_have(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    while words and words[0].startswith("--"):
        assert words[0] in _GLOBAL
        words = words[2 if words[0] in ("--lake", "--address") else 1 :]
    if not words:
        return
    assert words[0] in plugins.names("sensorium.commands"), line
    command, rest = command_of(words)
    assert not hasattr(command, "get_command") or not rest, f"{line}: {rest}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | _GLOBAL
    own = rest[: rest.index("--")] if "--" in rest else rest
    assert {word.partition("=")[0] for word in own if word.startswith("-")} <= options, line


def test_the_pages_name_commands() -> None:
    assert all(len(named(page)) > 4 for page in PAGES)


def test_the_table_of_series_is_what_the_service_counts() -> None:
    measurements = Measurements()
    measurements.request("GET", "/", 200, 0.1)
    measurements.prediction("m@1", 1, failed=False)
    measurements.replicas.set(1)
    wanted = {}
    for family in text_string_to_metric_families(measurements.text().decode()):
        if family.name.endswith("_created"):  # the client's own, one for each series
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        wanted[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    rows = re.findall(r"^\| `(sensorium_\w+)` \|([\w, ]*)\|", (ROOT / PAGES[0]).read_text(), re.MULTILINE)
    assert {name: set(labels.replace(" ", "").split(",")) - {""} for name, labels in rows} == wanted


def test_series_of_the_page_are_on_the_dashboard() -> None:
    dashboard = (ROOT / "infra" / "monitoring" / "grafana" / "dashboards" / "sensorium.json").read_text()
    for name in re.findall(r"`(sensorium_\w+)`", (ROOT / PAGES[0]).read_text()):
        assert name in dashboard


def test_intervals_of_the_page_are_those_of_the_code() -> None:
    from sensorium.actors import recorder
    from sensorium.platform import progress

    text = (ROOT / PAGES[0]).read_text()
    assert (progress._LOG_EVERY, "every fifteen seconds" in text) == (15.0, True)
    assert (recorder._COMMIT_EVERY_S, "every twenty seconds" in text) == (20.0, True)
