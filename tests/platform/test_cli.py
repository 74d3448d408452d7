"""The root of the command line: quick help, global options anywhere, and an exit code and one line for every end."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from sensorium.catalog import Catalog
from sensorium.platform import plugins
from sensorium.platform.cli import main

#: the command line, as its console script starts it
SENSORIUM = (sys.executable, "-c", "from sensorium.platform.cli import main; main()")
HEAVY = ("torch", "ray", "gradio", "polars", "pyarrow", "deltalake", "zarr", "numpy", "matplotlib")


class End(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., End]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command line in this process."""
    logger = logging.getLogger("sensorium")
    before = logger.handlers[:], logger.level, logger.propagate

    def ended(*arguments: str) -> End:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert isinstance(caught.value.code, int)
        return End(caught.value.code, *capsys.readouterr())

    yield ended
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A lake with the data set ``cats``; not the one that is used when none is named."""
    monkeypatch.chdir(tmp_path)
    Catalog(tmp_path / "mine").create("cats", modality="table")
    return str(tmp_path / "mine")


def child(*arguments: str, **variables: str) -> End:
    done = subprocess.run(
        [*SENSORIUM, *arguments], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    return End(done.returncode, done.stdout, done.stderr)


def one_line(end: End) -> str:
    """The single line on standard error, without whose it is."""
    assert end.out == ""
    assert end.err.count("\n") == 1, end.err
    assert end.err.startswith("sensorium: ")
    return end.err.removeprefix("sensorium: ").rstrip()


# -- help and version -------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_option(run: Run) -> None:
    end = run("--help")
    assert (end.code, end.err) == (0, "")
    wanted = [*plugins.names("sensorium.commands"), "--lake", "--address", "--json", "--verbose", "--version"]
    assert [word for word in wanted if word not in end.out] == []
    assert run("-h") == end


@pytest.mark.parametrize("variable", ["SENSORIUM_LAKE", "RAY_ADDRESS"])
def test_help_names_the_variables(run: Run, variable: str) -> None:
    assert variable in run("--help").out


@pytest.mark.parametrize("command", plugins.names("sensorium.commands"))
def test_help_of_every_command(run: Run, command: str) -> None:
    end = run(command, "--help")
    assert (end.code, end.err) == (0, "")
    assert f"sensorium {command}" in end.out


def test_help_takes_less_than_half_a_second() -> None:
    """Seconds of the processor, so that what else this machine does matters little; the best of three."""
    times = []
    for _ in range(3):
        process = subprocess.Popen([*SENSORIUM, "--help"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        times.append(used.ru_utime + used.ru_stime)
    assert min(times) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("catalog", "--help"), ("catalog", "ingest", "--help"), ("sweep", "--help")],
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = f"""
import sys
from sensorium.platform.cli import main
try:
    main({list(arguments)!r})
except SystemExit as end:
    print(end.code, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_version(run: Run) -> None:
    assert run("--version") == End(0, f"sensorium {installed_version('sensorium')}\n", "")


# -- global options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "--lake LAKE --json catalog list",
        "--json --lake=LAKE catalog list",
        "catalog --lake LAKE list --json",
        "catalog list --json --lake LAKE",
        "catalog --json list --lake=LAKE",
        "--lake elsewhere catalog list --lake LAKE --json",
        "catalog list --json --lake LAKE --",
        "catalog list --json --address 10.0.0.1:6379 --lake LAKE",
    ],
)
def test_global_options_stand_anywhere(run: Run, lake: str, line: str) -> None:
    end = run(*line.replace("LAKE", lake).split())
    assert (end.code, end.err) == (0, "")
    assert [row["name"] for row in json.loads(end.out)] == ["cats"]


def test_no_global_option_is_taken_after_two_dashes(run: Run, lake: str) -> None:
    end = run("--lake", lake, "catalog", "show", "--", "--json")
    assert end.code == 2
    assert "no data set '--json'" in one_line(end)


