"""Algorithm 3: nodes that fulfil a criterion are shifted to the altitude that a policy gives.

Criterion, policy and order are texts (:mod:`.expressions`) or functions of a :class:`Node`, which are compiled.

Shapes: an image is [H, W]; a tree has N nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.shape_tree.expressions import Program, evaluate, parsed
from sensorium.jobs.shape_tree.filters import Filtered, changing, grey_range
from sensorium.jobs.shape_tree.levels import MOST_VALUES
from sensorium.jobs.shape_tree.shifting import Live, parent_of, shift
from sensorium.jobs.shape_tree.tree import ShapeTree, tree_of_shapes
from sensorium.jobs.trees.compiled import compiled
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.optional import require

__all__ = ["Node", "Rule", "check_rules", "modify"]

#: the two orders that follow the tree
ROOT_FIRST, LEAVES_FIRST = "root_first", "leaves_first"


class Node(NamedTuple):
    """What a criterion or a policy sees of a node; all are float64, and texts use the same names.

    Up to date while the tree changes: ``altitude``, ``parent_altitude``, ``neighbour_mean`` (mean altitude of parent and
    children, not rounded), ``proper_part`` and ``children`` (how many). A node that is there keeps its shape, and with it
    ``area``, ``perimeter`` and ``elongation``. ``depth``, ``mean``, ``variance`` and ``volume`` are those before the first
    shift.
    """

    altitude: float
    parent_altitude: float
    neighbour_mean: float
    proper_part: float
    children: float
    area: float
    perimeter: float
    elongation: float
    depth: float
    mean: float
    variance: float
    volume: float


#: names that are up to date; the others are attributes of the tree
_LIVE = 5
Rule = str | Callable[[Node], float]


def modify(image: NDArray[Any], *, criterion: Rule = "1", policy: Rule, order: str = ROOT_FIRST) -> Filtered:
    """Shift the nodes of an image's tree that fulfil a criterion to what a policy gives (Algorithm 3).

    Each node is asked when its turn comes, in the tree as it is by then; nodes that are gone are not, and the root stays.
    A target is rounded, half to even, and kept within the range of the dtype, or of 65,536 values where the dtype has more.

    Args:
        image: [H, W], see :func:`.tree_of_shapes`.
        criterion: text such as ``"proper_part < 10"``, or a function of a :class:`Node`, plain or compiled by numba.
        policy: likewise, such as ``"parent_altitude"``.
        order: ``root_first`` (breadth first), ``leaves_first`` (its reverse), or an expression: lowest values first, equal ones
            breadth first, by the tree before the first shift, such as ``"proper_part"`` or ``"-area"``.

    Raises:
        InvalidImage: no tree can be built of it.
        InvalidSetting: a text that cannot be understood, or a policy that gives no number.
    """  # fmt: skip
    rules = [_rule(rule) for rule in (criterion, policy)]
    by_text = order not in (ROOT_FIRST, LEAVES_FIRST)
    sorted_by = parsed(order, Node._fields) if by_text else None
    tree = tree_of_shapes(image)
    state = changing(tree)
    live = state.live
    wanted = _names([*rules, *([sorted_by] if sorted_by else [])])
    static = _static(tree, wanted)
    if sorted_by is not None:
        keys = _keys(live, static, sorted_by)
        sequence = np.argsort(keys, kind="stable").astype(np.int32)
    else:
        sequence = np.arange(tree.node_count, dtype=np.int32)[:: -1 if order == LEAVES_FIRST else 1]
    lowest, highest = _limits(tree)
    first, second = rules
    arguments = (live, np.ascontiguousarray(sequence), static, lowest, highest)
    if isinstance(first, Program) and isinstance(second, Program):
        bad, visits = _by_programs(*arguments, *_machine(first), *_machine(second))
    else:
        bad, visits = _compiled_pass(arguments, [_as_function(rule) for rule in rules])
    if bad >= 0:
        raise InvalidSetting(
            f"the policy gives no number for node {bad} (altitude {live[bad]['altitude']}, proper part "
            f"{live[bad]['pixels']}). Exclude such nodes by the criterion."
        )
    state.settle()
    return state.filtered([state.live.size], visits)


def check_rules(*texts: str) -> None:
    """Make sure that criterion, policy and order can be understood, before anything is read.

    Raises:
        InvalidSetting: one of them cannot.
    """
    for text in texts:
        if text not in (ROOT_FIRST, LEAVES_FIRST):
            parsed(text, Node._fields)


def _rule(rule: Rule) -> Program | Callable[[Node], float]:
    return parsed(rule, Node._fields) if isinstance(rule, str) else rule


def _names(rules: Sequence[Program | Callable[[Node], float]]) -> set[str]:
    """Names that rules use; a function may use all."""
    return {name for rule in rules for name in (rule.names if isinstance(rule, Program) else Node._fields)}


def _static(tree: ShapeTree, wanted: set[str]) -> NDArray[np.float64]:
    """Attributes of the tree that are wanted, float64 [N, names that are not live]; others are 0, and not computed."""
    columns = Node._fields[_LIVE:]
    if not wanted & set(columns):
        return np.zeros((1, len(columns)))
    static = np.zeros((tree.node_count, len(columns)))
    for place, name in enumerate(columns):
        if name in wanted:
            static[:, place] = tree.attribute(name)
    return static


def _limits(tree: ShapeTree) -> tuple[int, int]:
    """The least and the greatest altitude that a node may be given."""
    lowest, highest = grey_range(tree)
    if (tree.dtype.kind in "ui" and tree.dtype.itemsize <= 2) or tree.dtype == bool:
        return lowest, highest
    return lowest, lowest + MOST_VALUES - 1


def _machine(program: Program) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]:
    """A program as the compiled machine takes it: steps, constants, places of its names among a node's, its stack."""
    places = np.array([Node._fields.index(name) for name in program.names], np.int32)
    return program.steps, program.constants, places, np.empty(max(1, program.depth))


