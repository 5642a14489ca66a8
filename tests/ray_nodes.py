"""A real Ray cluster of two nodes on loopback, a CPU each, in a process of its own: `python -m tests.ray_nodes`.

It obeys lines on its stdin: `kill` ends the second node as a power cut would, `add` makes another one, `version 2.9.0` has the
cluster claim to be that. Workers start in the
process's folder, so that `/proc/self/cwd` leads the test and them to different places.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = 80 * 2**20
"""Of objects, for each node: no results of ours are large."""
_ROOT = Path(__file__).parent.parent


class RayNodes:
    """The cluster, from the outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._said()

    def kill(self) -> None:
        """End the second node, and all that runs on it."""
        self._ask("kill")

    def add(self) -> None:
        """Have a second node again."""
        self._ask("add")

    def claim_version(self, version: str) -> None:
        """Have the cluster say that it is Ray of that version; empty: of its own."""
        self._ask(f"version {version}")

    def _ask(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._said() == what.strip()

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def two_nodes(folder: Path) -> Iterator[RayNodes]:
    """Two nodes whose workers begin in the folder, with their logs there."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "tests.ray_nodes"]
    pipe = subprocess.PIPE
    with (
        (folder / "stderr").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        yield RayNodes(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


def main() -> None:
    """Say the address, then obey."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415  only this process needs it

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": False,
            "object_store_memory": _MEMORY,
            "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 3},
        },
    )
    second = cluster.add_node(num_cpus=1, object_store_memory=_MEMORY)
    print(cluster.address, file=out, flush=True)
    for line in sys.stdin:
        what, _, version = line.rstrip("\n").partition(" ")
        if what == "kill":
            cluster.remove_node(second, allow_graceful=False)
        elif what == "add":
            second = cluster.add_node(num_cpus=1, object_store_memory=_MEMORY)
        else:
            _claim(cluster.address, version)
        print(line.rstrip("\n"), file=out, flush=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]


def _claim(address: str, version: str) -> None:
    """What drivers compare their own version with when they come."""
    import ray  # noqa: PLC0415
    from ray._common.usage import usage_lib  # noqa: PLC0415
    from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY  # noqa: PLC0415

    client = ray._raylet.GcsClient(address=address)  # type: ignore[attr-defined]  # there is no public one
    said = usage_lib.get_cluster_metadata(client)
    said["ray_version"] = version or ray.__version__
    client.internal_kv_put(CLUSTER_METADATA_KEY, json.dumps(said).encode(), True, b"cluster")


if __name__ == "__main__":
    main()
