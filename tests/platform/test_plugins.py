"""Plug-ins of a package that is none of ours are found, checked when loaded, and named when they are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sensorium.catalog import modality as modalities
from sensorium.jobs import codecs, image_metrics
from sensorium.platform import plugins, systems
from sensorium.platform.errors import UnknownPlugin, UserError

#: a whole package of somebody else: one plug-in of every kind
OUTSIDER = '''
from pathlib import Path
import numpy as np
import pyarrow as pa
import typer
from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.importer import Importer, Item
from sensorium.catalog.modality import Modality
from sensorium.jobs.codecs import Codec, Encoded
from sensorium.jobs.image_metrics import Metric
from sensorium.platform.systems import System

command = typer.Typer(add_completion=False)

@command.command()
def greet(name: str) -> None:
    """Greets from outside."""
    typer.echo(f"hello {name}")

system = System(
    name="outer_system", title="a method from outside", modality="smell", needs="smells", claim="smells better", paper=99,
    operations={"sweep": "outsider:sweep"},
)

def sweep(strength: int = 1) -> None:
    """Sweeps smells."""
    typer.echo(f"swept with strength {strength}")

modality = Modality(
    name="smell", title="chemical sensor arrays", fields=(ArrayField("odour", "C"), ScalarField("place", pa.string()))
)

def plan(source):
    for path in source.files(frozenset([".smell"])):
        yield Item(path.stem, (path,))

def read(item, options):
    return {"odour": np.array(item.paths[0].read_text().split(), dtype=np.float32)}

importer = Importer(
    name="smell_files", title="text files of numbers", modality="smell", plan=plan, read=read,
    matches=lambda source: float(bool(source.files(frozenset([".smell"])))),
)

codec = Codec(
    name="raw", title="no compression", scale="ignored, 0 to 1", best=1, worst=0, arguments="", version=lambda: "1",
    encode=lambda image, quality: Encoded(image.tobytes(), image.size),
    decode=lambda data, size: np.frombuffer(data, np.uint8).reshape(*size, 3),
)

metric = Metric(
    name="difference", title="largest difference", definition="max |a - b|", unit="", higher_is_better=False,
    compute=lambda a, b: float(np.abs(a.astype(int) - b.astype(int)).max()),
)
'''
OUTSIDER_POINTS = {
    "sensorium.commands": {"greet": "outsider:command"},
    "sensorium.systems": {"outer_system": "outsider:system"},
    "sensorium.modalities": {"smell": "outsider:modality"},
    "sensorium.importers": {"smell_files": "outsider:importer"},
    "sensorium.codecs": {"raw": "outsider:codec"},
    "sensorium.metrics": {"difference": "outsider:metric"},
}

Child = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages that is not the environment's."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def install(site: Path, package: str, points: Mapping[str, Mapping[str, str]], module: str) -> None:
    """Put a package of one module into ``site``, as an installer would: the code, and a ``.dist-info`` beside it."""
    (site / f"{package}.py").write_text(textwrap.dedent(module))
    about = site / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    groups = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in points.items())
    (about / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture
def child(site: Path, tmp_path: Path) -> Child:
    """Runs Python in a process that finds ``site``."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(site), "SENSORIUM_LAKE": str(tmp_path / "lake")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def sensorium(child: Child, *arguments: str) -> subprocess.CompletedProcess[str]:
    return child("-c", "from sensorium.platform.cli import main; main()", *arguments)


def answer(child: Child, code: str) -> Any:
    """What ``code`` prints, as JSON."""
    done = child("-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- a good package ---------------------------------------------------------------------------------------------------


def test_every_kind_of_plugin_is_found_outside(site: Path, child: Child) -> None:
    install(site, "outsider", OUTSIDER_POINTS, OUTSIDER)
    found = answer(
        child,
        """
        import json
        import numpy as np
        from sensorium.catalog import modality
        from sensorium.catalog.importer import GROUP, Importer
        from sensorium.jobs import codecs, image_metrics
        from sensorium.platform import plugins, systems
        image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
        codec = codecs.get("raw")
        back = codec.decode(codec.encode(image, 1).data, (4, 5))
        print(json.dumps({
            "system": systems.get("outer_system").title,
            "modality": list(modality.get("smell").arrays),
            "importer": plugins.load(GROUP, "smell_files", Importer).modality,
            "difference": image_metrics.get("difference").compute(image, back),
            "among ours": ["jpeg" in plugins.names("sensorium.codecs"), "image" in plugins.load_all(modality.GROUP)],
        }))
        """,
    )
    assert found == {
        "system": "a method from outside",
        "modality": ["odour"],
        "importer": "smell",
        "difference": 0.0,
        "among ours": [True, True],
    }


def test_command_from_outside_runs_and_is_in_the_help(site: Path, child: Child) -> None:
    install(site, "outsider", OUTSIDER_POINTS, OUTSIDER)
    greeted = sensorium(child, "greet", "world")
    assert (greeted.returncode, greeted.stdout, greeted.stderr) == (0, "hello world\n", "")
    assert "Greets from outside." in sensorium(child, "--help").stdout


def test_system_from_outside_is_listed_and_its_operation_is_a_command(site: Path, child: Child) -> None:
    install(site, "outsider", OUTSIDER_POINTS, OUTSIDER)
    (row,) = json.loads(sensorium(child, "--json", "systems", "outer_system").stdout)
    assert (row["modality"], row["offers"]) == ("smell", "sweep")
    assert sensorium(child, "sweep", "outer_system", "--strength", "3").stdout == "swept with strength 3\n"


def test_files_of_a_modality_from_outside_are_ingested(site: Path, child: Child, tmp_path: Path) -> None:
    install(site, "outsider", OUTSIDER_POINTS, OUTSIDER)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "rose.smell").write_text("0.5 0.25 4")
    ingested = sensorium(child, "catalog", "ingest", "files", "--dataset", "garden", "--json")
    assert ingested.returncode == 0, ingested.stderr
    report = json.loads(ingested.stdout)
    assert (report["format"], report["added"]) == ("smell_files", 1)
    values = answer(
        child,
        """
        import json
        from sensorium.catalog import Catalog
        print(json.dumps(Catalog("lake")["garden"].select()["rose"]["odour"].tolist()))
        """,
    )
    assert values == [0.5, 0.25, 4.0]


