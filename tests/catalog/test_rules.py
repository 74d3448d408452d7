"""Rules of a data set: what they ask, when, and what becomes of samples that break them."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.dataset import Dataset
from sensorium.catalog.rules import Rule
from sensorium.platform.errors import InvalidSample, InvalidSetting, UnknownDataset, UnknownField, UnknownSample


def sample(identifier: str, **scalars: Any) -> dict[str, Any]:
    return {"id": identifier, "image": np.full((2, 3, 1), len(identifier), np.uint8), **scalars}


@pytest.fixture
def people(catalog: Catalog) -> Dataset:
    made = catalog.create("people", modality="image", fields={"age": "int64", "label": "string", "subject": "string"})
    made.append([sample("a", age=30, label="x", subject="s1"), sample("b", age=40, label="y", subject="s2")])
    return made


def ids(dataset: Dataset) -> list[str]:
    return dataset.select().frame()["id"].to_list()


AGE = Rule("age_range", "age BETWEEN 0 AND 120")


def test_a_condition_rejects_the_whole_append_and_says_which_sample(people: Dataset) -> None:
    people.set_rules([AGE])
    with pytest.raises(InvalidSample, match=r"sample 'd': breaks rule 'age_range': age BETWEEN .* \(age = 130\)"):
        people.append([sample("c", age=5), sample("d", age=130)])
    assert ids(people) == ["a", "b"]
    people.append([sample("c", age=5), sample("e")])  # no age breaks no condition on it
    assert ids(people) == ["a", "b", "c", "e"]


def test_a_value_is_required_by_a_condition(people: Dataset) -> None:
    people.set_rules([Rule("labelled", "label IS NOT NULL AND label IN ('x', 'y')")])
    with pytest.raises(InvalidSample, match="labelled"):
        people.append([sample("c", age=5)])


@pytest.mark.parametrize("action", ["quarantine", "warn"])
def test_what_is_put_aside_or_told_does_not_stop_the_others(
    action: Any, people: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    people.set_rules([Rule("age_range", AGE.check, action=action)])
    with caplog.at_level(logging.WARNING, "sensorium"):
        people.append([sample("c", age=5), sample("old", age=130)])
    assert "'old'" in caplog.text
    assert "age_range" in caplog.text
    assert ids(people) == (["a", "b", "c"] if action == "quarantine" else ["a", "b", "c", "old"])
    assert people.history()["message"][0] == "1 break rule age_range"
    aside = people.quarantine()
    assert aside["id"].to_list() == (["old"] if action == "quarantine" else [])
    if action == "quarantine":
        assert aside["quarantine_rule"][0] == "age_range"
        assert "age = 130" in aside["quarantine_reason"][0]


def test_rows_that_all_go_into_quarantine_make_no_version(people: Dataset) -> None:
    people.set_rules([Rule("age_range", AGE.check, action="quarantine")])
    before = people.version
    for _ in range(2):
        people.append([sample("old", age=130)])
    assert people.version == before
    assert people.quarantine()["id"].to_list() == ["old"]


def test_quarantine_is_released_once_it_keeps_to_the_rules(people: Dataset) -> None:
    people.set_rules([Rule("age_range", AGE.check, action="quarantine")])
    people.append([sample("old", age=130), sample("older", age=140)])
    people.release()
    assert ids(people) == ["a", "b"]  # they still break it
    assert people.quarantine()["id"].to_list() == ["old", "older"]
    people.set_rules([Rule("age_range", "age < 135", action="quarantine")])
    people.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)  # the payload of the quarantine stays
    people.release()
    assert ids(people) == ["a", "b", "old"]
    assert people.select()["old"]["image"].tolist() == sample("old")["image"].tolist()
    people.release(["older"], force=True)
    assert ids(people) == ["a", "b", "old", "older"]
    assert people.quarantine().is_empty()
    assert people.verify().is_empty()


def test_quarantine_is_discarded_and_its_payload_goes_with_a_vacuum(people: Dataset) -> None:
    people.set_rules([Rule("age_range", AGE.check, action="quarantine")])
    people.append([sample("old", age=130)])
    with pytest.raises(UnknownSample, match=r"'ald' is not in quarantine\. Did you mean 'old'"):
        people.discard(["ald"])
    people.discard(["old"])
    assert people.quarantine().is_empty()
    report = people.vacuum(timedelta(0), grace=timedelta(0), dry_run=True)
    assert len(report.fragments) == 1


def test_values_must_be_unique_among_new_ones_and_those_that_are_there(people: Dataset) -> None:
    people.set_rules([Rule("one_each", "subject", kind="unique", action="quarantine")])
    people.append([sample("c", subject="s1"), sample("d", subject="s3"), sample("e", subject="s3"), sample("f")])
    assert ids(people) == ["a", "b", "d", "f"]
    reasons = dict(people.quarantine().select("id", "quarantine_reason").iter_rows())
    assert reasons == {"c": "subject = 's1' is that of 'a', too", "e": "subject = 's3' comes twice"}


def test_values_must_be_in_another_data_set(catalog: Catalog, people: Dataset) -> None:
    subjects = catalog.create("subjects", modality="table", fields={"code": "string"})
    subjects.append([{"id": "s1", "code": "k1"}, {"id": "s2", "code": "k2"}])
    people.set_rules([Rule("known", "subject -> subjects", kind="refers")])
    people.append([sample("c", subject="s2")])
    with pytest.raises(InvalidSample, match=r"subject = 's9' is not in subjects.id"):
        people.append([sample("d", subject="s9")])
    people.set_rules([Rule("known", "subject -> subjects.code", kind="refers")])
    people.append([sample("d", subject="k1")])
    with pytest.raises(UnknownDataset, match="nobody"):
        people.set_rules([Rule("known", "subject -> nobody", kind="refers")])


def test_shares_of_classes_must_stay_near_those_of_a_version(people: Dataset) -> None:
    people.tag("first")
    people.set_rules([Rule("even", "label @ first < 0.2", kind="balance")])
    people.append([sample("c", label="x")])  # 2 of 3: 0.167 away
    with pytest.raises(
        InvalidSample, match=r"0.250 from those at first, 0.2 are allowed; 'x' was 50.0% and would be 75.0%"
    ):
        people.append([sample("d", label="x")])


@pytest.mark.parametrize("action", ["reject", "quarantine"])
def test_an_update_that_breaks_a_rule_changes_nothing(action: Any, people: Dataset) -> None:
    people.set_rules([Rule("age_range", AGE.check, action=action)])
    before = people.version
    with pytest.raises(InvalidSample, match=r"sample 'b': the update breaks rule 'age_range': .*\(age = 130\)\. Mend"):
        people.update([{"id": "a", "age": 31}, {"id": "b", "age": 130}])
    assert people.version == before
    assert people.quarantine().is_empty()
    people.update([{"id": "a", "age": 31}])
    assert [one["age"] for one in people.select()] == [31, 40]


def test_an_update_is_warned_of(people: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    people.set_rules([Rule("age_range", AGE.check, action="warn")])
    with caplog.at_level(logging.WARNING, "sensorium"):
        people.update([{"id": "b", "age": 130}], message="birthday")
    assert "'b': age BETWEEN" in caplog.text
    assert people.select()["b"]["age"] == 130
    assert people.history()["message"][0] == "birthday; 1 break rule age_range"


def test_an_update_is_asked_about_what_it_sets(people: Dataset) -> None:
    """A sample that broke a rule before can be mended field by field."""
    people.update([{"id": "b", "age": 130}])
    people.set_rules([AGE, Rule("both", "age < 200 OR label = 'z'")])
    people.update([{"id": "b", "subject": "s3"}])
    with pytest.raises(InvalidSample, match="rule 'age_range'"):
        people.update([{"id": "b", "age": 131}])
    people.update([{"id": "b", "label": None}])
    people.update([{"id": "b", "age": 13}])
    assert people.check().is_empty()


def test_an_updated_value_must_be_unique_among_the_others(people: Dataset) -> None:
    people.set_rules([Rule("one_each", "subject", kind="unique"), Rule("even", "label @ 1 < 0.6", kind="balance")])
    people.update([{"id": "a", "subject": "s1"}])  # its own value is no other's
    people.update([{"id": "a", "subject": "s2"}, {"id": "b", "subject": "s1"}])  # they change places
    with pytest.raises(InvalidSample, match="subject = 's1' is that of 'b', too"):
        people.update([{"id": "a", "subject": "s1"}])
    with pytest.raises(InvalidSample, match="comes twice"):
        people.update([{"id": "a", "subject": "s4"}, {"id": "b", "subject": "s4"}])
    people.update([{"id": "a", "label": "y"}])  # y has 2 of 2, and not 3
    with pytest.raises(InvalidSample, match=r"would be 100\.0%"):
        people.update([{"id": "a", "label": "z"}, {"id": "b", "label": "z"}])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "a b", "check": "x > 1"}, "a b"),
        ({"name": "r", "check": "x >"}, "is not SQL"),
        ({"name": "r", "check": "x", "kind": "odd"}, "kind must be one of"),
        ({"name": "r", "check": "x > 1", "action": "shout"}, "action must be one of"),
        ({"name": "r", "check": "x", "kind": "refers"}, "FIELD -> DATASET"),
        ({"name": "r", "check": "x < 1", "kind": "balance"}, "FIELD @ VERSION < LIMIT"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(settings: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rule(**settings)


def test_rules_that_cannot_be_checked_are_refused_before_they_are_stored(people: Dataset) -> None:
    with pytest.raises(UnknownField, match="rule 'r'"):
        people.set_rules([Rule("r", "height > 3")])
    with pytest.raises(InvalidSetting, match="two rules 'age_range'"):
        people.set_rules([AGE, AGE])
    assert people.rules == ()


def test_rules_have_versions_and_what_is_there_can_be_checked(people: Dataset) -> None:
    before = people.version
    people.set_rules([Rule("young", "age < 35", action="warn"), Rule("one_each", "label", kind="unique")])
    assert [rule.name for rule in people.rules] == ["young", "one_each"]
    found = people.check()
    assert found.select("id", "rule", "action").rows() == [("b", "young", "warn")]
    assert people.history()["operation"][0] == "rules"
    assert Dataset(people.storage, "people", before).rules == ()


def test_an_import_names_files_that_break_a_rule(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / f"{name}.png")
    (folder / "metadata.csv").write_text("id,age\na,30\nb,130\nc,40\n")
    made = catalog.create("people", modality="image", fields={"age": "int64"})
    made.set_rules([AGE])
    report = catalog.ingest(folder, "people")
    assert (report.added, ids(made)) == (2, ["a", "c"])
    ((path, reason),) = report.failed
    assert path == "b.png"
    assert "age = 130" in reason
