"""The border of the catalog: a sample comes in as a mapping of anything, and leaves as checked arrays and scalars.

Whatever is wrong is told as data set, sample, field, value and remedy. Behind this module, samples are trusted.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import ArrayField, Field, ScalarField, check_name, is_storable, storable_type
from sensorium.catalog.modality import Violation
from sensorium.platform.errors import InvalidSample, UnknownField, close_matches

__all__ = [
    "LONGEST_ID",
    "Brought",
    "CheckedSample",
    "array_problem",
    "check_between",
    "check_sample",
    "discover",
    "is_held",
    "merge_found",
    "value_problem",
]

LONGEST_ID = 1024
_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()


@dataclass(frozen=True)
class CheckedSample:
    """A sample whose arrays have the declared shape, type and range.

    Attributes:
        id: unique in the data set.
        arrays: by field name, C-contiguous, native byte order.
        scalars: by field name, Python values or sequences; still to be converted to Arrow, with the whole batch.
        found: declarations made up for fields that nobody had declared.
    """

    id: str
    arrays: dict[str, np.ndarray]
    scalars: dict[str, Any]
    found: dict[str, Field]


class Brought(Protocol):
    """Samples that may have brought fields.

    Attributes:
        id: of one of them.
        found: declarations that were made up for fields nobody declared.
    """

    @property
    def id(self) -> str: ...

    @property
    def found(self) -> dict[str, Field]: ...


def check_sample(
    declaration: Declaration, sample: Mapping[str, Any], *, partial: bool = False, open_to_new: bool = True
) -> CheckedSample:
    """Check one sample against its data set's declaration.

    Args:
        declaration: of the data set.
        sample: ``id`` and the fields; values that are None do not count.
        partial: an update: required fields may be absent, and rules between fields are checked where all are there.
        open_to_new: whether fields that nobody declared are taken in (as whatever they look like) or refused.

    Raises:
        InvalidSample: names data set, sample, field, value and what to do.
        UnknownField: a field that is not declared, with close matches.
    """
    identifier = sample.get("id")
    if not isinstance(identifier, str) or not identifier or len(identifier) > LONGEST_ID:
        raise InvalidSample(
            f"data set {declaration.name!r}: every sample needs an 'id', a text of 1 to {LONGEST_ID} characters; "
            f"got {identifier!r:.80}."
        )
    arrays: dict[str, np.ndarray] = {}
    scalars: dict[str, Any] = {}
    found: dict[str, Field] = {}
    for name, value in sample.items():
        if name == "id" or value is None:
            continue
        field = declaration.known(name)
        if field is None:
            field = discover(declaration, identifier, name, value, open_to_new=open_to_new)
            found[name] = field
        if isinstance(field, ArrayField):
            arrays[name] = _check_array(declaration, identifier, field, value)
        else:
            scalars[name] = _check_scalar(declaration, identifier, field, value)
    violations = list(check_between(declaration, arrays, scalars, partial=partial))
    if violations:
        raise _error(declaration, identifier, *violations[0])
    return CheckedSample(identifier, arrays, scalars, found)


def merge_found(known: dict[str, Field], name: str, sample: Brought) -> None:
    """Take the fields that ``sample`` brought into ``known``; whole and broken numbers become broken ones.

    Args:
        known: what earlier samples brought; changed in place.
        name: of the data set, for the message.
        sample: a checked sample, or several.

    Raises:
        InvalidSample: a field is of another kind here than in an earlier sample.
    """
    for field_name, field in sample.found.items():
        before = known.setdefault(field_name, field)
        both = agreed(before, field)
        if both is None:
            raise InvalidSample(
                f"data set {name!r}, sample {sample.id!r}, field {field_name!r}: is {_kind(field)} here, and was "
                f"{_kind(before)} in an earlier sample. Give all samples the same kind of value."
            )
        known[field_name] = both


def agreed(one: Field, other: Field) -> Field | None:
    """One declaration for a field that two samples brought; None where they are at odds."""
    if one == other or (isinstance(one, ArrayField) and isinstance(other, ArrayField)):
        return one
    if isinstance(one, ScalarField) and isinstance(other, ScalarField) and _numbers(one.type, other.type):
        return replace(one, type=pa.float64())
    return None


def _numbers(*kinds: pa.DataType) -> bool:
    return all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)


def _kind(field: Field) -> str:
    return "an array" if isinstance(field, ArrayField) else f"of type {field.type}"


def _error(declaration: Declaration, identifier: str, field: str, problem: str, remedy: str) -> InvalidSample:
    return InvalidSample(f"data set {declaration.name!r}, sample {identifier!r}, field {field!r}: {problem}. {remedy}.")


def discover(declaration: Declaration, identifier: str, name: Any, value: Any, *, open_to_new: bool) -> Field:
    """A declaration for a field that nobody declared, made from its first value."""
    known = {*declaration.fields, *(field.name for field in declaration.modality.fields)}
    if not open_to_new:
        raise UnknownField(
            f"data set {declaration.name!r}, sample {identifier!r}: field {name!r} is not declared. "
            f"{close_matches(str(name), known)} To add it, append with evolve=True."
        )
    check_name(name, "field")
    if isinstance(value, np.ndarray) and value.ndim > 0 and is_storable(value.dtype.kind):
        return ArrayField(name, finite=False, description="added by a sample")
    try:
        inferred = pa.array([_plain(value)]).type
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise _error(
            declaration,
            identifier,
            name,
            f"{type(value).__name__} cannot be stored ({error})",
            "Use numbers, text, lists or arrays",
        ) from error
    kind = storable_type(inferred)
    if kind is None:
        raise _error(
            declaration,
            identifier,
            name,
            f"type {inferred} cannot be stored",
            "Convert it to a number, a text or a timestamp",
        )
    return ScalarField(name, kind)


def _plain(value: Any) -> Any:
    """NumPy scalars as Python's own; everything else as it is."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value


