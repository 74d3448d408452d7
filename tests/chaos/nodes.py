"""A cluster of several nodes on this machine: each has a raylet, an object store and workers of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.outcome import command, start

__all__ = ["Nodes", "cluster", "descendants"]

_STORE_BYTES = 100 << 20


class Nodes:
    """A head without cores, and nodes with one each.

    Attributes:
        folder: for what is made here; its path is short, since sockets lie in it.
        environment: for commands.
    """

    def __init__(self, cluster: Any, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self._cluster, self._options = cluster, dict(options)
        self.environment = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}

    @property
    def address(self) -> str:
        return str(self._cluster.gcs_address)

    def add(self, **options: Any) -> Any:
        """Another node, as after a machine was replaced."""
        return self._cluster.add_node(**{**self._options, **options})

    def workers(self) -> list[Any]:
        """The nodes that work, the oldest first."""
        return sorted(self._cluster.worker_nodes, key=lambda node: raylet(node))

    def kill(self, node: Any) -> None:
        """Take a node away as a loss of power does: all of its processes at once, without a word."""
        root = raylet(node)
        # a child that loses its raylet ends itself, some seconds later: a machine that is gone does not wait
        for process in [root, *descendants(root)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        self._cluster.worker_nodes.discard(node)

    def node_of(self, actor: str) -> Any | None:
        """The node that an actor of this class runs on; None where it is on none that works."""
        for node in self.workers():
            if any(title(process).startswith(f"ray::{actor}") for process in descendants(raylet(node))):
                return node
        return None

    def alive(self) -> int:
        """Nodes that the head takes for alive."""
        return sum(bool(node["Alive"]) for node in self._cluster.global_state.node_table())

    def kill_head(self) -> None:
        """Take the process away that knows the cluster (GCS)."""
        self._cluster.head_node.kill_gcs_server(check_alive=False)

    def revive_head(self) -> None:
        """Start it again, on what it has kept."""
        self._cluster.head_node.start_gcs_server()

    def run(self, lake: Path, *words: object) -> subprocess.Popen[bytes]:
        """Start a command of a user on this cluster; what it says goes into a file beside the lake."""
        lake.parent.mkdir(exist_ok=True)
        line = command("--address", self.address, "--lake", lake, *words)
        return start(line, lake.parent / "commands.log", self.environment)


@contextmanager
def cluster(
    nodes: int = 2,
    *,
    redis: str = "",
    system: Mapping[str, Any] | None = None,
    place: Path | None = None,
    **options: Any,
) -> Iterator[Nodes]:
    """A cluster for the length of the block.

    Args:
        nodes: that work.
        redis: ``HOST:PORT`` of the database in which the head keeps what it knows.
        system: settings of Ray for the whole cluster.
        place: a folder with a short path, for all that Ray writes.
        options: of the nodes that work, as ``ray start`` has them.
    """
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=place or "/tmp"))
    ours = {
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        **({"RAY_REDIS_ADDRESS": redis} if redis else {}),
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    from ray.cluster_utils import Cluster

    from sensorium.platform.session import reread_authentication

    reread_authentication()
    options = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, **options}
    head = {**options, "num_cpus": 0, "temp_dir": str(folder / "ray"), "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={**head, "_system_config": dict(system or {})})
    try:
        found = Nodes(made, folder, options)
        for _ in range(nodes):
            found.add()
        yield found
    finally:
        made.shutdown()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        reread_authentication()
        time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)


def raylet(node: Any) -> int:
    """Id of the process that is the node."""
    from ray._private import ray_constants

    return int(node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid)


def descendants(root: int) -> list[int]:
    """Processes begotten by ``root``, and by those."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.setdefault(int(entry.read_text().rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    ahead = [root]
    while ahead:
        children = parents.get(ahead.pop(), [])
        found += children
        ahead += children
    return found


def title(process: int) -> str:
    """What a process calls itself."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
