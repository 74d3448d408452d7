"""The claim's experiment: what its rows and its verdict say, and that it goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.jobs.lung_segmentation import reproduction
from sensorium.jobs.lung_segmentation.config import LungConfig
from sensorium.jobs.lung_segmentation.segmentation import Model
from sensorium.jobs.training.fit import forget
from sensorium.jobs.training.overlap import mask_fit


def test_a_stopped_experiment_goes_on_at_its_volumes_and_leaves_nothing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    measured: list[int] = []

    def measure() -> list[dict[str, Any]]:
        measured.append(1)
        return [{"method": "LCG", "hausdorff": float("inf"), "dice": 0.25}]

    def rows(settings: tuple[Any, ...], volume: tuple[Any, ...]) -> list[dict[str, Any]]:
        return reproduction._kept(catalog.storage, settings, volume, measure)

    assert (
        rows((1,), ("grid", 0))
        == rows((1,), ("grid", 0))
        == [{"method": "LCG", "hausdorff": float("inf"), "dice": 0.25}]
    )
    assert len(measured) == 1
    rows((2,), ("grid", 0))
    rows((1,), ("grid", 1))
    assert len(measured) == 3
    forget(catalog, "reproduce-lung_segmentation")
    rows((1,), ("grid", 0))
    assert len(measured) == 4


def test_a_row_is_what_its_method_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Model] = []

    def all_light(model: Model) -> np.ndarray:
        seen.append(model)
        return ((model.volume.hu < -500) & model.volume.body).astype(np.uint8)

    monkeypatch.setattr(reproduction, "_methods", lambda config, learnt: {"light": all_light})
    (row,) = reproduction._simulated(1, (20, 48, 64), LungConfig(), lambda: all_light)
    made = reproduction.phantom(1, (20, 48, 64))
    expected = mask_fit(all_light(seen[0]), made.lungs, made.spacing)
    assert (row["dice"], row["hausdorff95"]) == (expected.dice, expected.hausdorff95)
    assert row["lesion 2"] == pytest.approx((all_light(seen[0])[made.lesions == 2] > 0).mean())


@pytest.mark.parametrize(
    ("full", "dense", "said"), [((0.9, 0.9), 0.5, "yes"), ((0.9, 0.7), 0.5, "in part"), ((0.5, 0.5), 0.0, "in part")]
)
def test_a_part_of_the_claim_holds_where_it_does_on_each_phantom(
    full: tuple[float, float], dense: float, said: str
) -> None:
    figures = {"LCG": ((0.6, 0.6), 0.1), "MGRF": ((0.8, 0.8), 0.1), "full": (full, dense), "ICM": ((0.7, 0.7), 0.2)}
    rows = [
        {"method": method, "dice": value, "lesion 2": found}
        for method, (values, found) in figures.items()
        for value in values
    ]
    told = reproduction._verdict({"5 mm": rows})
    assert told.startswith(f"{said}.")
    assert f"greater on {sum(value > 0.8 for value in full)} of 2" in told
