"""Ranges of a search."""

from __future__ import annotations

import pytest

from sensorium.jobs.training.search import Range, parse_space
from sensorium.platform.errors import InvalidSetting


def test_every_form_is_understood() -> None:
    texts = ["lr=log(1e-4, 1e-2)", "width=int(8,64); dropout = uniform(0,0.5)", "fit.schedule=choice(constant, cosine)"]
    assert parse_space(texts) == {
        "lr": Range("log", (1e-4, 1e-2)),
        "width": Range("int", (8, 64)),
        "dropout": Range("uniform", (0.0, 0.5)),
        "fit.schedule": Range("choice", ("constant", "cosine")),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lr", "--search takes KEY=log"),
        ("lr=between(1,2)", "--search takes KEY=log"),
        ("lr=log(0,1)", "log needs 0 < least < greatest"),
        ("lr=uniform(2,1)", "uniform needs least < greatest"),
        ("lr=log(a,b)", "needs two numbers"),
        ("lr=log(1)", "needs two numbers"),
        ("kind=choice()", "names nothing to choose from"),
        ("", "names nothing to search over"),
    ],
)
def test_others_are_told(text: str, says: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse_space([text])
    assert says in str(caught.value)
