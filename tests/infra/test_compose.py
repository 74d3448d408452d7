"""The compose file: what it names is there, and it fits the specification."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text()


@pytest.fixture
def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEXT)
    return found


def interpolated() -> str:
    """The file as compose reads it: defaults where there are some, a word for each secret, ``$$`` for a dollar."""
    text = re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", TEXT)
    text = re.sub(r"(?<!\$)\$\{\w+:\?[^}]*\}", "secret", text)
    return text.replace("$$", "$")


def test_it_fits_the_specification() -> None:
    composed = yaml.safe_load(interpolated())
    parsed = compose_spec.PyCompose.from_json(json.dumps(composed))
    assert set(parsed.services or {}) == set(composed["services"])
    composed["services"]["head"]["ports"] = "all of them"
    with pytest.raises(ValueError, match=r"ports|short|invalid"):
        compose_spec.PyCompose.from_json(json.dumps(composed))


def test_every_variable_is_in_the_example() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    given = set(re.findall(r"^(\w+)=", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    assert used == given


def test_no_secret_has_a_default() -> None:
    for name in re.findall(r"\$\{(\w+):-", TEXT):
        assert not re.search("TOKEN|PASSWORD|SECRET", name)


def test_ports_are_open_to_this_machine_only(composed: dict[str, Any]) -> None:
    published = [port for service in composed["services"].values() for port in service.get("ports", [])]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_files_that_are_mounted_are_there(composed: dict[str, Any]) -> None:
    mounts = [mount for service in composed["services"].values() for mount in service.get("volumes", [])]
    for source in (mount.split(":")[0] for mount in mounts):
        if source.startswith("."):
            assert (FOLDER / source).exists(), source
        else:
            assert source in composed["volumes"]


def test_services_wait_for_services(composed: dict[str, Any]) -> None:
    for service in composed["services"].values():
        for name, condition in service.get("depends_on", {}).items():
            other = composed["services"][name]
            wanted = condition["condition"]
            assert wanted in ("service_healthy", "service_completed_successfully")
            ours = str(other["image"]).startswith("${SENSORIUM_IMAGE")
            if wanted == "service_healthy":
                assert ours or "healthcheck" in other
            else:
                assert other["restart"] == "no"


def test_images_of_others_are_pinned(composed: dict[str, Any]) -> None:
    others = [str(one["image"]) for one in composed["services"].values() if "SENSORIUM_IMAGE" not in str(one["image"])]
    assert len(others) == 3
    assert all(re.search(r":[\w.-]*\d[\w.-]*$", image) for image in others)
