"""The error tree: what is printed, which exit code, which builtin, and which names are offered."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sensorium.platform import errors
from sensorium.platform.errors import SensoriumError, UserError, close_matches

ERRORS = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, Exception)]
BUILTINS: dict[type[SensoriumError], type[Exception]] = {
    errors.UnknownDataset: KeyError,
    errors.UnknownVersion: KeyError,
    errors.ExpiredVersion: KeyError,
    errors.UnknownField: KeyError,
    errors.UnknownSample: KeyError,
    errors.UnknownRun: KeyError,
    errors.UnknownPlugin: KeyError,
    errors.ExistingDataset: FileExistsError,
    errors.InvalidName: ValueError,
    errors.InvalidSample: ValueError,
    errors.DuplicateSample: ValueError,
    errors.InvalidQuery: ValueError,
    errors.InvalidSetting: ValueError,
    errors.UnreadableFile: ValueError,
    errors.MissingDependency: ImportError,
    errors.MissingCredentials: PermissionError,
    errors.StorageError: OSError,
    errors.CommitConflict: OSError,
    errors.DataLeak: ValueError,
    errors.FitDiverged: ArithmeticError,
    errors.UnknownModel: KeyError,
    errors.WorkerFailed: RuntimeError,
}
OURS = {
    SensoriumError,
    errors.BrokenPlugin,
    errors.StorageError,
    errors.CommitConflict,
    errors.CorruptData,
    errors.ProgramFailed,
    errors.WorkerFailed,
}
STOPPED = {errors.FitStopped}


def test_every_error_is_listed_once_and_in_order() -> None:
    names = [error.__name__ for error in ERRORS]
    assert errors.__all__ == sorted([*names, "close_matches", "ours"])


@pytest.mark.parametrize("error", ERRORS)
def test_error_says_what_it_was_given_and_nothing_else(error: type[SensoriumError]) -> None:
    assert str(error("no data set 'cats'. Did you mean 'cat'?")) == "no data set 'cats'. Did you mean 'cat'?"
    assert str(error()) == ""
    assert error.__doc__


@pytest.mark.parametrize("error", ERRORS)
def test_exit_code_says_whose_fault_it_is(error: type[SensoriumError]) -> None:
    assert error("x").exit_code == (130 if error in STOPPED else 1 if error in OURS else 2)
    assert issubclass(error, UserError) == (error not in OURS | STOPPED)


@pytest.mark.parametrize(("error", "builtin"), BUILTINS.items())
def test_error_is_a_builtin_too(error: type[SensoriumError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin) as caught:
        raise error("message")
    assert str(caught.value) == "message"


@pytest.mark.parametrize("error", ERRORS)
def test_error_survives_the_way_back_from_a_worker(error: type[SensoriumError]) -> None:
    copy = pickle.loads(pickle.dumps(error("message")))
    assert type(copy) is error
    assert str(copy) == "message"


@pytest.mark.parametrize(
    ("wanted", "known", "sentence"),
    [
        ("phto", ["photo", "sounds"], "Did you mean 'photo'?"),
        ("photo", ["photos", "photo1", "sounds"], "Did you mean 'photos' or 'photo1'?"),
        ("zzz", ["b", "a"], "There are: a, b."),
        ("zzz", [], ""),
        ("", ["a"], "There are: a."),
        ("zzz", [f"name{index}" for index in range(12)], "There are: "),
        ("zzz", [f"name{index}" for index in range(13)], ""),
    ],
)
def test_close_matches(wanted: str, known: list[str], sentence: str) -> None:
    found = close_matches(wanted, known)
    assert found.startswith(sentence)
    assert bool(found) == bool(sentence)


def test_close_matches_takes_any_iterable_and_a_limit() -> None:
    assert close_matches("name0", (f"name{index}" for index in range(40)), limit=1) == "Did you mean 'name0'?"


@given(some.text(max_size=20), some.lists(some.text(max_size=20), max_size=20))
def test_close_matches_names_only_what_is_known(wanted: str, known: list[str]) -> None:
    sentence = close_matches(wanted, known)
    if sentence.startswith("Did you mean "):
        offered = sentence.removeprefix("Did you mean ").removesuffix("?")
        assert any(offered.startswith(repr(name)) for name in known)
    elif sentence:
        assert sentence == "There are: " + ", ".join(sorted(known)) + "."
    assert sentence or not 0 < len(known) <= 12


def test_our_error_is_found_behind_a_workers() -> None:
    class Wrapped(Exception):
        cause: Exception | None = None
        worker_failures: dict[int, Exception] | None = None

    mine = errors.InvalidSample("sample 'a'. Leave it out.")
    by_cause, by_rank, outer = Wrapped(), Wrapped(), Wrapped()
    by_cause.cause, by_rank.worker_failures, outer.__cause__ = mine, {1: by_cause}, by_rank
    for error in (mine, by_cause, by_rank, outer):
        assert errors.ours(error) is mine
    by_cause.cause = outer  # a ring has an end
    assert errors.ours(outer) is None
