"""Algorithm 3 with criteria and policies of one's own; the expressions that they are written in."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sensorium.jobs import shape_tree
from sensorium.jobs.shape_tree import Node, area_opening, mean_filter, modify, quantise, tree_of_shapes
from sensorium.jobs.shape_tree.expressions import evaluate, parsed
from sensorium.platform.errors import InvalidSetting
from tests.jobs.shape_tree.oracles import assert_equal_trees, assert_p1, assert_p2
from tests.jobs.shape_tree.stepwise import Stepwise


def noise(seed: int, shape: tuple[int, int] = (20, 24), most: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, most, shape).astype(np.uint8)


def test_the_papers_operators_are_modifications() -> None:
    for seed in range(10):
        image = noise(seed)
        opened = modify(image, criterion="proper_part < 6", policy="parent_altitude", order="proper_part")
        assert_equal_trees(opened.tree, area_opening(image, 6).tree)
        meant = modify(image, policy="neighbour_mean")
        assert_equal_trees(meant.tree, mean_filter(image).tree)
        halved = modify(image, policy="round(altitude / 85) * 85", order="-proper_part")
        assert_equal_trees(halved.tree, quantise(image, 4).tree)


def test_the_orders() -> None:
    for seed in range(20):
        image = noise(seed, (7, 8))
        tree = tree_of_shapes(image)
        nodes = range(tree.node_count)
        for order, sequence in (
            ("root_first", list(nodes)),
            ("leaves_first", list(nodes)[::-1]),
            ("-area", sorted(nodes, key=lambda node: -tree.attribute("area")[node])),
        ):
            steps = Stepwise(tree)
            steps.modify(sequence, lambda node, steps=steps: len(steps.nodes[node].pixels) < 5, steps.mean)  # type: ignore[misc]
            result = modify(image, criterion="proper_part < 5", policy="neighbour_mean", order=order)
            np.testing.assert_array_equal(result.image, steps.image()[1:-1, 1:-1])


POLICIES = ["0", "255", "altitude + 40 * (depth % 2) - 20", "mean", "-5", "1e9", "min(altitude, 2 * parent_altitude)"]


@pytest.mark.parametrize("policy", POLICIES)
def test_whatever_the_policy_p1_and_p2_hold(policy: str) -> None:
    for seed in range(15):
        image = noise(seed, (9, 9), 256)
        result = modify(image, criterion="area < 40 or elongation > 3", policy=policy, order="variance")
        assert_p1(result.tree)
        assert_p2(image, result.image)


def test_targets_stay_within_the_dtype() -> None:
    image = np.array([[5, 9, 7]], np.int8)
    assert modify(image, policy="1000").image.max() == 127
    assert modify(image.astype(np.int32), policy="1e6").image.max() == 65535
    assert modify(image, policy="-1000").image.min() == 0  # the border stops them


# -- functions ---------------------------------------------------------------------------------------------------------


@numba.njit  # type: ignore[untyped-decorator]
def is_small(node: Node) -> bool:
    return node.proper_part < 6


def above(node: Node) -> float:
    return node.parent_altitude


def test_functions_do_what_expressions_do() -> None:
    image = noise(1)
    expected = area_opening(image, 6).tree
    assert_equal_trees(modify(image, criterion=is_small, policy=above, order="proper_part").tree, expected)
    mixed = modify(image, criterion="proper_part < 6", policy=above, order="proper_part")
    assert_equal_trees(mixed.tree, expected)


def test_the_readme_runs() -> None:
    readme = Path(shape_tree.__file__).with_name("README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    known: dict[str, Any] = {}
    exec(block, known)
    assert known["result"].tree.node_count < known["tree"].node_count


def test_a_function_that_cannot_be_compiled_is_the_users() -> None:
    with pytest.raises(InvalidSetting, match="cannot be compiled by numba"):
        modify(noise(0), policy=lambda node: node.colour)  # type: ignore[attr-defined]


# -- expressions -------------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")


def value(text: str, **values: float) -> float:
    program = parsed(text, NAMES)
    given_values = np.array([values[name] for name in program.names], np.float64)
    found: float = evaluate(program.steps, program.constants, given_values, np.empty(max(1, program.depth)))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 - 4 / 8", 6.5),
        ("-2 ** 2", -4.0),
        ("7 // 2 + 7 % 4 + -7 // 2", 2.0),
        ("1 < 2 <= 2 < 3", 1.0),
        ("1 < 2 > 3", 0.0),
        ("1 == 1.0 and 2 != 3 or 0", 1.0),
        ("not 3", 0.0),
        ("not 0 and not (0 or 0)", 1.0),
        ("5 if 1 > 2 else 6", 6.0),
        ("5 if 2 > 1 else 1 / 0", 5.0),
        ("min(3, 1, 2) + max(1, 2) + abs(-4) + sqrt(9) + round(2.5) + floor(-0.5) + ceil(0.5)", 12.0),
        ("log(exp(2))", 2.0),
        ("True + False", 1.0),
        ("1 / 0", math.inf),
        ("-1 / 0", -math.inf),
        ("1 if 0 / 0 else 2", 2.0),
    ],
)
def test_values(text: str, expected: float) -> None:
    assert value(text) == expected


def expressions() -> st.SearchStrategy[str]:
    """Texts whose value Python itself can tell."""
    leaves = st.sampled_from(["a", "b", "c", "1", "2.5", "0.125", "7"])

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        two = st.tuples(inner, st.sampled_from(["+", "-", "*", "<", "<=", ">", ">=", "==", "!=", "and", "or"]), inner)
        return st.one_of(
            two.map(lambda parts: f"(({parts[0]}) {parts[1]} ({parts[2]}))"),
            inner.map(lambda one: f"(-({one}))"),
            inner.map(lambda one: f"(not ({one}))"),
            inner.map(lambda one: f"abs({one})"),
            st.tuples(inner, inner, inner).map(lambda parts: f"(({parts[0]}) if ({parts[1]}) else ({parts[2]}))"),
            st.tuples(inner, inner).map(lambda parts: f"min({parts[0]}, max({parts[1]}, 3))"),
        )

    return st.recursive(leaves, larger, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(expressions(), st.tuples(*[st.integers(-4, 4)] * 3))
def test_any_expression_has_the_value_that_python_gives_it(text: str, numbers: tuple[int, int, int]) -> None:
    known: dict[str, Any] = dict(zip(NAMES, map(float, numbers), strict=True))
    theirs = eval(text, {"__builtins__": {}, "min": min, "max": max, "abs": abs}, known)
    ours = value(text, **known)
    if "and" in text or "or" in text:  # truth here, one of the values there
        return
    assert ours == float(theirs)


@pytest.mark.parametrize("joined", ["and", "or"])
@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 3), (2, 0), (2, 3), (math.nan, 1)])
def test_truth(joined: str, a: float, b: float) -> None:
    holds = [one != 0 and not math.isnan(one) for one in (a, b)]
    assert value(f"a {joined} b", a=a, b=b) == float(all(holds) if joined == "and" else any(holds))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.real",
        "a[0]",
        "[1, 2]",
        "{1: 2}",
        "'text'",
        "lambda: 1",
        "(b := 1)",
        "f'{a}'",
        "f(a)",
        "print(a)",
        "abs(a, b)",
        "min(a)",
        "abs(x=1)",
        "abs(*a)",
        "a if b",
        "a; b",
        "import os",
        "a @ b",
        "a | b",
        "~a",
        "a is b",
        "a in b",
        "...",
        "None",
        "1j",
        "",
        "unknown + 1",
        "1" * 5000,
        "(" * 300 + "a" + ")" * 300,
        "-" * 500 + "a",
        "+".join(["a"] * 600),
        "9" * 400,
        "\x00",
    ],
)
def test_what_is_no_expression_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidSetting) as told:
        parsed(text, NAMES)
    assert len(str(told.value)) < 900


def test_a_policy_that_gives_no_number_names_the_node() -> None:
    with pytest.raises(InvalidSetting, match=r"no number for node 1 \(altitude 9, proper part 4\)"):
        modify(np.full((2, 2), 9, np.uint8), policy="log(-altitude)")


@pytest.mark.parametrize("setting", ["criterion", "policy", "order"])
def test_each_text_is_checked(setting: str) -> None:
    texts: dict[str, Any] = {"criterion": "1", "policy": "mean", "order": "area", setting: "nonsense"}
    with pytest.raises(InvalidSetting, match="has the name 'nonsense'; there are altitude"):
        modify(noise(0), **texts)