def test_lake_of_the_environment_and_of_the_flag(run: Run, lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_LAKE", lake)
    assert "cats" in run("catalog", "list").out
    assert "cats" not in run("catalog", "list", "--lake", "./empty").out


@pytest.mark.parametrize("option", ["--lake", "--address"])
def test_global_option_without_its_value_is_named(run: Run, option: str) -> None:
    end = run("catalog", "list", option)
    assert end.code == 2
    assert option in end.err
    assert "requires an argument" in end.err


def test_lake_without_a_name_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset variable in a script must not make the working folder the lake."""
    monkeypatch.chdir(tmp_path)
    end = run("--lake", "", "catalog", "list")
    assert end.code == 2
    assert "lake" in one_line(end)


@pytest.mark.parametrize("flag", ["-v", "--verbose", "-vv"])
@pytest.mark.parametrize("first", [True, False])
def test_verbose_shows_the_trace_and_ends_with_the_line(run: Run, lake: str, flag: str, first: bool) -> None:
    command = ["--lake", lake, "catalog", "show", "dogs"]
    end = run(flag, *command) if first else run(*command, flag)
    assert end.code == 2
    assert "Traceback (most recent call last)" in end.err
    assert end.err.splitlines()[-1].startswith("sensorium: ")


# -- the user's mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("catalog show dogs", "mine has no data set 'dogs'. There are: cats."),
        ("catalog show cat", "Did you mean 'cats'?"),
        ("catalog ingest nowhere --dataset dogs", "nowhere: there is no such file or folder."),
        ("systems machine_qualty", "there is no system 'machine_qualty'. Did you mean 'machine_quality'?"),
        ("--lake s4://bucket catalog list", "no storage is known for s4://"),
        ("sweep machine_quality --data dogs --into rows", "no data set 'dogs'"),
        ("sweep machine_quality --data cats --into rows --codecs jpg", "Did you mean 'jpeg' or"),
    ],
)
def test_users_mistake_is_one_line_and_exit_code_2(run: Run, lake: str, line: str, told: str) -> None:
    end = run("--lake", lake, *line.split())
    assert end.code == 2
    assert told in one_line(end)


def test_wrong_setting_is_one_line_and_exit_code_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_CPUS", "many")
    end = run("catalog", "list")
    assert end.code == 2
    assert "setting 'cpus'" in one_line(end)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("catalgo list", "'catalgo'"),
        ("catalog lst", "'lst'"),
        ("catalog list --colour", "--colour"),
        ("catalog show", "NAME"),
        ("catalog ingest .", "--dataset"),
        ("catalog query x --limit none", "--limit"),
        ("sweep machine_qualty", "'machine_qualty'"),
        ("catalog --json=yes list", "--json"),
    ],
)
def test_line_that_cannot_be_understood(run: Run, line: str, named: str) -> None:
    end = run(*line.split())
    assert (end.code, end.out) == (2, "")
    assert named in end.err.splitlines()[-1]
    assert "Traceback" not in end.err


# -- ends that are nobody's wish --------------------------------------------------------------------------------------

FAULTY = """
import os, signal, sys, typer

def command(function):
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return app

def fault():
    raise RuntimeError("the flux is out of phase")

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()

def flood():
    for number in range(1_000_000):
        typer.echo(f"line {number}")

def seven():
    raise typer.Exit(7)

fault, interrupt, flood, seven = (command(function) for function in (fault, interrupt, flood, seven))
"""


@pytest.fixture
def faulty(tmp_path: Path) -> str:
    """A folder for PYTHONPATH with a package whose commands end in every way."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    about = tmp_path / "faulty-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    points = "".join(f"{name} = faulty:{name}\n" for name in ("fault", "interrupt", "flood", "seven"))
    (about / "entry_points.txt").write_text(f"[sensorium.commands]\n{points}")
    return str(tmp_path)


def test_internal_fault_is_one_line_with_a_hint(faulty: str) -> None:
    end = child("fault", PYTHONPATH=faulty)
    assert end.code == 1
    message = one_line(end)
    assert message.startswith("internal error: RuntimeError: the flux is out of phase. ")
    assert "--verbose" in message
    assert "report" in message


def test_internal_fault_shows_its_trace_when_asked(faulty: str) -> None:
    end = child("fault", "--verbose", PYTHONPATH=faulty)
    assert end.code == 1
    assert "faulty.py" in end.err
    assert end.err.splitlines()[-1].startswith("sensorium: internal error: RuntimeError")


def test_interrupt_ends_with_130_and_one_line(faulty: str) -> None:
    end = child("interrupt", PYTHONPATH=faulty)
    assert end.code == 130
    assert one_line(end).startswith("stopped")


def test_exit_code_of_a_command_is_that_of_the_process(faulty: str) -> None:
    assert child("seven", PYTHONPATH=faulty) == End(7, "", "")


def test_reader_that_goes_away_is_no_error(faulty: str) -> None:
    process = subprocess.Popen(
        [*SENSORIUM, "flood"],
        env={**os.environ, "PYTHONPATH": faulty},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("--json", "systems"), ("systems",)])
def test_reader_that_was_never_there_is_no_error(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*SENSORIUM, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_long_listing_may_be_cut_by_head(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "lake")
    table = catalog.create("rows", modality="table", fields={"text": pa.string()})
    table.append({"id": f"row{index}", "text": "x" * 100} for index in range(3000))
    line = " ".join((*(f"'{part}'" for part in SENSORIUM), "--lake", str(tmp_path / "lake")))
    line += " catalog query 'select * from rows order by id' --limit 3000 | head -1"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["id", "text"]
    assert done.stderr == ""


# -- shell completion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete -o default -F"), ("zsh", "#compdef sensorium")])
def test_completion_script_is_printed(shell: str, mark: str) -> None:
    end = child("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", SHELL=f"/bin/{shell}")
    assert (end.code, end.err) == (0, "")
    assert mark in end.out
    assert "_SENSORIUM_COMPLETE" in end.out


@pytest.mark.parametrize(
    ("words", "offered"),
    [("sensorium cat", ["catalog"]), ("sensorium catalog in", ["ingest"]), ("sensorium sweep m", ["machine_quality"])],
)
def test_commands_are_completed(words: str, offered: list[str]) -> None:
    last = str(len(words.split()) - 1)
    end = child(_SENSORIUM_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=last)
    assert (end.code, end.out.split(), end.err) == (0, offered, "")
