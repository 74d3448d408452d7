"""What every operator must do, run on all that are installed; and systems without a model on the command line and on Ray."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.validation import check_sample
from sensorium.jobs.training import configuration
from sensorium.jobs.training.method import check_data, method_of, png
from sensorium.jobs.training.operators import Operator, configured, is_operator, referred
from sensorium.jobs.training.prediction import operate
from sensorium.platform import plugins
from sensorium.platform.cli import main
from sensorium.platform.errors import InvalidSample, InvalidSetting, UnknownPlugin, UserError
from sensorium.platform.settings import Settings
from sensorium.platform.systems import GROUP, System

OPERATORS = [name for name, one in plugins.load_all(GROUP, System).items() if is_operator(one)]
SETTINGS = Settings()


@dataclass(frozen=True)
class Case:
    """An operator on its own made-up data."""

    name: str
    operator: Operator
    config: Any
    samples: list[dict[str, Any]]
    attributes: dict[str, Any]

    def create(self, catalog: Catalog) -> None:
        modality = self.operator.modality(self.config)
        catalog.create("made_up", modality=modality, attributes=self.attributes).append(self.samples)


@pytest.fixture(params=OPERATORS)
def case(request: pytest.FixtureRequest) -> Case:
    operator: Operator = configured(request.param).load()
    config = operator.config()
    samples, attributes = operator.example(config, 0)
    return Case(request.param, operator, config, samples, attributes)


def test_an_operator_is_installed() -> None:
    assert "shape_tree" in OPERATORS


def test_a_card_says_what_it_does_and_offers_nothing_that_needs_a_model(case: Case) -> None:
    system: System = plugins.load(GROUP, case.name, System)
    assert not {"fit", "evaluate"} & set(system.operations)
    assert system.explanation
    with pytest.raises(UserError, match=f"{case.name}' is an operator: it has no models"):
        method_of(case.name, "predict")


def test_importing_an_operator_needs_no_torch(case: Case) -> None:
    code = f"from sensorium.jobs.training.operators import configured; configured({case.name!r}); import sys; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_configuration_is_documented_and_survives_json(case: Case) -> None:
    default = case.config
    for one in fields(default):
        assert f"{one.name}:" in (type(default).__doc__ or "")
    assert configuration.from_json(type(default), configuration.to_json(default)) == default


def test_results_are_as_declared_and_repeat_themselves(case: Case, catalog: Catalog) -> None:
    declared = case.operator.results(case.config)
    results = case.operator.predict(case.config, case.samples)
    assert len(results) == len(case.samples)
    assert {name for one in results for name in one} == {one.name for one in declared}
    target = catalog.create("results", modality="table", fields=declared)
    for sample, result in zip(case.samples, results, strict=True):
        check_sample(target.declaration, {**result, "id": sample["id"]}, open_to_new=False)
    for one, again in zip(results, case.operator.predict(case.config, case.samples[::-1])[::-1], strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value, again[name])


def test_a_sample_is_not_written_to(case: Case) -> None:
    kept = pickle.dumps(case.samples)
    case.operator.predict(case.config, case.samples)
    assert pickle.dumps(case.samples) == kept


def test_a_missing_field_is_named(case: Case) -> None:
    for name in case.operator.fields(case.config):
        sample = {key: value for key, value in case.samples[0].items() if key != name}
        with pytest.raises(InvalidSample, match=f"has no '{name}'"):
            case.operator.predict(case.config, [sample])


def test_an_array_that_it_cannot_use_is_an_invalid_sample(case: Case) -> None:
    for name in case.operator.fields(case.config):
        array = np.asarray(case.samples[0][name], np.float64)
        for spoilt in (np.full_like(array, np.nan), array[..., 0, 0]):
            with pytest.raises(InvalidSample, match="sample"):
                case.operator.predict(case.config, [{**case.samples[0], name: spoilt}])


def test_what_it_does_can_be_drawn(case: Case) -> None:
    if case.operator.illustrate is None:
        pytest.skip("this operator draws nothing")
    for sample, result in zip(case.samples, case.operator.predict(case.config, case.samples), strict=True):
        pictures = case.operator.illustrate(case.config, sample, result)
        assert pictures
        for draw in pictures.values():
            assert Image.open(io.BytesIO(png(draw))).size[0] > 300


def test_no_reference_names_a_folder_of_this_machine(case: Case, tmp_path: Path) -> None:
    for name in case.operator.places:
        subject = configured(case.name, {name: str(tmp_path)})
        with pytest.raises(InvalidSetting, match=f"{name}.* names a folder of this machine"):
            referred(subject.reference)


def test_its_own_example_fits_its_declarations(case: Case, catalog: Catalog) -> None:
    case.create(catalog)
    check_data(case.operator, catalog["made_up"], case.config, labelled=False)


# -- references --------------------------------------------------------------------------------------------------------


def test_a_reference_holds_the_settings_that_differ() -> None:
    assert configured("shape_tree").reference == "shape_tree"
    subject = configured("shape_tree", ["operator=modify", "policy=mean + 1", "criterion=1"])
    again = referred(subject.reference)
    assert again == subject
    assert subject.reference == "shape_tree?criterion=1&operator=modify&policy=mean+%2B+1"
    assert configured("shape_tree", {"tree": True}).reference == "shape_tree?tree=true"
    assert pickle.loads(pickle.dumps(subject)) == subject


def test_a_reference_of_a_model_is_none_of_an_operator() -> None:
    assert referred("water@3") is None
    assert referred("water_pollutants") is None
    with pytest.raises(InvalidSetting, match="iterations must be a whole number"):
        referred("shape_tree?iterations=many")
    with pytest.raises(InvalidSetting, match="predicts with a fitted model"):
        configured("water_pollutants")
    with pytest.raises(UnknownPlugin, match="shape_tree"):
        configured("shape_trees")


# -- on the command line and on Ray ------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main([*words])
    return int(end.value.code or 0), "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["shape_tree", "--model", "some"], "has no models: leave --model out"),
        (["shape_tree", "--set", "area=0"], "area must be from 1 to"),
        (["shape_tree", "--set", "speed=1"], "there is no setting 'speed'"),
        (["shape_tree", "--set", "operator=modify", "--set", "policy=foo"], "has the name 'foo'"),
        (["water_pollutants"], "predicts with a fitted model, which holds its settings: give --model"),
        (["water_pollutants", "--model", "m", "--set", "skip=1"], "give --model and no --set"),
    ],
)
def test_what_a_user_gets_wrong_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    catalog = Catalog(tmp_path)
    catalog.create("photos", modality="image").append([{"id": "a", "image": np.zeros((4, 4, 1), np.uint8)}])
    code, said = told(capsys, "--lake", str(tmp_path), "predict", *words, "--data", "photos", "--into", "y")
    assert code == 2
    assert why in " ".join(said.split())
    assert "y" not in catalog.names()


def test_settings_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, "--lake", str(tmp_path), "--json", "systems", "shape_tree")
    assert code == 0
    assert json.loads(said)[0]["settings"]["iterations"] == "10"


@pytest.mark.usefixtures("ray_cluster")
def test_a_data_set_on_ray_goes_on_where_it_stopped(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    rng = np.random.default_rng(0)
    samples = [{"id": f"p{n}", "image": rng.integers(0, 256, (20, 24, 1)).astype(np.uint8)} for n in range(4)]
    samples.append({"id": "floats", "image": np.full((9, 9, 1), 7.5, np.float32)})
    catalog.create("photos", modality="image").append(samples)
    subject = configured("shape_tree", ["operator=area_opening", "area=5"])
    first = operate(catalog, subject, "photos", "opened", SETTINGS, where="id IN ('p0', 'floats')", workers=1)
    assert (first.computed, first.present, first.errors) == (2, 0, 1)
    done = operate(catalog, subject, "photos", "opened", SETTINGS, workers=1)
    assert (done.computed, done.present, done.errors) == (3, 2, 0)

    results = catalog["opened"].select()
    assert "floats must lie in [0, 1]" in str(results["floats"]["error"])
    (expected,) = subject.load().predict(subject.config, [samples[0]])
    np.testing.assert_array_equal(results["p0"]["image"], expected["image"])
    assert results["p0"]["nodes"] == expected["nodes"] < expected["nodes_before"]

    assert [str(one) for one in catalog["opened"].declaration.sources][:1] == ["photos@1"]
    run = catalog.runs().filter(run=done.run).to_dicts()[0]
    assert "area_opening" in json.dumps(run, default=str)
    with pytest.raises(InvalidSetting, match=r"'opened' holds results of .* not of shape_tree"):
        operate(catalog, configured("shape_tree"), "photos", "opened", SETTINGS)
    catalog.create("voices", modality="audio")
    with pytest.raises(InvalidSetting, match="of modality audio; image is needed"):
        operate(catalog, subject, "voices", "other", SETTINGS)
