"""What every fitted system must do, run on all that are installed: the suite that a new system gets for nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.selection import Selection
from sensorium.jobs.training import configuration
from sensorium.jobs.training.checkpoints import from_bytes, module_tensors, restore_modules, to_bytes
from sensorium.jobs.training.context import alone
from sensorium.jobs.training.export import export_onnx
from sensorium.jobs.training.fit import FitRequest, cross_validate, fit
from sensorium.jobs.training.loop import run_phase
from sensorium.jobs.training.method import Fitted, Method, check_data, load_model, png, ready
from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.jobs.training.recipe import Workspace
from sensorium.platform import plugins
from sensorium.platform.errors import UserError
from sensorium.platform.settings import Settings
from sensorium.platform.systems import GROUP, System

SYSTEMS = [name for name, system in plugins.load_all(GROUP, System).items() if "fit" in system.operations]
DATA = "made_up"


@dataclass(frozen=True)
class Case:
    """A system on its own made-up data."""

    name: str
    method: Method
    config: Any
    samples: list[dict[str, Any]]
    attributes: dict[str, Any]
    catalog: Catalog

    @property
    def selection(self) -> Selection:
        config = self.config
        names = [*self.method.fields(config), self.method.target(config)]
        dataset = self.catalog[DATA]
        eligible = None if self.method.eligible is None else self.method.eligible(config)
        return dataset.select(eligible, fields=[name for name in dict.fromkeys(names) if name in dataset.fields])

    def complete(self) -> list[dict[str, Any]]:
        """The samples as a prediction sees them, without the truth."""
        target = self.method.target(self.config)
        return [{**self.attributes, **{k: v for k, v in sample.items() if k != target}} for sample in self.samples]


@pytest.fixture(scope="module", params=SYSTEMS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    method: Method = plugins.load(GROUP, request.param, System).operation("fit")
    config = configuration.overridden(method.config(), dict(method.small))
    samples, attributes = method.example(config, 0)
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    modality = method.modality(config)
    catalog.create(DATA, modality=modality, attributes=attributes).append(samples)
    return Case(request.param, method, config, samples, attributes, catalog)


@pytest.fixture(scope="module")
def trained(case: Case) -> Fitted:
    """After one step of each phase."""
    torch.manual_seed(0)
    preprocessing = json.loads(json.dumps(case.method.preprocess(case.selection, case.config)))
    modules = case.method.build(case.config, preprocessing)
    space = Workspace(case.config, preprocessing, modules, case.selection, case.selection, alone("cpu"))
    for number, phase in enumerate(case.method.phases(case.config)):
        recipe = phase.recipe(space)
        for module in recipe.modules.values():
            module.train()
        run_phase(replace(recipe, options=replace(recipe.options, epochs=1)), alone("cpu"), number=number)
    return ready(case.config, preprocessing, modules, torch.device("cpu"))


def test_the_configuration_is_documented_and_survives_json(case: Case) -> None:
    default = case.method.config()
    assert isinstance(default.fit, FitOptions)
    assert isinstance(default.split, SplitOptions)
    assert configuration.from_json(case.method.config, configuration.to_json(default)) == default
    text = case.method.config.__doc__ or ""
    for name in vars(default):
        assert f"{name}:" in text or f"{name}," in text or f", {name}" in text, f"{name} is not documented"


def test_made_up_samples_are_good_for_a_fit(case: Case) -> None:
    assert case.catalog[DATA].verify().is_empty()
    check_data(case.method, case.catalog[DATA], case.config, labelled=True)
    groups = {sample.get(case.config.split.group, sample["id"]) for sample in case.samples}
    assert len(groups) >= 2
    again, _ = case.method.example(case.config, 0)
    assert all(_same(one, other) for one, other in zip(case.samples, again, strict=True))


def test_a_step_changes_the_weights_and_nothing_is_left_untrained(case: Case) -> None:
    torch.manual_seed(0)
    preprocessing = case.method.preprocess(case.selection, case.config)
    modules = case.method.build(case.config, preprocessing)
    before = {name: tensor.clone() for name, tensor in module_tensors(modules).items()}
    space = Workspace(case.config, preprocessing, modules, case.selection, case.selection, alone("cpu"))
    for number, phase in enumerate(case.method.phases(case.config)):
        recipe = phase.recipe(space)
        for module in recipe.modules.values():
            module.train()
        run_phase(replace(recipe, options=replace(recipe.options, epochs=1)), alone("cpu"), number=number)
    trainable = {
        f"{name}/{key}" for name, module in modules.items() for key, p in module.named_parameters() if p.requires_grad
    }
    after = module_tensors(modules)
    still = sorted(name for name in trainable if torch.equal(before[name], after[name]))
    assert not still
    assert all(torch.isfinite(tensor).all() for tensor in after.values() if tensor.is_floating_point())


def test_saved_and_loaded_it_gives_the_same_output(case: Case, trained: Fitted) -> None:
    tensors, _ = from_bytes(to_bytes(module_tensors(trained.modules)), "it")
    modules = case.method.build(case.config, trained.preprocessing)
    restore_modules(modules, tensors, "it")
    other = ready(case.config, trained.preprocessing, modules, torch.device("cpu"))
    samples = case.complete()[:3]
    for one, two in zip(case.method.predict(trained, samples), case.method.predict(other, samples), strict=True):
        assert _same(one, two)


def test_predictions_are_what_was_declared(case: Case, trained: Fitted, catalog: Catalog) -> None:
    samples = case.complete()
    results = case.method.predict(trained, samples)
    declared = {field.name: field for field in case.method.results(case.config)}
    assert len(results) == len(samples)
    for result in results:
        assert set(result) <= set(declared)
    target = catalog.create("results", modality="table", fields=list(declared.values()))
    target.append({**result, "id": sample["id"]} for sample, result in zip(samples, results, strict=True))
    assert target.verify().is_empty()
    assert all(isinstance(field, ArrayField | ScalarField) for field in declared.values())


def test_a_prediction_does_not_depend_on_the_others(case: Case, trained: Fitted) -> None:
    samples = case.complete()[:4]
    together = case.method.predict(trained, samples)
    for sample, expected in zip(samples, together, strict=True):
        (single,) = case.method.predict(trained, [sample])
        assert _same(single, expected, tolerance=1e-4)


def test_scores_and_figures(case: Case, trained: Fitted) -> None:
    import polars as pl

    rows = []
    for sample, result in zip(case.samples, case.method.predict(trained, case.complete()), strict=True):
        scored = case.method.score(trained, {**case.attributes, **sample}, result)
        if scored is not None:
            group = str(sample.get(case.config.split.group, sample["id"]))
            rows.append({"id": sample["id"], "group": group, **json.loads(json.dumps(scored))})
    assert rows
    figures = case.method.summarise(pl.DataFrame(rows, infer_schema_length=None), case.config)
    assert figures
    for figure in figures.values():
        assert figure.units >= 1
    for name, draw in case.method.pictures(pl.DataFrame(rows, infer_schema_length=None), trained).items():
        assert name
        assert callable(draw)
    unlabelled = case.complete()[0]
    assert case.method.score(trained, unlabelled, case.method.predict(trained, [unlabelled])[0]) is None


def test_a_prediction_is_drawn_for_people(case: Case, trained: Fitted) -> None:
    if case.method.illustrate is None:
        pytest.skip("its predictions are not drawn")
    sample = case.complete()[0]
    pictures = case.method.illustrate(trained, sample, case.method.predict(trained, [sample])[0])
    assert pictures
    for name, draw in pictures.items():
        content = png(draw)
        assert content.startswith(b"\x89PNG"), name
        with Image.open(io.BytesIO(content)) as picture:
            colours = picture.convert("RGB").getcolors(1 << 20)
        assert colours is None or len(colours) > 4, name  # more than an empty frame


def _damages(sample: Mapping[str, Any], field: str) -> list[tuple[str, dict[str, Any]]]:
    """Bad versions of a sample, by what is wrong with them."""
    value = sample[field]
    found: list[tuple[str, dict[str, Any]]] = [("missing", {k: v for k, v in sample.items() if k != field})]
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        spoilt = value.copy()
        spoilt.reshape(-1)[spoilt.size // 2] = np.nan
        found.append(("NaN", {**sample, field: spoilt}))
    if isinstance(value, np.ndarray) and value.ndim == 2:
        found.append(("one row less", {**sample, field: value[1:]}))
        found.append(("too short", {**sample, field: value[:, :3]}))
        found.append(("flat", {**sample, field: value.reshape(-1)}))
    return found


def test_bad_input_is_refused_with_sample_field_and_remedy(case: Case, trained: Fitted) -> None:
    sample = case.complete()[0]
    for field in case.method.fields(case.config):
        if field not in sample or not isinstance(sample[field], np.ndarray):
            continue
        for what, bad in _damages(sample, field):
            with pytest.raises(UserError) as caught:
                case.method.predict(trained, [bad])
            message = str(caught.value)
            assert repr(sample["id"]) in message, f"{field} {what}: {message}"
            assert message.rstrip().endswith("."), message


def test_a_fit_from_the_catalog_to_the_model_and_back(case: Case) -> None:
    report = fit(case.catalog, FitRequest(case.name, DATA, case.config), Settings())
    method, fitted = load_model(report.model, "cpu")
    assert method.predict(fitted, case.complete()[:2])
    assert report.figures
    assert report.model.parameters == sum(p.numel() for m in fitted.modules.values() for p in m.parameters())


def test_two_folds(case: Case) -> None:
    report = cross_validate(
        case.catalog, FitRequest(case.name, DATA, case.config), Settings(), only=(0, 1), parallel=False
    )
    assert report.folds.height == 2


def test_the_exported_network_gives_the_same_output(case: Case, tmp_path: Any) -> None:
    if case.method.export is None:
        pytest.skip("its network cannot leave: the input has no fixed number of dimensions")
    if case.catalog.models().is_empty():
        fit(case.catalog, FitRequest(case.name, DATA, case.config), Settings())
    done = export_onnx(case.catalog.model(case.name), tmp_path / "network.onnx")
    assert done.difference < 1e-4
    assert done.path.stat().st_size > 1000


def _same(one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float = 1e-6) -> bool:
    assert set(one) == set(other)
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(value, other[name], rtol=0, atol=tolerance, equal_nan=True, err_msg=name)
        elif isinstance(value, float):
            assert value == pytest.approx(other[name], abs=tolerance, nan_ok=True), name
        else:
            assert value == other[name], name
    return True
