"""Configurations as text and JSON: ``key=value`` from the command line into frozen dataclasses, and back.

A configuration is a frozen dataclass; fields may be dataclasses themselves. A key is a path (``fit.lr``), or the name of a
field alone where only one dataclass has it (``lr``).
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from sensorium.platform.errors import InvalidSetting, close_matches

__all__ = ["from_json", "overridden", "paths", "to_json"]

Config = TypeVar("Config")

_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def paths(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of every field, nested ones included."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from paths(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def overridden(config: Config, settings: Iterable[str] | Mapping[str, Any]) -> Config:
    """``config`` with fields set anew, all at once: settings that only suit each other may come in any order.

    Args:
        config: a frozen dataclass.
        settings: texts ``key=value``, or values (texts, or already of the field's type) by key.

    Raises:
        InvalidSetting: no such field, or a value that it cannot have.
    """
    pairs = settings.items() if isinstance(settings, Mapping) else [_pair(text) for text in settings]
    wanted: _Tree = {}
    for key, value in pairs:
        *folders, name = _path(config, key).split(".")
        place = wanted
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = _Value(key, value)
    changed: Config = _changed(config, wanted)
    return changed


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON types; tuples become lists."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return content


def from_json(kind: type[Config], content: Mapping[str, Any]) -> Config:
    """What :func:`to_json` made; fields that are not named have their defaults.

    Raises:
        InvalidSetting: a name that the configuration does not have (it was saved by another version).
    """
    hints = typing.get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in content:
        if name not in known:
            raise InvalidSetting(
                f"{kind.__name__} has no field {name!r}: it was saved by another version of the system. "
                f"Fit the model again, or install that version. {close_matches(name, known)}".rstrip()
            )
    values = {name: _typed(hints[name], value, name) for name, value in content.items()}
    return kind(**values)


def _pair(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark or not key.strip():
        raise InvalidSetting(f"--set takes KEY=VALUE; got {text!r}.")
    return key.strip(), value.strip()


def _path(config: Any, key: str) -> str:
    known = [path for path, _ in paths(config)]
    if key in known:
        return key
    ends = [path for path in known if path.rpartition(".")[2] == key]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise InvalidSetting(f"the setting {key!r} could be {' or '.join(ends)}: give the whole path.")
    raise InvalidSetting(f"there is no setting {key!r}. {_hint(key, known)}".rstrip())


def _hint(key: str, known: list[str]) -> str:
    short = {path.rpartition(".")[2]: path for path in known}
    return close_matches(key.rpartition(".")[2], short) or "See the system's configuration: sensorium systems NAME."


@dataclass(frozen=True)
class _Value:
    """What a field is set to, and the key that the user knows it by."""

    key: str
    value: Any


_Tree = dict[str, Any]


def _changed(config: Any, wanted: _Tree) -> Any:
    """``config`` with every field of ``wanted``; what is a dictionary there is a dataclass of its own."""
    hints = typing.get_type_hints(type(config))
    changes = {
        name: _changed(getattr(config, name), part) if isinstance(part, dict) else _converted(hints[name], part)
        for name, part in wanted.items()
    }
    return replace(config, **changes) if changes else config


def _converted(hint: Any, wanted: _Value) -> Any:
    if isinstance(wanted.value, str):
        return _parsed(hint, wanted.value, wanted.key)
    return _typed(hint, wanted.value, wanted.key)


def _parsed(hint: Any, text: str, key: str) -> Any:
    """A text of the command line as a value of the type ``hint``."""
    if hint is str or typing.get_origin(hint) is typing.Literal:
        return _typed(hint, text, key)
    if hint is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise InvalidSetting(f"{key} must be true or false; got {text!r}.")
    try:
        if hint is int:
            return int(text)
        if hint is float:
            return float(text)
        value = json.loads(text)
    except ValueError as error:
        if typing.get_origin(hint) is tuple and text and "[" not in text:  # 8,16,32 and a,b for tuples
            inner = typing.get_args(hint)[0]
            return tuple(_parsed(inner, part.strip(), key) for part in text.split(","))
        raise InvalidSetting(f"{key} must be {_called(hint)}; got {text!r}.") from error
    if typing.get_origin(hint) is tuple and not isinstance(value, list):
        value = [value]
    return _typed(hint, value, key)


def _typed(hint: Any, value: Any, key: str) -> Any:
    """A JSON value as a value of the type ``hint``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _typed(next(kind for kind in arguments if kind is not type(None)), value, key)
    if origin is typing.Literal:
        if value not in arguments:
            raise InvalidSetting(f"{key} must be one of {', '.join(map(str, arguments))}; got {value!r}.")
        return value
    if is_dataclass(hint) and isinstance(value, Mapping):
        return from_json(typing.cast("type[Any]", hint), value)
    if is_dataclass(hint) and isinstance(value, typing.cast("type[Any]", hint)):
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InvalidSetting(f"{key} must be a list; got {value!r}.")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise InvalidSetting(f"{key} must have {len(kinds)} values; got {value!r}.")
        return tuple(_typed(kind, part, key) for kind, part in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    plain = origin or hint
    if isinstance(plain, type) and (not isinstance(value, plain) or (plain is not bool and isinstance(value, bool))):
        raise InvalidSetting(f"{key} must be {_called(hint)}; got {value!r}.")
    return value


def _called(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, str(hint).replace("typing.", ""))
