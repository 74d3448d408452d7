"""``sensorium sweep`` and ``sensorium systems``: the systems on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from sensorium.catalog.cli import open_catalog
from sensorium.jobs.machine_quality.report.command import report
from sensorium.platform import plugins
from sensorium.platform.cli import state
from sensorium.platform.systems import GROUP, System, get

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog

__all__ = ["sweep", "systems"]


def _offering(operation: str) -> type[TyperGroup]:
    """A command group whose members are the systems that offer ``operation``, behind commands of its own.

    The systems' functions are the commands.
    """

    class Offering(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            own = super().list_commands(ctx)
            return [*own, *(name for name in plugins.names(GROUP) if operation in get(name).operations)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            own = super().get_command(ctx, cmd_name)
            if own is not None or cmd_name not in self.list_commands(ctx):
                return own
            single = typer.Typer(add_completion=False)
            single.command(name=cmd_name)(get(cmd_name).operation(operation))
            command = typer.main.get_command(single)
            command.name = cmd_name
            return command

    return Offering


sweep = typer.Typer(
    cls=_offering("sweep"), no_args_is_help=True, add_completion=False, help="Bulk sweeps over data sets."
)


@sweep.callback()
def _sweep() -> None:
    """Run a system over every sample and setting, on Ray, resumable; report on what came of it."""


sweep.command("report")(report)


systems = typer.Typer(
    add_completion=False, invoke_without_command=True, help="The eighteen systems: what they do, need and offer."
)


@systems.command()
def list_systems(
    context: typer.Context,
    name: str | None = typer.Argument(None, metavar="[NAME]", help="One system; all of them without it."),
) -> None:
    """The systems, installed and planned; one of them in full."""
    import polars as pl

    from sensorium.jobs.planned import PLANNED
    from sensorium.platform.errors import UnknownPlugin, close_matches
    from sensorium.platform.tables import print_rows, print_table

    installed: dict[str, System] = plugins.load_all(GROUP, System)
    known = sorted(
        {**{system.name: system for system in PLANNED}, **installed}.values(),
        key=lambda system: (system.paper, system.name),
    )
    fitted = _fitted(open_catalog(context))
    rows = [
        {
            "paper": system.paper,
            "name": system.name,
            "title": system.title,
            "modality": system.modality,
            "offers": ", ".join(system.operations) if system.name in installed else "planned",
            "models": ", ".join(fitted.get(system.name, [])),
            "needs": system.needs,
            "claim": system.claim,
        }
        for system in known
    ]
    if name is None:
        frame = pl.DataFrame(rows)
        if not state(context).json:
            frame = frame.select("paper", "name", "title", "modality", "offers", "models")
        print_table(frame, as_json=state(context).json)
        return
    chosen = [row for row in rows if row["name"] == name]
    if not chosen:
        names = [str(row["name"]) for row in rows]
        raise UnknownPlugin(f"there is no system {name!r}. {close_matches(name, names)}".rstrip())
    settings = _settings(installed[name]) if name in installed else []
    if state(context).json:
        print_table(pl.DataFrame([{**chosen[0], "settings": dict(settings)}], strict=False), as_json=True)
        return
    print_rows(["", ""], [[key, str(value)] for key, value in chosen[0].items()])
    if settings:
        print_rows(["setting", "default"], [[path, value] for path, value in settings])


def _fitted(catalog: Catalog) -> dict[str, list[str]]:
    """Names of the lake's models by system."""
    found: dict[str, list[str]] = {}
    for name, system in catalog.models().select("name", "system").unique().sort("name").iter_rows():
        found.setdefault(system, []).append(name)
    return found


def _settings(system: System) -> list[tuple[str, str]]:
    """What ``--set`` can change in a system, with the defaults."""
    from sensorium.jobs.training.configuration import paths
    from sensorium.jobs.training.operators import is_operator

    if is_operator(system):
        config = system.operation("predict").config()
    elif "fit" in system.operations:
        config = system.operation("fit").config()
    else:
        return []
    return [(path, str(value)) for path, value in paths(config)]
