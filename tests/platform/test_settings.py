"""Where settings come from, which source wins, and what a wrong one is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sensorium.platform.errors import InvalidSetting
from sensorium.platform.settings import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an empty home, and no variables."""
    for name in list(os.environ):
        if name.startswith("SENSORIUM_"):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(**flags: object) -> str:
    with pytest.raises(InvalidSetting) as caught:
        Settings.load(**flags)
    assert caught.value.exit_code == 2
    return str(caught.value)


# -- precedence -------------------------------------------------------------------------------------------------------


def test_built_in_values() -> None:
    settings = Settings.load()
    assert settings.model_dump() == {
        "lake": "./lake",
        "storage_options": {},
        "address": "",
        "object_store_mb": 0,
        "cpus": 0,
    }


def test_flags_before_environment_before_file_before_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    written(Path("sensorium.toml"), 'lake = "file"\naddress = "file:1"\ncpus = 3\n')
    monkeypatch.setenv("SENSORIUM_LAKE", "environment")
    monkeypatch.setenv("SENSORIUM_ADDRESS", "environment:1")
    settings = Settings.load(lake="flag")
    assert (settings.lake, settings.address, settings.cpus, settings.object_store_mb) == ("flag", "environment:1", 3, 0)


@pytest.mark.parametrize("variable", ["SENSORIUM_ADDRESS", "RAY_ADDRESS"])
def test_each_source_of_the_address_wins_over_the_next(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    file = written(Path("sensorium.toml"), 'address = "file:1"\n')
    monkeypatch.setenv(variable, "environment:1")
    assert Settings.load(address="flag:1").address == "flag:1"
    assert Settings.load().address == "environment:1"
    monkeypatch.delenv(variable)
    assert Settings.load().address == "file:1"
    file.unlink()
    assert Settings.load().address == ""


def test_own_variable_wins_over_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "rays:1")
    monkeypatch.setenv("SENSORIUM_ADDRESS", "own:1")
    assert Settings.load().address == "own:1"


def test_flags_that_were_not_given_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_LAKE", "environment")
    assert Settings.load(lake=None, address=None).lake == "environment"


@pytest.mark.parametrize("variable", ["ADDRESS", "LAKE", "CPUS"])
def test_variable_without_our_prefix_is_not_ours(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "12")
    assert Settings.load() == Settings.load(lake="./lake", address="", cpus=0)


def test_storage_options_of_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_STORAGE_OPTIONS", '{"endpoint_url": "http://localhost:9000", "anon": true}')
    assert Settings.load().storage_options == {"endpoint_url": "http://localhost:9000", "anon": True}


def test_storage_options_of_the_file_are_a_table() -> None:
    written(Path("sensorium.toml"), '[storage_options]\nendpoint_url = "http://localhost:9000"\n')
    assert Settings.load().storage_options == {"endpoint_url": "http://localhost:9000"}


# -- places of the file -----------------------------------------------------------------------------------------------


def test_first_file_that_is_there_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_home = written(folder / "home/.config/sensorium/sensorium.toml", 'lake = "home"\ncpus = 5\n')
    assert (Settings.load().lake, Settings.load().cpus) == ("home", 5)
    written(Path("sensorium.toml"), 'lake = "here"\n')
    assert (Settings.load().lake, Settings.load().cpus) == ("here", 0)
    named = written(folder / "elsewhere/mine.toml", 'lake = "named"\n')
    monkeypatch.setenv("SENSORIUM_CONFIG", str(named))
    assert Settings.load().lake == "named"
    at_home.unlink()
    assert Settings.load().lake == "named"


def test_named_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written(Path("sensorium.toml"), 'lake = "here"\n')
    monkeypatch.setenv("SENSORIUM_CONFIG", "nowhere.toml")
    message = refusal()
    assert "SENSORIUM_CONFIG" in message
    assert "'nowhere.toml'" in message


# -- wrong values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("SENSORIUM_CPUS", "many", "cpus"),
        ("SENSORIUM_CPUS", "-2", "cpus"),
        ("SENSORIUM_OBJECT_STORE_MB", "1.5", "object_store_mb"),
        ("SENSORIUM_STORAGE_OPTIONS", "[1, 2]", "storage_options"),
    ],
)
def test_wrong_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str
) -> None:
    monkeypatch.setenv(variable, value)
    message = refusal()
    assert setting in message
    assert value in message
    assert "SENSORIUM_" in message


def test_options_that_are_no_json_are_named_without_their_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not JSON may hold a secret all the same."""
    monkeypatch.setenv("SENSORIUM_STORAGE_OPTIONS", "{secret: hush")
    message = refusal()
    assert "SENSORIUM_STORAGE_OPTIONS is not JSON" in message
    assert "hush" not in message


@pytest.mark.parametrize(
    ("text", "setting", "value"),
    [
        ("cpus = -4", "cpus", "-4"),
        ('cpus = "all"', "cpus", "'all'"),
        ("lake = 7", "lake", "7"),
        ("address = 5", "address", "5"),
        ("laek = 1", "laek", "1"),
    ],
    ids=["range", "kind", "number for text", "aliased", "unknown name"],
)
def test_wrong_value_in_the_file_is_named_with_the_file(text: str, setting: str, value: str) -> None:
    written(Path("sensorium.toml"), text + "\n")
    message = refusal()
    assert message.startswith(f"setting {setting!r}: ")
    assert f"got {value}." in message
    assert "sensorium.toml" in message


def test_wrong_flag_is_named_with_its_value() -> None:
    message = refusal(cpus=-1)
    assert message.startswith("setting 'cpus': ")
    assert "got -1." in message


@pytest.mark.parametrize("text", ["lake = ", "lake: here", "[storage_options"])
def test_file_that_is_not_toml_is_named(text: str) -> None:
    written(Path("sensorium.toml"), text)
    message = refusal()
    assert message.startswith("settings cannot be read: ")
    assert "sensorium.toml" in message
    assert "(at " in message


def test_file_that_is_not_text_is_named(folder: Path) -> None:
    Path("sensorium.toml").write_bytes(b"\xff\xfe\x00\x01")
    assert "sensorium.toml" in refusal()
