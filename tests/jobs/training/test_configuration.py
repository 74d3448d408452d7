"""Configurations from texts and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from sensorium.jobs.training.configuration import from_json, overridden, paths, to_json
from sensorium.jobs.training.options import FitOptions, SplitOptions
from sensorium.platform.errors import InvalidSetting


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    count: int = 1
    flag: bool = False
    sizes: tuple[int, ...] = (1, 2)
    lengths: tuple[tuple[int, ...], ...] = ((1, 2), (3, 4))
    pair: tuple[int, float] = (1, 0.5)
    kind: Literal["x", "y"] = "x"
    maybe: int | None = None
    rate: float = 0.1
    inner: Inner = field(default_factory=Inner)
    fit: FitOptions = field(default_factory=FitOptions)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("count=3", "count", 3),
        ("flag=yes", "flag", True),
        ("flag=false", "flag", False),
        ("sizes=8,16,32", "sizes", (8, 16, 32)),
        ("sizes=[8, 16]", "sizes", (8, 16)),
        ("sizes=5", "sizes", (5,)),
        ("lengths=[[5, 9], [13]]", "lengths", ((5, 9), (13,))),
        ("pair=[2, 1]", "pair", (2, 1.0)),
        ("kind=y", "kind", "y"),
        ("maybe=4", "maybe", 4),
        ("maybe=null", "maybe", None),
        ("rate=2", "rate", 2.0),
        ("inner.rate=1e-3", "inner.rate", 0.001),
        ("name=b", "inner.name", "b"),
        ("lr=3e-4", "fit.lr", 3e-4),
        ("epochs=7", "fit.epochs", 7),
    ],
)
def test_a_text_sets_a_field(text: str, path: str, value: Any) -> None:
    config = overridden(Outer(), [text])
    assert dict(paths(config))[path] == value
    changed = [name for name, held in paths(config) if held != dict(paths(Outer()))[name]]
    assert changed == ([path] if value != dict(paths(Outer()))[path] else [])
    assert from_json(Outer, to_json(config)) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("count=three", "count must be a whole number; got 'three'"),
        ("count=1.5", "count must be a whole number"),
        ("flag=maybe", "flag must be true or false"),
        ("epoch=3", "there is no setting 'epoch'. Did you mean 'epochs'"),
        ("count", "--set takes KEY=VALUE; got 'count'"),
        ("=3", "--set takes KEY=VALUE"),
        ("kind=z", "kind must be one of x, y; got 'z'"),
        ("sizes=a,b", "sizes must be a whole number"),
        ("pair=[1]", "pair must have 2 values"),
        ("lr=0", "lr must be above 0; got 0.0"),
        ("fit.schedule=steps", "schedule must be one of constant, linear"),
        ("epochs=0", "epochs must be 1 or more; got 0"),
    ],
)
def test_a_mistake_names_the_setting_and_the_rule(text: str, says: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        overridden(Outer(), [text])
    assert says in str(caught.value)


def test_a_name_that_two_have_needs_its_path() -> None:
    @dataclass(frozen=True)
    class Two:
        a: Inner = field(default_factory=Inner)
        b: Inner = field(default_factory=Inner)

    with pytest.raises(InvalidSetting, match=r"could be a\.rate or b\.rate"):
        overridden(Two(), ["rate=1"])


def test_values_of_other_types_than_texts(tmp_path: object) -> None:
    assert overridden(Outer(), {"count": 2, "sizes": [4, 5], "rate": 1}) == Outer(count=2, sizes=(4, 5), rate=1.0)
    with pytest.raises(InvalidSetting, match="count must be a whole number; got True"):
        overridden(Outer(), {"count": True})


def test_what_another_version_saved_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"Outer has no field 'cuont'.*Did you mean 'count'"):
        from_json(Outer, {"cuont": 3})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"group": ""}, "group must name a field"),
        ({"folds": 1}, "folds must be 2 or more; got 1"),
        ({"validation": 1.0}, "validation must be from 0 to below 1"),
    ],
)
def test_splits_are_checked(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSetting, match=says):
        SplitOptions(**options)


@dataclass(frozen=True)
class Paired:
    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise InvalidSetting("low must be below high.")


def test_settings_that_only_suit_each_other_come_in_any_order() -> None:
    assert overridden(Paired(), ["low=5", "high=9"]) == overridden(Paired(), ["high=9", "low=5"]) == Paired(5, 9)
    with pytest.raises(InvalidSetting, match="below"):
        overridden(Paired(), ["low=5"])
