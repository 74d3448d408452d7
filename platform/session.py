"""The Ray session: a local one for the length of a command, or a cluster that is there already."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.platform.errors import StorageError, UserError
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from sensorium.platform.settings import Settings

__all__ = ["ray_session", "reread_authentication"]

_LARGEST_STORE_MB = 4096
_SMALLEST_STORE_MB = 100
_KNOCK_S = 5.0
_LONGEST_PLACE = 20


@contextmanager
def ray_session(settings: Settings) -> Iterator[None]:
    """Ray for the length of the block.

    A session that is running in this process already is used and left alone. With ``settings.address`` the cluster there is
    joined; else a local one is started with a token of its own and a folder of its own, and both are gone afterwards.

    Raises:
        UserError: no cluster answers at the address.
        MissingDependency: Ray is not installed.
    """
    ray = require("ray", "run jobs")
    if ray.is_initialized():
        _quieten()
        yield
        return
    if settings.address:
        _check_reachable(settings.address)
        try:
            ray.init(address=settings.address, logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(settings.address, error) from error
        try:
            _quieten()
            yield
        finally:
            ray.shutdown()
        return
    with _private_folder() as folder:
        ray.init(
            address="local",
            num_cpus=settings.cpus or None,
            object_store_memory=_object_store_mb(settings) << 20,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
            _temp_dir=str(folder),
        )
        try:
            _quieten()
            yield
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Knock before Ray does, which would go on trying for a minute."""
    host, mark, port = address.rpartition("://")[2].rpartition(":")
    if not mark or not port.isdecimal():
        return  # "auto", or a name that Ray resolves
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster answers at {address!r}: {error}. Check --address or RAY_ADDRESS, the network and the cluster's token "
        "(RAY_AUTH_TOKEN)."
    )


def _object_store_mb(settings: Settings) -> int:
    """A fifth of the memory, but no more than there is shared memory for: Ray would fall back to the disk, slowly."""
    if settings.object_store_mb:
        return settings.object_store_mb
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    wanted = min(_LARGEST_STORE_MB, memory_mb // 5)
    if Path("/dev/shm").is_dir():  # noqa: S108 - asked for its size only
        wanted = min(wanted, int(shutil.disk_usage("/dev/shm").free * 0.8) >> 20)  # noqa: S108
    return max(_SMALLEST_STORE_MB, wanted)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for the session's sockets, logs and token, removed with it.

    A stale session of somebody else in the usual folder would make every call to the state API wait for it.
    """
    # Ray's socket names must fit into 107 bytes, of which its own part takes some 65
    place = tempfile.gettempdir()
    try:
        folder = Path(tempfile.mkdtemp(prefix="sensorium-", dir=place if len(place) <= _LONGEST_PLACE else "/tmp"))  # noqa: S108
    except OSError as error:
        raise StorageError(f"no temporary folder for Ray can be made: {error}. Free space, or set TMPDIR.") from error
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    reread_authentication()
    try:
        yield folder / "ray"  # Ray opens its folder to everybody; ours around it stays closed
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        reread_authentication()
        shutil.rmtree(folder, ignore_errors=True)


def reread_authentication() -> None:
    """Make Ray look at its environment again: it reads mode and token once, when it is imported."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _quieten() -> None:
    """Progress has one layer, ours; Ray Data's bars and plans go to its log files."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
