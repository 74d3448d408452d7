"""Each table names its variables once, each group has its reasons, and unknown variables are refused with a remedy."""

from __future__ import annotations

import pytest

from sensorium.catalog.importers.physionet2012 import VARIABLES
from sensorium.jobs.clinical_series.organs import MIMIC3, ORGANS, PHYSIONET2012, PHYSIONET2019, organ_groups
from sensorium.platform.errors import InvalidSetting


def test_the_tables_are_complete() -> None:
    assert set(PHYSIONET2012) == set(VARIABLES)
    assert (len(PHYSIONET2012), len(PHYSIONET2019), len(MIMIC3)) == (37, 34, 28)
    for table in (PHYSIONET2012, PHYSIONET2019, MIMIC3):
        assert set(table.values()) <= set(ORGANS)
    assert set(PHYSIONET2012.values()) == set(ORGANS)


@pytest.mark.parametrize("organ", ORGANS)
def test_every_organ_has_its_reasons(organ: str) -> None:
    assert len(ORGANS[organ].split()) >= 10


def test_one_quantity_is_of_one_organ_in_all_tables() -> None:
    same = [
        ("HR", "HR", "Heart Rate"),
        ("SysABP", "SBP", "Systolic blood pressure"),
        ("RespRate", "Resp", "Respiratory rate"),
        ("Temp", "Temp", "Temperature"),
        ("BUN", "BUN", "Blood urea nitrogen"),
        ("HCO3", "HCO3", "Bicarbonate"),
        ("WBC", "WBC", "White blood cell count"),
        ("Bilirubin", "Bilirubin_total", "Bilirubin"),
        ("FiO2", "FiO2", "Fraction inspired oxygen"),
        ("Glucose", "Glucose", "Glucose"),
        ("pH", "pH", "pH"),
    ]
    for one, two, three in same:
        assert PHYSIONET2012[one] == PHYSIONET2019[two] == MIMIC3[three]


def test_groups_follow_the_order_of_the_organs() -> None:
    organs, groups = organ_groups(["Creatinine", "SBP", "Glascow coma scale total", "BUN"])
    assert organs == ("Brain", "Heart", "Kidney")
    assert groups == (2, 1, 0, 2)
    organs, groups = organ_groups(VARIABLES)
    assert organs == tuple(ORGANS)
    assert [organs[group] for group in groups] == [PHYSIONET2012[name] for name in VARIABLES]


def test_spelling_does_not_count() -> None:
    assert organ_groups(["heart rate", "HEART_RATE", "hr"])[1] == (0, 0, 0)
    assert organ_groups(["Glasgow coma scale total"])[0] == ("Brain",)


def test_an_unknown_variable_is_refused() -> None:
    with pytest.raises(
        InvalidSetting, match=r"'Creatinin'. Did you mean 'Creatinine'\? Rename it, or .*graph=clustered"
    ):
        organ_groups(["HR", "Creatinin"])