# -- broken packages --------------------------------------------------------------------------------------------------

REPORT = """
import json, sys
from sensorium.platform import plugins
from sensorium.platform.errors import BrokenPlugin
from sensorium.platform.systems import System
try:
    plugins.load("sensorium.systems", "odd", System)
except BrokenPlugin as error:
    print(json.dumps([str(error), error.exit_code]))
"""


@pytest.mark.parametrize(
    ("module", "value", "reason"),
    [
        ("raise RuntimeError('needs a licence key')", "odd_package:system", "RuntimeError: needs a licence key"),
        ("import not_there_at_all", "odd_package:system", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("def (", "odd_package:system", "SyntaxError"),
        ("", "odd_package:system", "AttributeError: module 'odd_package' has no attribute 'system'"),
        ("", "misspelt_package:system", "ModuleNotFoundError: No module named 'misspelt_package'"),
        ("system = 'a text'", "odd_package:system", "is a str, not a System"),
        (
            "from sensorium.platform.systems import System\n"
            "system = System(name='even', title='', modality='', needs='', claim='', paper=0)",
            "odd_package:system",
            "calls itself 'even'",
        ),
    ],
    ids=["raises", "lacks a package", "syntax", "no such object", "no such module", "wrong kind", "wrong name"],
)
def test_broken_plugin_is_named_with_its_package_and_the_reason(
    site: Path, child: Child, module: str, value: str, reason: str
) -> None:
    install(site, "odd_package", {"sensorium.systems": {"odd": value}}, module)
    message, exit_code = answer(child, REPORT)
    assert message.startswith(f"systems plug-in 'odd' ({value}, from odd_package) ")
    assert reason in message
    assert exit_code == 1


def test_broken_plugin_is_an_error_where_all_are_loaded(site: Path, child: Child) -> None:
    install(site, "odd_package", {"sensorium.systems": {"odd": "odd_package:system"}}, "raise OSError('no')")
    listed = sensorium(child, "systems")
    assert listed.returncode == 1
    assert listed.stdout == ""
    assert listed.stderr.startswith("sensorium: systems plug-in 'odd' (odd_package:system, from odd_package) ")
    assert listed.stderr.count("\n") == 1


def test_broken_command_does_not_disturb_the_others(site: Path, child: Child) -> None:
    install(site, "odd_package", {"sensorium.commands": {"odd": "odd_package:app"}}, "raise OSError('no')")
    listed = sensorium(child, "catalog", "list", "--json")
    assert (listed.returncode, listed.stdout) == (0, "[]\n")
    refused = sensorium(child, "odd")
    assert refused.returncode == 1
    assert "commands plug-in 'odd' (odd_package:app, from odd_package)" in refused.stderr
    assert "OSError: no" in refused.stderr


# -- names that nothing has -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("get", "wanted", "noun", "near"),
    [
        (systems.get, "machine_qualty", "systems", "machine_quality"),
        (modalities.get, "volumes", "modalities", "volume"),
        (codecs.get, "jpg", "codecs", "jpeg"),
        (image_metrics.get, "psrn", "metrics", "psnr"),
    ],
)
def test_unknown_name_offers_close_ones(get: Callable[[str], Any], wanted: str, noun: str, near: str) -> None:
    with pytest.raises(UnknownPlugin) as caught:
        get(wanted)
    assert str(caught.value).startswith(f"unknown name {wanted!r} among {noun}. Did you mean {near!r}")
    assert caught.value.exit_code == 2


def test_unknown_name_without_a_close_one_lists_what_there_is() -> None:
    with pytest.raises(UnknownPlugin) as caught:
        codecs.get("zzzzzz")
    assert "There are: " in str(caught.value)
    assert all(name in str(caught.value) for name in plugins.names(codecs.GROUP))


def test_unknown_group_has_no_names() -> None:
    assert plugins.names("sensorium.nothing_of_that_kind") == []


def test_name_that_two_packages_offer_is_an_error_that_names_both(tmp_path: Path) -> None:
    for package in ("first_pack", "second_pack"):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[sensorium.codecs]\ntwice = json:dumps\n")
    script = (
        "from sensorium.platform import plugins\n"
        "from sensorium.platform.errors import BrokenPlugin\n"
        "try:\n    plugins.load('sensorium.codecs', 'twice')\n"
        "except BrokenPlugin as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "'twice' is offered by first_pack and second_pack" in done.stdout


def test_an_operation_that_a_system_does_not_offer() -> None:
    system = systems.System("still", "one that cannot be fitted", "image", "", "", 1, {"sweep": "somewhere:it"})
    with pytest.raises(UserError, match=r"system 'still' cannot fit; it offers: sweep\."):
        system.operation("fit")