def _check_array(declaration: Declaration, identifier: str, field: ArrayField, value: Any) -> np.ndarray:
    array = np.asarray(value)
    problem = array_problem(field, array)
    if problem is not None:
        raise _error(declaration, identifier, field.name, *problem)
    return array if _is_plain(array) else np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _is_plain(array: np.ndarray) -> bool:
    return type(array) is np.ndarray and array.flags.c_contiguous and array.dtype.isnative


def array_problem(field: ArrayField, array: np.ndarray) -> tuple[str, str] | None:
    """What is wrong with an array on its own, and the remedy."""
    if not is_storable(array.dtype.kind):
        return f"has dtype {array.dtype}", "Give an array of numbers or booleans"
    if field.dtypes and _dtype_name(array.dtype) not in field.dtypes:
        return f"has dtype {array.dtype}", f"Convert it to one of: {', '.join(field.dtypes)}"
    layouts = field.layouts
    if array.ndim == 0 or (layouts and array.ndim not in {len(layout) for layout in layouts}):
        wanted = " or ".join("[" + ", ".join(layout) + "]" for layout in layouts) or "one axis or more"
        return f"has shape {list(array.shape)}", f"It must be {wanted}"
    if array.size == 0:
        return f"is empty, of shape {list(array.shape)}", "Leave the sample out, or repair its source"
    for axis, length in zip(field.axes(array.ndim), array.shape, strict=True):
        allowed = field.sizes.get(axis)
        if allowed and length not in allowed:
            return f"has {length} along {axis} (shape {list(array.shape)})", f"{axis} must be {_either(allowed)}"
    return value_problem(field, array)


@functools.lru_cache(maxsize=64)
def _dtype_name(dtype: np.dtype[Any]) -> str:
    return dtype.newbyteorder("=").name


def value_problem(field: ArrayField, array: np.ndarray) -> tuple[str, str] | None:
    if field.finite and array.dtype.kind in "fc":
        bad = ~np.isfinite(array)
        count = int(np.count_nonzero(bad))
        if count:
            where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
            return (
                f"has {count} of {array.size} values NaN or infinite, the first ({array[where]}) at {list(where)}",
                "Fill or mask them before they are stored",
            )
    if (field.minimum is None and field.maximum is None) or array.dtype.kind == "c":
        return None
    low, high = array.min(), array.max()
    if (field.minimum is not None and low < field.minimum) or (field.maximum is not None and high > field.maximum):
        return f"has values from {low} to {high}", f"They must lie {_range(field)}"
    return None


