"""Splits by group: nobody is on two sides."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.jobs.training.folds import Split, k_folds, refuse_leaks, single, split_frame
from sensorium.jobs.training.options import SplitOptions
from sensorium.platform.errors import DataLeak, InvalidSample, InvalidSetting


def frame(groups: list[str], strata: list[str] | None = None) -> pl.DataFrame:
    rows = pl.DataFrame(
        {"id": [f"s{index:03}" for index in range(len(groups))], "subject": groups, "label": strata or groups}
    )
    return split_frame(rows, SplitOptions(group="subject", stratify="label" if strata else ""))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=6, max_size=25),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
    validation=st.sampled_from([0.0, 0.25, 0.5]),
)
def test_no_group_is_on_two_sides_and_each_is_tested_once(
    sizes: list[int], folds: int, seed: int, validation: float
) -> None:
    rows = frame([f"g{index}" for index, size in enumerate(sizes) for _ in range(size)])
    options = SplitOptions("subject", "", folds, validation, seed)
    group = dict(rows.select("id", "group").iter_rows())
    if validation and len(sizes) - -(-len(sizes) // folds) < round(1 / validation):
        return
    splits = k_folds(rows, options)
    tested = [identifier for split in splits for identifier in split.test]
    assert sorted(tested) == rows["id"].to_list()
    for split in splits:
        sides = [{group[identifier] for identifier in part} for part in (split.train, split.validation, split.test)]
        assert len(sides[0]) + len(sides[1]) + len(sides[2]) == len(set.union(*sides))
        assert len(split.train) + len(split.validation) + len(split.test) == rows.height
        assert bool(split.validation) == bool(validation)
    assert k_folds(rows, options) == splits


def test_strata_are_spread_evenly() -> None:
    labels = ["sick"] * 20 + ["well"] * 80
    rows = frame([f"g{index}" for index in range(100)], labels)
    for split in k_folds(rows, SplitOptions("subject", "label", 5, 0.25)):
        share = rows.filter(pl.col("id").is_in(list(split.test)))["stratum"].to_list().count("sick")
        assert (share, len(split.test), len(split.validation)) == (4, 20, 20)


@pytest.mark.parametrize(
    "parts",
    [
        (("s000",), (), ("s001",)),
        (("s000",), ("s001",), ()),
        (("s002",), ("s000",), ("s001",)),
        (("s000",), (), ("s000",)),
    ],
)
def test_a_leak_is_refused(parts: tuple[tuple[str, ...], ...]) -> None:
    rows = frame(["anna", "anna", "ben"])
    with pytest.raises(DataLeak, match="is in more than one part"):
        refuse_leaks(rows, Split(*parts))


@pytest.mark.parametrize(
    ("groups", "strata", "says"),
    [
        (["a", "b", "c"], None, "3 groups cannot be cut into 5 folds"),
        ([str(index) for index in range(9)], ["x"] * 8 + ["y"], "'y' has 1 samples, fewer than 5 folds"),
    ],
)
def test_too_few_groups_are_told(groups: list[str], strata: list[str] | None, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says):
        k_folds(frame(groups, strata), SplitOptions("subject", folds=5, validation=0))


def test_a_sample_without_group_or_stratum_is_named() -> None:
    rows = pl.DataFrame({"id": ["a", "b"], "subject": ["x", None], "label": [None, "1"]})
    with pytest.raises(InvalidSample, match=r"sample 'b' has no 'subject'.*subject IS NOT NULL"):
        split_frame(rows, SplitOptions(group="subject"))
    with pytest.raises(InvalidSample, match="sample 'a' has no 'label'"):
        split_frame(rows, SplitOptions(group="id", stratify="label"))


def test_a_split_survives_its_file() -> None:
    split = Split(("a", "b"), ("c",), ())
    assert Split.read(split.frame()) == split


def _published(parts: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"s{index}" for index in range(len(parts))], "split": parts, "place": list("aabbc")})


def test_published_parts_are_kept() -> None:
    options = SplitOptions(part="split")
    assert single(_published(["train", "Train", "val", "test", "test"]), options) == Split(
        ("s0", "s1"), ("s2",), ("s3", "s4")
    )


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["train", "odd", "val", "test", "test"], "'s1': split is 'odd'"),
        (["train", None, "val", "test", "test"], "'s1'"),
    ],
)
def test_a_sample_of_no_known_part_is_told(parts: list[str | None], told: str) -> None:
    with pytest.raises(InvalidSample, match=told):
        single(_published(parts), SplitOptions(part="split"))


def test_published_parts_need_something_to_learn_from_and_keep_groups_whole() -> None:
    with pytest.raises(InvalidSetting, match="no sample has split 'train'"):
        single(_published(["val", "val", "val", "test", "test"]), SplitOptions(part="split"))
    with pytest.raises(DataLeak, match="'b' is in more than one part"):
        single(_published(["train", "train", "train", "test", "test"]), SplitOptions(group="place", part="split"))
