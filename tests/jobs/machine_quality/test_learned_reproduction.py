"""The tables and the verdict of the experiment, on made-up predictions whose order is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from sensorium.catalog import Catalog
from sensorium.jobs import codecs
from sensorium.jobs.machine_quality.learned import reproduction
from sensorium.jobs.machine_quality.learned.reproduction import _Judged
from sensorium.jobs.training.reproduction import Reproduction
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.settings import Settings

RANDOM = np.random.default_rng(0)
TRUE = RANDOM.uniform(size=200)


def judged(name: str, noise: float, *, learned: bool, comparable: bool = True) -> _Judged:
    frame = pl.DataFrame(
        {
            "id": [f"crop-{number}" for number in range(200)],
            "image_id": [f"image-{number // 10}" for number in range(200)],
            "codec": ["jpeg", "x264"] * 100,
            "value": TRUE + noise * np.random.default_rng(len(name)).normal(size=200),
            "true": TRUE,
        }
    )
    return _Judged(name, frame, learned=learned, comparable=comparable)


def test_a_learned_metric_that_is_better_beyond_chance_is_a_yes() -> None:
    good, bad = judged("net", 0.1, learned=True), judged("classic", 1.0, learned=False)
    assert reproduction._verdict({"detect": [bad, good]}).startswith("yes.")
    assert reproduction._verdict({"detect": [bad, good], "plates": [good, bad]}).startswith("yes.")


def test_one_that_is_worse_or_no_better_is_a_no() -> None:
    said = reproduction._verdict({"detect": [judged("net", 1.0, learned=True), judged("classic", 0.1, learned=False)]})
    assert said.startswith("no.")
    same = judged("classic", 0.5, learned=False)
    assert reproduction._verdict({"detect": [_Judged("net", same.frame, learned=True), same]}).startswith("no.")


def test_one_task_of_two_is_in_part() -> None:
    won = [judged("net", 0.1, learned=True), judged("classic", 1.0, learned=False)]
    lost = [judged("net", 1.0, learned=True), judged("classic", 0.1, learned=False)]
    assert reproduction._verdict({"detect": won, "plates": lost}).startswith("in part.")


def test_what_has_other_scores_is_in_the_table_and_not_in_the_verdict() -> None:
    rows = [
        judged("net", 1.0, learned=True),
        judged("classic", 0.5, learned=False),
        judged("subsets", 0.01, learned=True, comparable=False),
    ]
    assert reproduction._verdict({"recognise": rows}).startswith("no.")
    table = reproduction._overall(rows)
    assert table["metric"].to_list() == ["subsets", "classic", "net"]
    assert table["images"].to_list() == [20, 20, 20]
    assert set(reproduction._by_codec(rows).columns) >= {"metric", "jpeg", "x264"}


def test_classical_metrics_are_turned_so_that_the_right_sense_is_positive() -> None:
    own = judged("any", 0.0, learned=False).frame.select("id", "image_id", "codec", score="true")
    crops = own.with_columns(
        **{name: pl.lit(None, dtype=pl.Float64) for name in reproduction.METRICS}
        | {"psnr": 40 - pl.col("score"), "gmsd": pl.col("score"), "ssim": pl.when(pl.col("score") > 0.9).then(0.5)}
    )
    found = {one.name: reproduction._figures(one.frame)["srcc"].value for one in reproduction._classical(crops)}
    # of the structural similarity there are too few values to compare
    assert found == pytest.approx({"psnr": 1.0, "gmsd": 1.0})


@pytest.mark.parametrize("name", reproduction._CODECS)
def test_qualities_lie_within_the_scale(name: str) -> None:
    qualities = reproduction._qualities(name, 20)
    codec = codecs.get(name)
    assert len(qualities) == 20
    for quality in qualities:
        codec.check_quality(quality)


def test_without_photographs_it_is_said_what_to_import(catalog: Catalog) -> None:
    with pytest.raises(InvalidSetting, match="plates_eu, photographs"):
        reproduction.reproduce(Reproduction(catalog, Settings()))