@compiled
def _look(live: Live, one: int, static: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """What a rule sees of a node that is there, float64 [names of Node]."""
    node = live[one]
    above = live[parent_of(live, one)].altitude
    values[0] = node.altitude
    values[1] = above
    inner = one == 0
    count = node.children + (0 if inner else 1)
    values[2] = (node.total + (0 if inner else above)) / count if count > 0 else node.altitude
    values[3] = node.pixels
    values[4] = node.children
    row = static[one if static.shape[0] > 1 else 0]
    for place in range(row.size):
        values[5 + place] = row[place]


@compiled
def _ask(
    values: NDArray[np.float64],
    steps: NDArray[np.int32],
    constants: NDArray[np.float64],
    places: NDArray[np.int32],
    stack: NDArray[np.float64],
    named: NDArray[np.float64],
) -> float:
    """What a program says of a node; ``named``: room for the values of its names."""
    for place in range(places.size):
        named[place] = values[places[place]]
    return evaluate(steps, constants, named, stack)


@compiled
def _all_keys(
    live: Live,
    static: NDArray[np.float64],
    steps: NDArray[np.int32],
    constants: NDArray[np.float64],
    places: NDArray[np.int32],
    stack: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What a program says of every node, float64 [N]."""
    values, named = np.empty(12), np.empty(12)
    keys = np.empty(live.size)
    for one in range(live.size):
        _look(live, one, static, values)
        keys[one] = _ask(values, steps, constants, places, stack, named)
    return keys


def _keys(live: Live, static: NDArray[np.float64], program: Program) -> NDArray[np.float64]:
    keys: NDArray[np.float64] = _all_keys(live, static, *_machine(program))
    return keys


@compiled
def _target(value: float, lowest: int, highest: int) -> int:
    """A policy's value as an altitude."""
    return int(np.rint(min(max(value, float(lowest)), float(highest))))


@compiled
def _by_programs(
    live: Live, order: NDArray[np.int32], static: NDArray[np.float64], lowest: int, highest: int,
    asked: NDArray[np.int32], asked_constants: NDArray[np.float64], asked_places: NDArray[np.int32],
    asked_stack: NDArray[np.float64],
    told: NDArray[np.int32], told_constants: NDArray[np.float64], told_places: NDArray[np.int32],
    told_stack: NDArray[np.float64],
) -> tuple[int, int]:  # fmt: skip
    """A pass whose rules are programs; the first node without a target (-1: none), and how many were asked."""
    taken = np.empty(live.size, np.int32)
    values, named = np.empty(12), np.empty(12)
    visits = 0
    for one in order:
        if one == 0 or live[one].up != one:
            continue
        visits += 1
        _look(live, one, static, values)
        holds = _ask(values, asked, asked_constants, asked_places, asked_stack, named)
        if holds == 0.0 or np.isnan(holds):
            continue
        target = _ask(values, told, told_constants, told_places, told_stack, named)
        if np.isnan(target):
            return one, visits
        shift(live, one, _target(target, lowest, highest), taken)
    return -1, visits


def _compiled_pass(arguments: tuple[Any, ...], functions: Sequence[Any]) -> tuple[int, int]:
    """Run the pass for functions.

    Raises:
        InvalidSetting: one of them cannot be compiled.
    """
    from numba.core.errors import NumbaError

    try:
        return _by_functions()(*arguments, *functions)
    except NumbaError as error:
        raise InvalidSetting(
            f"the criterion or the policy cannot be compiled by numba: {error!s:.300}. Use numbers and fields of Node only."
        ) from error


def _by_functions() -> Callable[..., tuple[int, int]]:
    """The same pass for functions; it is compiled afresh for each pair of them."""
    numba = require("numba", "modify a tree")

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def run(
        live: Live,
        order: NDArray[np.int32],
        static: NDArray[np.float64],
        lowest: int,
        highest: int,
        asked: Any,
        told: Any,
    ) -> tuple[int, int]:
        taken = np.empty(live.size, np.int32)
        v = np.empty(12)
        visits = 0
        for one in order:
            if one == 0 or live[one].up != one:
                continue
            visits += 1
            _look(live, one, static, v)
            node = Node(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11])
            if not asked(node):
                continue
            target = float(told(node))
            if np.isnan(target):
                return one, visits
            shift(live, one, _target(target, lowest, highest), taken)
        return -1, visits

    passed: Callable[..., tuple[int, int]] = run
    return passed


def _as_function(rule: Program | Callable[[Node], float]) -> Any:
    """A compiled function of a node."""
    numba = require("numba", "modify a tree")
    if not isinstance(rule, Program):
        return rule if hasattr(rule, "py_func") else numba.njit(nogil=True)(rule)
    steps, constants, places, _ = _machine(rule)
    depth = max(1, rule.depth)

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def run(node: Node) -> float:
        values, stack = np.empty(12), np.empty(depth)
        for place, name in enumerate(node):
            values[place] = name
        return _ask(values, steps, constants, places, stack, np.empty(12))

    return run
