"""The functions behind the panels: what is offered, what is asked, what is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.models import ModelDraft
from sensorium.jobs.training import configuration
from sensorium.jobs.training.checkpoints import to_bytes
from sensorium.jobs.training.method import method_of
from sensorium.platform import plugins, systems
from sensorium.platform.errors import InvalidSample, SensoriumError, UnknownSample
from sensorium.platform.systems import GROUP, System
from sensorium.serve.gateway import Answer, Gateway, only
from sensorium.serve.hosts import LocalHosts
from sensorium.serve.pages.listing import Listing
from sensorium.serve.pages.markup import Html
from sensorium.serve.panels import described, inputs, panel, panels, results
from sensorium.serve.panels.inputs import Given, Needed
from sensorium.serve.queries import Queries
from sensorium.serve.uploads.errors import RejectedUpload
from sensorium.serve.uploads.sandbox import Sandbox
from tests.serve import panels_lake, small_cnn
from tests.serve.running import installed

Use = Callable[[Gateway], Coroutine[Any, Any, Any]]


#: one loop and one set of reading processes for the whole module: starting them takes longer than any test
_shared: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site")), asyncio.Runner() as runner:
        sandbox, queries = Sandbox(processes=1), Queries(str(tmp_path_factory.mktemp("nothing")))
        _shared.update(runner=runner, sandbox=sandbox, queries=queries)
        yield
        sandbox.close()
        queries.close()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return panels_lake.fill(tmp_path_factory.mktemp("panels") / "lake")


def used(catalog: Catalog, use: Use) -> Any:
    """What ``use`` makes of a gateway."""

    async def run() -> Any:
        return await use(Gateway(catalog, LocalHosts(catalog.storage), _shared["sandbox"], _shared["queries"]))

    return _shared["runner"].run(run())


def of_gateway(catalog: Catalog, look: Callable[[Gateway], Any]) -> Any:
    async def use(gateway: Gateway) -> Any:
        return look(gateway)

    return used(catalog, use)


# -- what is offered ---------------------------------------------------------------------------------------------------


def test_every_system_that_predicts_has_a_panel(lake: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_gateway(lake, panels)
    predicting = [name for name, one in plugins.load_all(GROUP, System).items() if "predict" in one.operations]
    assert [one.name for one in found] == predicting
    assert {"small_cnn", "water_pollutants"} <= set(predicting)
    assert "Water pollutants" in [one.title for one in found]

    own = replace(small_cnn.system, operations={"panel": "tests.serve.test_panels:own_panel"})
    monkeypatch.setattr(Gateway, "systems", lambda _: (own, replace(own, name="silent", operations={"fit": "x:y"})))
    (only,) = of_gateway(lake, panels)
    assert only.build is own_panel


def own_panel(gateway: Gateway) -> None:
    """Stands for the page of a system that brings its own."""


def test_production_comes_first_then_the_newest(lake: Catalog) -> None:
    choices = of_gateway(lake, lambda gateway: described.choices(gateway, systems.get("small_cnn")))
    assert [reference for _, reference in choices] == ["small@1", "small@2"]
    assert choices[0][0].startswith("small@1, production, fitted 20")
    assert of_gateway(lake, lambda gateway: described.choices(gateway, systems.get("water_pollutants"))) == []


def test_without_a_model_it_says_what_to_type(catalog: Catalog) -> None:
    water = plugins.load(GROUP, "water_pollutants", System)

    def said(gateway: Gateway) -> str:
        return described.nothing_fitted(Listing(gateway), water)

    assert "sensorium fit water_pollutants --data NAME<" in of_gateway(catalog, said)
    method = method_of("water_pollutants")
    samples, attributes = method.example(method.config(), 0)
    catalog.create("liquids", modality="series", attributes=attributes).append(samples[:1])
    assert "sensorium fit water_pollutants --data liquids<" in of_gateway(catalog, said)
    cannot = of_gateway(catalog, lambda gateway: described.nothing_fitted(Listing(gateway), small_cnn.system))
    assert "sensorium fit" not in cannot


def test_only_data_that_has_what_the_model_needs(lake: Catalog, catalog: Catalog) -> None:
    def offered(gateway: Gateway) -> list[tuple[str, str]]:
        return inputs.suiting(Listing(gateway), gateway.served("small"))

    assert of_gateway(lake, offered) == [("photos", "photos"), ("tall", "tall")]
    small_cnn.save(catalog)
    catalog.create("empty", modality="image")
    catalog.create("voices", modality="audio").append(
        [{"id": "a", "audio": np.zeros(8, np.float32), "sampling_rate": 8.0}]
    )
    assert of_gateway(catalog, offered) == []


def test_samples_are_listed_and_drawn_by_lot(lake: Catalog) -> None:
    ids = ["picture0", "picture1", "picture2"]
    assert of_gateway(lake, lambda gateway: inputs.sample_ids(Listing(gateway), "photos")) == ids
    drawn = of_gateway(lake, lambda gateway: {inputs.random_id(Listing(gateway), "photos") for _ in range(40)})
    assert drawn == set(ids)


# -- what is asked -----------------------------------------------------------------------------------------------------


def answer_for(catalog: Catalog, given: Callable[[Gateway, Any], Coroutine[Any, Any, Given]]) -> tuple[str, Answer]:
    async def use(gateway: Gateway) -> tuple[str, Answer]:
        found = await panel.answered(gateway, "small", lambda served: given(gateway, served))
        assert found.pair is None
        assert found.volume is None
        return found.html, found.answer

    found: tuple[str, Answer] = used(catalog, use)
    return found


def test_a_sample_of_the_lake(lake: Catalog) -> None:
    async def given(gateway: Gateway, served: Any) -> Given:
        return inputs.stored(Listing(gateway), served, "photos", "picture1")

    html, answer = answer_for(lake, given)
    expected = small_cnn.predicted(lake.model("small@1"), panels_lake.PICTURES[1])
    assert answer.result["predicted"] == expected["predicted"]
    np.testing.assert_allclose(answer.result["probabilities"], expected["probabilities"], atol=1e-6)
    assert f'<li data-field="predicted"><b>{expected["predicted"]}</b>' in html
    assert "cat &amp; dog" in html  # what the lake says
    assert "Answered by <b>small@1</b>" in html
    assert "run run-0" in html
    assert "sample?name=photos&amp;version=1&amp;id=picture1" in html
    assert 'src="data:image/png;base64,' in html
    assert answer.pictures == {}
    with pytest.raises(UnknownSample, match="picture9"):
        of_gateway(lake, lambda gateway: inputs.stored(Listing(gateway), gateway.served("small"), "photos", "picture9"))


def sent(catalog: Catalog, files: Mapping[str, bytes], scalars: Mapping[str, Any] | None = None) -> tuple[str, Answer]:
    async def given(gateway: Gateway, served: Any) -> Given:
        wanted = inputs.needed(gateway.catalog, served)
        return await inputs.uploaded(gateway, served, wanted, files, scalars or {})

    return answer_for(catalog, given)


def test_drawings_of_two_dates_go_into_a_slider(lake: Catalog) -> None:
    async def use(gateway: Gateway) -> tuple[Any, Answer, Given]:
        served = gateway.served("small")
        sample = inputs.stored(Listing(gateway), served, "photos", "picture1")
        return served, only(await gateway.predict("small", [sample.sample])), sample

    served, answer, sample = used(lake, use)
    assert results.pair(answer) is None
    drawn = {
        name: panels_lake.png(picture)
        for name, picture in zip((*results.PAIR, "map"), panels_lake.PICTURES, strict=True)
    }
    both = replace(answer, pictures=drawn)
    before, after = results.pair(both)
    np.testing.assert_array_equal(before, panels_lake.PICTURES[0])
    np.testing.assert_array_equal(after, panels_lake.PICTURES[1])
    html = results.shown(both, sample, served)
    assert html.count("<img") == 1
    assert '<figcaption class="quiet">map</figcaption>' in html


def test_a_file_of_ones_own(lake: Catalog) -> None:
    expected = small_cnn.predicted(lake.model("small@1"), panels_lake.PICTURES[2])
    for name in ("file", "image"):
        html, answer = sent(lake, {name: panels_lake.png(panels_lake.PICTURES[2])})
        np.testing.assert_allclose(answer.result["probabilities"], expected["probabilities"], atol=1e-6)
        assert "Asked about your own file" in html


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        ({}, InvalidSample, "no file is chosen"),
        ({"file": panels_lake.png(panels_lake.PICTURES[0, :40])}, SensoriumError, r"\(64, 64, 3\) is needed"),
        ({"file": panels_lake.png(panels_lake.PICTURES[0])[:900]}, RejectedUpload, "file"),
        ({"file": b"GIF89a and no more"}, RejectedUpload, "GIF"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(
    lake: Catalog, files: dict[str, bytes], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        sent(lake, files)


def test_fields_that_the_modality_does_not_know_come_from_the_data_of_the_fit(catalog: Catalog) -> None:
    method = method_of("machine_quality")
    samples, _ = method.example(method.config(), 0)
    crops = catalog.create("crops", modality="table")
    crops.append(samples[:2], evolve=True)
    draft = ModelDraft(
        "learned",
        "machine_quality",
        to_bytes({}),
        configuration.to_json(method.config()),
        sources=(crops_source(catalog),),
    )
    catalog.save_model(draft)
    content = {name: panels_lake.png(samples[0][name]) for name in ("reference", "compressed")}

    async def use(gateway: Gateway) -> tuple[Needed, Given]:
        served = await gateway.resolve("learned")
        wanted = inputs.needed(catalog, served)
        return wanted, await inputs.uploaded(gateway, served, wanted, content, {})

    wanted, given = used(catalog, use)
    assert wanted.foreign == {"reference", "compressed"}
    assert wanted.scalars == ()
    for name in content:
        np.testing.assert_array_equal(given.sample[name], samples[0][name])


def crops_source(catalog: Catalog) -> Any:
    from sensorium.catalog.declaration import Source

    return Source("crops", catalog["crops"].version)


def test_a_bare_array_is_the_field_that_the_model_needs(catalog: Catalog) -> None:
    import io

    signal = np.random.default_rng(0).normal(size=(10, 500)).astype(np.float32)
    content = io.BytesIO()
    np.save(content, signal)
    served = panels_served("water_pollutants", catalog)

    async def use(gateway: Gateway) -> Given:
        found = await gateway.resolve(served)
        wanted = inputs.needed(catalog, found)
        assert [one.name for one in wanted.further] == ["variable_names", "sampling_rate", "channels"]
        with pytest.raises(RejectedUpload, match="Give sampling_rate in Hz"):
            await inputs.uploaded(gateway, found, wanted, {"file": content.getvalue()}, {})
        return await inputs.uploaded(gateway, found, wanted, {"file": content.getvalue()}, {"sampling_rate": 0.5})

    np.testing.assert_array_equal(used(catalog, use).sample["signal"], signal)


def panels_served(system: str, catalog: Catalog) -> str:
    """A model without weights: enough to say what it needs."""
    method = method_of(system)
    return catalog.save_model(
        ModelDraft("bare", system, to_bytes({}), configuration.to_json(method.config()))
    ).reference


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (pa.list_(pa.string()), "Fp1, Fp2 ,C3", ["Fp1", "Fp2", "C3"]),
        (pa.list_(pa.string()), '["a, b", "c"]', ["a, b", "c"]),
        (pa.list_(pa.float64()), "1, 2.5", [1.0, 2.5]),
        (pa.string(), "1, 2", "1, 2"),
        (pa.float64(), "3.5", 3.5),
        (pa.bool_(), "true", True),
    ],
)
def test_what_is_typed_becomes_values(kind: pa.DataType, text: str, value: Any) -> None:
    assert inputs.parsed(ScalarField("x", kind), text) == value


def test_what_cannot_be_read_is_a_sentence() -> None:
    with pytest.raises(InvalidSample, match=r"field 'x': '1, b' cannot be read\. Type values parted by commas\."):
        inputs.parsed(ScalarField("x", pa.list_(pa.float64())), "1, b")


# -- what is said ------------------------------------------------------------------------------------------------------


def test_numbers_among_metrics_with_their_intervals() -> None:
    metrics = {
        "auroc": {"value": 0.81234, "low": 0.7, "high": 0.9, "units": 12},
        "steps": 40,
        "validation": {"loss": 0.5, "note": "text"},
        "lone": {"value": 1.0, "low": None, "high": None},
    }
    assert list(described.metric_rows(metrics)) == [
        ("auroc", 0.81234, "0.7 to 0.9", 12),
        ("steps", 40, "", None),
        ("validation: loss", 0.5, "", None),
        ("lone", 1.0, "", None),
    ]


def test_figures_with_intervals_stand_apart_from_the_rest(lake: Catalog) -> None:
    served = of_gateway(lake, lambda gateway: gateway.served("small"))
    assert "Nothing was measured" in described.about(served, ())
    metrics = {"auroc": {"value": 0.8, "low": 0.7, "high": 0.9, "units": 12}, "steps": 40}
    html = described.about(replace(served, model=replace(served.model, metrics=metrics)), ("<best>",))
    figures, _, others = html.partition("<details>")
    assert "0.7 to 0.9" in figures
    assert "steps" not in figures
    assert "steps" in others
    assert "&lt;best&gt;" in figures


def test_every_system_says_how_it_works() -> None:
    for name, system in plugins.load_all(GROUP, System).items():
        if name == "small_cnn":
            continue
        assert system.explanation.startswith("In go"), name
        assert f"paper {system.paper}" in described.how(system)
        assert system.explanation.split(".")[0] in described.how(system)


def test_probabilities_are_told_from_other_arrays() -> None:
    rows = np.array([[0.25, 0.75], [0.75, 0.25], [0.5, 0.5]], np.float32)
    found = results.probabilities({"windows": rows, "scores": rows * 2, "counts": np.array([1, 0]), "text": "x"})
    assert list(found) == ["windows"]
    np.testing.assert_allclose(found["windows"], [0.5, 0.5])


def test_what_comes_from_data_is_escaped_and_other_arrays_are_named(lake: Catalog) -> None:
    served = of_gateway(lake, lambda gateway: gateway.served("small"))
    fields = lambda config: (  # noqa: E731
        ScalarField("predicted", pa.string(), unit="<u>"),
        ArrayField("edges", "H W"),
    )
    odd = replace(served, method=replace(served.method, results=fields))
    answer = Answer(
        "small@1",
        "small_cnn",
        (),
        "",
        {"predicted": "<b>bold</b>", "edges": np.arange(6.0).reshape(2, 3)},
        {"<i>": b"png"},
    )
    html = results.shown(answer, Given({}, Html("a file"), "<s>"), odd)
    for tag in ("<b>bold", "<u>", "<i>", "<s>"):
        assert tag not in html
    assert "2 × 3" in html
    assert "<b>bold" not in results.failure("<b>bold")


def test_files_hold_the_result_and_who_gave_it() -> None:
    result = {"predicted": "cat", "probabilities": np.array([0.2, 0.8], np.float32)}
    answer = Answer("small@1", "small_cnn", ("photos@1",), "run-0", result)
    with np.load(results.as_npz(answer)) as saved:
        np.testing.assert_array_equal(saved["probabilities"], result["probabilities"])
        assert (str(saved["predicted"]), str(saved["answered_by"])) == ("cat", "small@1")
    said = json.loads(Path(results.as_json(answer)).read_text())
    assert (said["model"], said["data"], said["result"]["predicted"]) == ("small@1", ["photos@1"], "cat")
