"""What all tests share: a lake, a Ray session, the folder of real samples where there is one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

# Two processes of tests share two cores: teams of compute threads in each would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings as hypothesis_settings

from sensorium.catalog import Catalog
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings

ROOT = Path(__file__).resolve().parent.parent

hypothesis_settings.register_profile("sensorium", deadline=None, print_blob=True)
hypothesis_settings.load_profile("sensorium")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that share a fixture run in the same process (``--dist loadgroup``), so that it is set up once."""
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.items()  # noqa: B009 - pytest has no other way to ask
    scopes = {name: definitions[-1].scope for name, definitions in fixtures}
    if scopes.get("demo") == "session":
        item.add_marker(pytest.mark.xdist_group("demo"))
    elif "module" in scopes.values():
        item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}-{item.path.stem}"))


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set for daily work must not reach a test."""
    for name in ("SENSORIUM_LAKE", "SENSORIUM_ADDRESS", "SENSORIUM_CONFIG", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _logs_are_as_before() -> Iterator[None]:
    """The command line sends the project's logs to the standard error that it finds: of this test, not of the next."""
    logger = logging.getLogger("sensorium")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """An empty lake."""
    return Catalog(tmp_path / "lake")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real local Ray session, shared by the tests that need one."""
    with ray_session(Settings(cpus=2, object_store_mb=400)):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real samples beside the project; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real samples (../shared/data) is not here")
    return folder