def is_held(field: ScalarField, plain: Any) -> bool:
    """Whether a value is, without a doubt, of the field's type and range; a comparison with NaN leaves it in doubt."""
    low, high = field.minimum, field.maximum
    if type(plain) is str:
        return bool(field.type == _TEXT) and plain.isascii() and low is None and high is None
    if type(plain) is int:
        held = bool(field.type == _WHOLE) and -(1 << 63) <= plain < 1 << 63
    else:
        held = type(plain) is float and bool(field.type == _REAL)
    return held and (low is None or plain >= low) and (high is None or plain <= high)


def _check_scalar(declaration: Declaration, identifier: str, field: ScalarField, value: Any) -> Any:
    plain = _plain(value)
    if is_held(field, plain):
        return plain  # the usual case, without a detour over Arrow
    kind = storable_type(field.type) or field.type
    try:
        pa.array([plain], type=kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise _error(
            declaration,
            identifier,
            field.name,
            f"is {plain!r:.80}, which is not of type {kind} ({error})",
            "Give a value of that type, or use another field",
        ) from error
    if field.minimum is None and field.maximum is None:
        return plain
    try:
        values = np.asarray(plain, dtype=float)
    except (TypeError, ValueError) as error:
        raise _error(declaration, identifier, field.name, f"is {plain!r:.80}, not a number", "Give a number") from error
    low = -np.inf if field.minimum is None else field.minimum
    high = np.inf if field.maximum is None else field.maximum
    if not np.all((values >= low) & (values <= high)):  # written so that NaN fails
        unit = f" {field.unit}" if field.unit else ""
        raise _error(
            declaration, identifier, field.name, f"is {plain!r:.80}{unit}", f"It must lie {_range(field)}{unit}"
        )
    return plain


def check_between(
    declaration: Declaration, arrays: Mapping[str, np.ndarray], scalars: Mapping[str, Any], *, partial: bool
) -> Iterator[Violation]:
    """Rules that need the whole sample: what is required, axes that fields share, and the modality's own."""
    given = {**declaration.attributes, **scalars}
    if not partial:
        required = {
            field.name: field
            for field in (*declaration.modality.fields, *declaration.fields.values())
            if field.required
        }
        for name, field in required.items():
            if name not in arrays and name not in given:
                where = (
                    " in every sample, or once in the data set's attributes"
                    if getattr(field, "per_dataset", False)
                    else ""
                )
                yield Violation(name, "is missing", f"A sample of modality {declaration.modality_name} needs it{where}")
                return
    lengths: dict[str, tuple[str, int]] = {}
    for name, axis, length in _axes(declaration, arrays, given):
        first, expected = lengths.setdefault(axis, (name, length))
        if length != expected:
            yield Violation(
                name, f"has {length} along {axis}, but {first} has {expected}", f"Both must have the same {axis}"
            )
            return
    if declaration.modality.check is not None and not partial:
        yield from declaration.modality.check({**given, **arrays})


def _axes(
    declaration: Declaration, arrays: Mapping[str, np.ndarray], given: Mapping[str, Any]
) -> Iterator[tuple[str, str, int]]:
    for name, array in arrays.items():
        field = declaration.known(name)
        if isinstance(field, ArrayField) and field.layouts:
            for axis, length in zip(field.axes(array.ndim), array.shape, strict=True):
                yield name, axis, length
    for name, value in given.items():
        field = declaration.known(name)
        if isinstance(field, ScalarField) and field.dims and hasattr(value, "__len__"):
            yield name, field.dims, len(value)


def _either(values: tuple[int, ...]) -> str:
    return " or ".join(str(value) for value in values)


def _range(field: ArrayField | ScalarField) -> str:
    if field.maximum is None:
        return f"at {field.minimum:g} or above"
    if field.minimum is None:
        return f"at {field.maximum:g} or below"
    return f"from {field.minimum:g} to {field.maximum:g}"
