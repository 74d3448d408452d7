"""The experiment behind a system's claim: run it, write table, figures and verdict where people find them."""

from __future__ import annotations

import io
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from sensorium.catalog.declaration import Source
from sensorium.catalog.lineage import Run, environment
from sensorium.platform import systems
from sensorium.platform.tables import json_text, markdown

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog
    from sensorium.jobs.training.fit import CrossValidation, FitRequest
    from sensorium.platform.settings import Settings

__all__ = ["Finding", "Reproduced", "Reproduction", "Section", "reproduce"]


@dataclass(frozen=True)
class Reproduction:
    """What an experiment is given.

    Attributes:
        catalog: the lake, with whatever data the experiment finds or makes there.
        settings: of the session.
        quick: minutes instead of hours: fewer seeds, folds or epochs, which the report says.
        data: NAME or NAME@VERSION of the data set; empty for the experiment's own choice.
        seeds: repetitions; 0 for the experiment's own choice.
        changes: settings ``key=value`` of all that is fitted, instead of the experiment's own; the report says them.
        folds: only so many folds of each cross-validation, the first ones; 0 for the experiment's own choice.
        protocol: of the paper, on a public data set that the user brings; empty for the claim's experiment.
    """

    catalog: Catalog
    settings: Settings
    quick: bool = False
    data: str = ""
    seeds: int = 0
    changes: tuple[str, ...] = ()
    folds: int = 0
    protocol: str = ""

    def only(self, folds: Sequence[int] = ()) -> tuple[int, ...]:
        """Numbers of the folds to run, where the experiment would run ``folds`` (all of them where it names none)."""
        return tuple(range(self.folds)) if self.folds else tuple(folds)

    def cross_validate(self, asked: FitRequest, only: Sequence[int] = (), **more: Any) -> CrossValidation:
        """Cross-validate as :func:`.fit.cross_validate` does; an experiment that is stopped goes on at its folds.

        Args:
            asked: what is fitted.
            only: folds that the experiment would run; all of them where it names none.
            more: see there.
        """
        from sensorium.jobs.training.fit import cross_validate

        return cross_validate(
            self.catalog, asked, self.settings, only=self.only(only), keep=_kept(asked.system), **more
        )

    def differences(self) -> dict[str, Any]:
        """What the run's record says of a request that is not the whole experiment."""
        return {"data": self.data, "seeds": self.seeds, "changes": list(self.changes), "folds": self.folds,
                "protocol": self.protocol}  # fmt: skip

    def command(self, system: str) -> str:
        """What a user types for it."""
        words = ["sensorium reproduce", system]
        words += ["--quick"] if self.quick else []
        words += [f"--protocol {self.protocol}"] if self.protocol else []
        words += [f"--data {self.data}"] if self.data else []
        words += [f"--seeds {self.seeds}"] if self.seeds else []
        words += [f"--folds {self.folds}"] if self.folds else []
        return " ".join([*words, *(f"--set {shlex.quote(change)}" for change in self.changes)])


@dataclass(frozen=True)
class Section:
    """A table of a report.

    Attributes:
        title: above it.
        table: its rows.
        note: what is below it: how it was measured, on what, and what it shows.
    """

    title: str
    table: pl.DataFrame
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """What an experiment found.

    Attributes:
        claim: in one sentence.
        shown: whether it shows here: ``yes``, ``no``, ``in part``, and why, in a sentence or two.
        sections: tables.
        figures: PNG files by name.
        inputs: data sets that were used.
    """

    claim: str
    shown: str
    sections: tuple[Section, ...]
    figures: Mapping[str, bytes] = field(default_factory=dict)
    inputs: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Reproduced:
    """Where a report lies.

    Attributes:
        run: its id.
        finding: what was found.
        folder: in the lake: ``report.md``, a Parquet file per table, the figures.
        markdown: the report.
    """

    run: str
    finding: Finding
    folder: str
    markdown: str


def reproduce(system: str, request: Reproduction) -> Reproduced:
    """Run the experiment of a system and write its report into the lake."""
    from sensorium.jobs.training.fit import forget

    experiment: Callable[[Reproduction], Finding] = systems.get(system).operation(
        "protocol" if request.protocol else "reproduce"
    )
    mode = request.protocol or ("quick" if request.quick else "full")
    run = Run("reproduce", system, {"mode": mode, **request.differences()})
    started = time.monotonic()
    with request.catalog.running(run):
        finding = experiment(request)
    seconds = time.monotonic() - started
    forget(request.catalog, _kept(system))
    text = _markdown(request.command(system), finding, seconds)
    place = ("reports", system, mode)
    storage = request.catalog.storage
    for index, section in enumerate(finding.sections):
        buffer = io.BytesIO()
        section.table.write_parquet(buffer)
        storage.write(buffer.getvalue(), *place, f"table_{index + 1}.parquet")
    for name, content in finding.figures.items():
        storage.write(content, *place, f"{name}.png")
    storage.write(text.encode(), *place, "report.md")
    files = ["/".join((*place, name)) for name in ("report.md", *(f"{figure}.png" for figure in finding.figures))]
    done = run.ended("finished", metrics={"shown": finding.shown, "seconds": seconds}, files=files)
    request.catalog.record(done)
    return Reproduced(run.id, finding, storage.at_path(*place), text)


def _kept(system: str) -> str:
    """The name under which an experiment keeps its folds until it is over."""
    return f"reproduce-{system}"


def _markdown(command: str, finding: Finding, seconds: float) -> str:
    made = environment()
    lines = [f"**Claim:** {finding.claim}", "", f"**Shown here:** {finding.shown}", ""]
    for section in finding.sections:
        lines += [f"**{section.title}**", "", _table(section.table), ""]
        if section.note:
            lines += [section.note, ""]
    used = ", ".join(str(source) for source in finding.inputs)
    lines += [
        f"Made by `{command}` in {_duration(seconds)} on {made['cores']} cores ({made['machine']}, torch "
        f"{made.get('torch', 'none')}){', from ' + used if used else ''}.",
        "",
    ]
    return "\n".join(lines)


def _table(table: pl.DataFrame) -> str:
    rows = [[_short(value) for value in row] for row in table.iter_rows()]
    return markdown(table.columns, rows)


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def report_text(catalog: Catalog, system: str, mode: str) -> str:
    """The report that the lake holds.

    Raises:
        FileNotFoundError: there is none.
    """
    return catalog.storage.read("reports", system, mode, "report.md").decode()


def json_of(reproduced: Reproduced) -> str:
    """A report for programs."""
    finding = reproduced.finding
    tables = {section.title: section.table.to_dicts() for section in finding.sections}
    return json_text(
        {
            "run": reproduced.run,
            "claim": finding.claim,
            "shown": finding.shown,
            "folder": reproduced.folder,
            "tables": tables,
        }
    )
