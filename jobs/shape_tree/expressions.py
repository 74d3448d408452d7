"""Criteria and policies as text: ``area < 50 and depth > 2`` becomes a small program, which a compiled machine runs.

The text is parsed by Python's own parser; of what this knows only numbers, names of attributes, arithmetic, comparisons,
``and``, ``or``, ``not``, ``a if condition else b`` and a few functions are accepted. Nothing of the text is ever executed as
Python. All values are float64; truth is 1 and untruth 0, and any value but 0 (and NaN) counts as true.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled
from sensorium.platform.errors import InvalidSetting, close_matches

__all__ = ["Program", "evaluate", "parsed"]

#: characters, operations and nested levels that a text may have
_MOST_CHARACTERS, _MOST_STEPS, _DEEPEST = 2000, 500, 100

_CONSTANT, _NAME = 0, 1
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _FLOOR_DIVIDE, _MODULO, _POWER = 2, 3, 4, 5, 6, 7, 8
_LESS, _LESS_EQUAL, _GREATER, _GREATER_EQUAL, _EQUAL, _UNEQUAL = 9, 10, 11, 12, 13, 14
_AND, _OR, _NOT, _NEGATE, _CHOOSE = 15, 16, 17, 18, 19
_ABS, _MIN, _MAX, _SQRT, _LOG, _EXP, _FLOOR, _CEIL, _ROUND = 20, 21, 22, 23, 24, 25, 26, 27, 28

_BINARY: Mapping[type[ast.operator], int] = {
    ast.Add: _ADD,
    ast.Sub: _SUBTRACT,
    ast.Mult: _MULTIPLY,
    ast.Div: _DIVIDE,
    ast.FloorDiv: _FLOOR_DIVIDE,
    ast.Mod: _MODULO,
    ast.Pow: _POWER,
}
_COMPARISON: Mapping[type[ast.cmpop], int] = {
    ast.Lt: _LESS,
    ast.LtE: _LESS_EQUAL,
    ast.Gt: _GREATER,
    ast.GtE: _GREATER_EQUAL,
    ast.Eq: _EQUAL,
    ast.NotEq: _UNEQUAL,
}
#: code and number of values; more values may be given to the two that take two
_FUNCTIONS: Mapping[str, tuple[int, int]] = {
    "abs": (_ABS, 1),
    "ceil": (_CEIL, 1),
    "exp": (_EXP, 1),
    "floor": (_FLOOR, 1),
    "log": (_LOG, 1),
    "max": (_MAX, 2),
    "min": (_MIN, 2),
    "round": (_ROUND, 1),
    "sqrt": (_SQRT, 1),
}


@dataclass(frozen=True)
class Program:
    """An expression, as steps of a machine with a stack.

    Attributes:
        text: that it was.
        names: of the attributes that it reads, in the order of their places.
        steps: int32 [S, 2]: an operation, and the place of a constant or a name.
        constants: float64 [K].
        depth: values on the stack at most.
    """

    text: str
    names: tuple[str, ...]
    steps: NDArray[np.int32]
    constants: NDArray[np.float64]
    depth: int


def parsed(text: str, known: tuple[str, ...]) -> Program:
    """The program of an expression.

    Args:
        text: of the expression.
        known: names that it may use.

    Raises:
        InvalidSetting: it is too long, cannot be parsed, or holds something else than the module's text says.
    """
    if len(text) > _MOST_CHARACTERS:
        raise InvalidSetting(f"an expression may have {_MOST_CHARACTERS} characters; got {len(text)}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise InvalidSetting(f"the expression {text!r:.200} cannot be parsed: {error!s:.100}.") from error
    emitted = list(_emitted(tree, text, known, 0))
    if len(emitted) > _MOST_STEPS:
        raise InvalidSetting(f"an expression may have {_MOST_STEPS} operations; got {len(emitted)}.")
    names = tuple(dict.fromkeys(what for _, what in emitted if isinstance(what, str)))
    constants = tuple(dict.fromkeys(what for _, what in emitted if isinstance(what, float)))
    steps = np.array([[code, _place(what, names, constants)] for code, what in emitted], np.int32)
    return Program(text, names, steps, np.array(constants, np.float64), _depth([code for code, _ in emitted]))


_Step = tuple[int, str | float | None]


def _emitted(node: ast.expr, text: str, known: tuple[str, ...], level: int) -> Iterator[_Step]:
    """Steps that leave the value of a part of the expression on the stack."""
    if level > _DEEPEST:
        raise InvalidSetting(f"the expression {text!r:.80} is nested more than {_DEEPEST} levels deep.")

    def of(*parts: ast.expr) -> Iterator[_Step]:
        for part in parts:
            yield from _emitted(part, text, known, level + 1)

    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            yield _CONSTANT, _number(value, text)
        case ast.Name(id=name):
            if name not in known:
                hint = close_matches(name, known)
                raise InvalidSetting(
                    f"the expression {text!r:.80} has the name {name!r}; there are {', '.join(known)}. {hint}".rstrip()
                )
            yield _NAME, name
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _BINARY:
            yield from of(left, right)
            yield _BINARY[type(operation)], None
        case ast.UnaryOp(op=ast.USub() | ast.Not() as sign, operand=operand):
            yield from of(operand)
            yield (_NEGATE if isinstance(sign, ast.USub) else _NOT), None
        case ast.BoolOp(op=joint, values=[first, *others]):
            yield from of(first)
            for other in others:
                yield from of(other)
                yield (_AND if isinstance(joint, ast.And) else _OR), None
        case ast.Compare(left=left, ops=relations, comparators=others) if all(
            type(one) in _COMPARISON for one in relations
        ):
            for place, (relation, other) in enumerate(zip(relations, others, strict=True)):
                yield from of(left, other)
                yield _COMPARISON[type(relation)], None
                if place:
                    yield _AND, None
                left = other
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield from of(body, orelse, test)
            yield _CHOOSE, None
        case ast.Call(func=ast.Name(id=name), args=[first, *others], keywords=[]) if name in _FUNCTIONS:
            code, count = _FUNCTIONS[name]
            if (count == 1) != (not others):
                raise InvalidSetting(
                    f"in {text!r:.80} the function {name} takes {'one value' if count == 1 else 'several'}."
                )
            yield from of(first)
            if count == 1:
                yield code, None
            for other in others:
                yield from of(other)
                yield code, None
        case _:
            part = ast.get_source_segment(text.strip(), node) or type(node).__name__
            raise InvalidSetting(
                f"the expression {text!r:.80} holds {part!r:.60}; it may hold numbers, {', '.join(known)}, "
                f"arithmetic, comparisons, and, or, not, if … else and the functions {', '.join(_FUNCTIONS)}."
            )


def _place(what: str | float | None, names: tuple[str, ...], constants: tuple[float, ...]) -> int:
    if what is None:
        return 0
    return names.index(what) if isinstance(what, str) else constants.index(what)


def _number(value: float, text: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidSetting(f"the expression {text!r:.80} holds a number that is too large.") from error


def _depth(codes: list[int]) -> int:
    """Values on the stack at most."""
    size = deepest = 0
    for code in codes:
        if code in (_CONSTANT, _NAME):
            size += 1
        elif code == _CHOOSE:
            size -= 2
        elif code in (_MIN, _MAX) or (code not in (_NOT, _NEGATE) and code < _ABS):
            size -= 1
        deepest = max(deepest, size)
    return deepest


@compiled
def evaluate(
    steps: NDArray[np.int32], constants: NDArray[np.float64], values: NDArray[np.float64], stack: NDArray[np.float64]
) -> float:
    """The value of a program.

    Division by zero and functions outside their domain give infinities and NaN, as IEEE 754 says.

    Args:
        steps: of the program.
        constants: of the program.
        values: float64, of its names.
        stack: room for as many values as the program's ``depth``.
    """
    size = 0
    for place in range(steps.shape[0]):
        code = steps[place, 0]
        if code == _CONSTANT:
            stack[size] = constants[steps[place, 1]]
            size += 1
            continue
        if code == _NAME:
            stack[size] = values[steps[place, 1]]
            size += 1
            continue
        if code >= _ABS and code != _MIN and code != _MAX:
            stack[size - 1] = _function(code, stack[size - 1])
        elif code == _NOT:
            stack[size - 1] = 0.0 if _holds(stack[size - 1]) else 1.0
        elif code == _NEGATE:
            stack[size - 1] = -stack[size - 1]
        elif code == _CHOOSE:
            size -= 2
            stack[size - 1] = stack[size - 1] if _holds(stack[size + 1]) else stack[size]
        else:
            size -= 1
            stack[size - 1] = _two(code, stack[size - 1], stack[size])
    return float(stack[0])


@compiled
def _holds(value: float) -> bool:
    return value != 0.0 and not np.isnan(value)


@compiled
def _quotient(a: float, b: float) -> float:
    """A / b; by zero infinite or NaN."""
    if b != 0.0:
        return a / b
    if a == 0.0 or np.isnan(a):
        return np.nan
    return np.inf if a > 0.0 else -np.inf


@compiled
def _two(code: int, a: float, b: float) -> float:
    """An operation on two values."""
    result = np.nan
    if code == _ADD:
        result = a + b
    elif code == _SUBTRACT:
        result = a - b
    elif code == _MULTIPLY:
        result = a * b
    elif code == _DIVIDE:
        result = _quotient(a, b)
    elif code == _FLOOR_DIVIDE:
        result = np.floor(_quotient(a, b))
    elif code == _MODULO:
        result = a - b * np.floor(_quotient(a, b))
    elif code == _POWER:
        result = np.power(a, b)
    elif code == _LESS:
        result = 1.0 if a < b else 0.0
    elif code == _LESS_EQUAL:
        result = 1.0 if a <= b else 0.0
    elif code == _GREATER:
        result = 1.0 if a > b else 0.0
    elif code == _GREATER_EQUAL:
        result = 1.0 if a >= b else 0.0
    elif code == _EQUAL:
        result = 1.0 if a == b else 0.0
    elif code == _UNEQUAL:
        result = 1.0 if a != b else 0.0
    elif code == _AND:
        result = 1.0 if _holds(a) and _holds(b) else 0.0
    elif code == _OR:
        result = 1.0 if _holds(a) or _holds(b) else 0.0
    elif code == _MIN:
        result = np.minimum(a, b)
    elif code == _MAX:
        result = np.maximum(a, b)
    return result


@compiled
def _function(code: int, value: float) -> float:
    """A function of one value."""
    result = np.nan
    if code == _ABS:
        result = np.abs(value)
    elif code == _SQRT:
        result = np.sqrt(value)
    elif code == _LOG:
        result = np.log(value)
    elif code == _EXP:
        result = np.exp(value)
    elif code == _FLOOR:
        result = np.floor(value)
    elif code == _CEIL:
        result = np.ceil(value)
    elif code == _ROUND:
        result = np.rint(value)
    return result
