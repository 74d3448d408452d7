"""The root of the command line: global options, and commands found through entry points and loaded on demand."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort
from typer.exceptions import TyperException as UsageError

from sensorium.platform import plugins
from sensorium.platform.errors import BrokenPlugin, SensoriumError, close_matches

if TYPE_CHECKING:
    from sensorium.platform.settings import Settings

__all__ = ["State", "main", "state"]

_GROUP = "sensorium.commands"
#: global options may stand anywhere on the line; these take a value
_VALUED = ("--lake", "--address")
_FLAGS = ("--json", "--verbose")
_INTERRUPTED = 130
_STOPPED = "stopped; what was committed stays."


@dataclass
class State:
    """What the global options said.

    Attributes:
        settings: in force, flags included.
        json: print listings as JSON.
    """

    settings: Settings
    json: bool


class _Commands(TyperGroup):
    """Commands from entry points."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is click's
        return plugins.names(_GROUP)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in plugins.names(_GROUP):
            return None
        try:
            application = plugins.load(_GROUP, cmd_name, typer.Typer)
        except BrokenPlugin as error:  # the help of the others must still be printed
            application = _broken(error)
        command = typer.main.get_command(application)
        command.name = cmd_name
        return command


def _broken(error: BrokenPlugin) -> typer.Typer:
    """A command that says why it is none."""
    application = typer.Typer(add_completion=False)

    @application.command(
        help="Broken: it cannot be loaded.", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
    )
    def complain() -> None:
        raise error

    return application


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Global options may stand anywhere on the line. Shell completion: sensorium --install-completion.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sensorium {installed_version('sensorium')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    lake: str = typer.Option(
        None,
        "--lake",
        metavar="URL",
        help="The lake: a path, s3://…, gs://… (or SENSORIUM_LAKE; ./lake without either)",
    ),
    address: str = typer.Option(
        None, "--address", metavar="RAY", help="A Ray cluster to run on (or RAY_ADDRESS; a local one without either)"
    ),
    json: bool = typer.Option(False, "--json", help="Print listings as JSON."),
    verbose: int = typer.Option(0, "--verbose", "-v", count=True, help="Say more; twice for even more."),
    version: bool = typer.Option(  # noqa: ARG001 - handled by its callback
        False, "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
    ),
) -> None:
    """One data platform for every kind of sensor: catalog, training, sweeps and serving."""
    from sensorium.platform import logs
    from sensorium.platform.settings import Settings

    logs.configure(verbose)
    context.obj = State(Settings.load(lake=lake, address=address), json)


def state(context: typer.Context) -> State:
    """The global options, from within a command."""
    found = context.find_object(State)
    if found is None:  # a command called without the root, as a test may
        from sensorium.platform.settings import Settings

        return State(Settings.load(), json=False)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 2 for the user's mistake, 1 for ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = any(re.fullmatch("-v+|--verbose", argument) for argument in given)
    try:
        code = app(_globals_first(given), prog_name="sensorium", standalone_mode=False)
    except SensoriumError as error:
        _complain(str(error), verbose)
        sys.exit(error.exit_code)
    except UsageError as error:
        _explain_usage(error)
        sys.exit(2)
    except (Abort, KeyboardInterrupt):
        _complain(_STOPPED, verbose=False)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        _reader_went_away()
    except SystemExit as end:  # typer's own handling of a lost reader
        if isinstance(end.__context__, BrokenPipeError):
            _reader_went_away()
        raise
    except Exception as error:  # noqa: BLE001 - the last resort before the interpreter's own traceback
        _complain(
            f"internal error: {type(error).__name__}: {error}. Run again with --verbose for a trace, and report it.",
            verbose,
        )
        sys.exit(1)
    if code == _INTERRUPTED:  # typer's own handling of Ctrl-C
        _complain(_STOPPED, verbose=False)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_went_away()
    sys.exit(code if isinstance(code, int) else 0)


def _reader_went_away() -> NoReturn:
    """End quietly where nobody reads our output any more, as after ``| head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _explain_usage(error: UsageError) -> None:
    """What is wrong with the line, in one line; the help itself where a group was called without a command."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" or context is None:
        error.show()  # type: ignore[attr-defined]
        return
    hint = ""
    unknown = re.match(r"No such command '(.+)'", error.format_message())
    if unknown and hasattr(context.command, "list_commands"):
        hint = close_matches(unknown[1], context.command.list_commands(context))
    _complain(
        " ".join(filter(None, (error.format_message(), hint, f"See {context.command_path} --help."))), verbose=False
    )


def _complain(message: str, verbose: bool) -> None:
    if verbose:
        import traceback

        traceback.print_exc()
    typer.echo(f"sensorium: {message}", err=True)


def _globals_first(arguments: list[str]) -> list[str]:
    """Move global options to the front, so that they may stand anywhere before ``--``."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            rest += [argument, *remaining]
        elif (
            argument in _FLAGS
            or re.fullmatch("-v+", argument)
            or argument.startswith(tuple(f"{name}=" for name in _VALUED))
        ):
            front.append(argument)
        elif argument in _VALUED:
            value = next(remaining, None)
            if value is None:
                return [argument]  # alone, so that the complaint is about it
            front += [argument, value]
        else:
            rest.append(argument)
    return [*front, *rest]
