"""The commands of fitting, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from sensorium.catalog import Catalog
from sensorium.jobs.water_pollutants import simulator
from sensorium.platform.cli import main

TINY = [
    "--set",
    "network=rnn",
    "--set",
    "optimiser=adam",
    "--set",
    "stride=60",
    "--set",
    "epochs=1",
    "--set",
    "folds=4",
]
TINY += ["--set", "validation=0.34", "--track", "off"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    dataset = catalog.create("water", modality="series", fields=list(simulator.FIELDS))
    dataset.append(simulator.samples(liquids=("ammonia", "hydrochloric_acid"), measurements=4))
    return catalog.storage.root


@pytest.fixture
def run(lake: str, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["--lake", lake, *arguments])
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return call


def loads(text: str) -> Any:
    return json.loads(text)


def test_from_a_fit_to_an_exported_model(run: Run, tmp_path: Path) -> None:
    code, out, err = run("fit", "water_pollutants", "--data", "water", "--name", "small", *TINY)
    assert (code, err) == (0, "")
    assert "small@1" in out
    assert "accuracy_after_injection" in out
    code, out, _ = run("models", "list", "--json")
    (listed,) = loads(out)
    assert (listed["name"], listed["version"], listed["system"]) == ("small", 1, "water_pollutants")
    assert run("models", "promote", "small", "production")[1] == "small@production is version 1\n"
    code, out, _ = run("models", "show", "small@production", "--json")
    shown = loads(out)
    assert shown["stages"] == ["production"]
    assert shown["configuration"]["network"] == "rnn"
    assert shown["made from"] == ["water@1"]
    assert "configuration.fit.lr" in run("models", "show", "small")[1]
    code, out, _ = run("models", "export", "small", "-o", str(tmp_path / "small.onnx"), "--json")
    assert code == 0
    assert loads(out)["difference"] < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    assert [held.name for held in session.get_inputs()] == ["windows"]
    code, out, _ = run("evaluate", "water_pollutants", "--model", "small", "--data", "water", "--json")
    assert code == 0
    assert loads(out)["left_out"] > 0
    assert "small" in run("systems")[1]
    assert "fit.lr" in run("systems", "water_pollutants")[1]
    assert "models/small" in run("catalog", "lineage", "small")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "water"], "unknown name 'water' among systems. There are: "),
        (["fit", "water_pollutants"], "--data NAME says what to fit on"),
        (["fit", "water_pollutants", "--data", "wter"], "Did you mean 'water'"),
        (
            ["fit", "water_pollutants", "--data", "water", "--set", "lrr=1"],
            "there is no setting 'lrr'. Did you mean 'lr'",
        ),
        (["fit", "water_pollutants", "--data", "water", "--set", "lr=fast"], "lr must be a number; got 'fast'"),
        (["fit", "water_pollutants", "--data", "water", "--set", "target=colour"], "has no field 'colour'"),
        (["fit", "water_pollutants", "--data", "water", "--track", "yes"], "track must be one of auto, online"),
        (["fit", "water_pollutants", "--data", "water", "--folds", "3", "--name", "x"], "leave --name out"),
        (
            ["fit", "water_pollutants", "--data", "water", "--folds", "3", "--search", "lr=log(1,2)"],
            "cannot go together",
        ),
        (["fit", "water_pollutants", "--data", "water", "--search", "lr=1e-4"], "--search takes KEY=log(a,b)"),
        (["fit", "water_pollutants", "--data", "water", "--search", "lr=log(1,0.1)"], "log needs 0 < least < greatest"),
        (["fit", "water_pollutants", "--data", "water", "--search", "lrr=log(0.1,1)"], "there is no setting 'lrr'"),
        (["fit", "water_pollutants", "--resume", "x", "--data", "water"], "leave the other options out"),
        (["fit", "water_pollutants", "--resume", "x"], "has no run 'x'"),
        (["fit", "water_pollutants", "--data", "water", "--folds", "9"], "cannot be cut into 9 folds"),
        (["evaluate", "water_pollutants", "--model", "none", "--data", "water"], "has no model 'none'"),
        (["predict", "water_pollutants", "--model", "none", "--data", "water", "--into", "y"], "has no model 'none'"),
        (["models", "show", "none"], "has no model 'none'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run: Run, arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert out == ""
