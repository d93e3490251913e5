"""What an epoch's checkpoint costs on its way from a Ray worker on another node to the coordinator's folder.

    .venv/bin/python benchmarks/mailbox.py

Two nodes on this machine, which share no memory: what is measured is packing, copying and unpacking, without a network.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuner.search.executors.parcels import Incoming, put_files
from tuner.search.executors.ray import _new_mailbox, _Post  # the executor's own

MEGABYTES = (0.0, 0.6, 6.7, 24.0)
"""Weights and Adam's two slots: of 50,000 parameters, of the README's winner, and of the ``cnn`` space's largest."""
TIMES = 20


@ray.remote(num_cpus=1)
class Sender:
    """A worker's node."""

    def send(self, mailbox: Any, megabytes: float) -> float:  # noqa: ANN401  # an actor's handle
        """Put one epoch's parcel, and return the seconds until it had arrived."""
        content = {"epoch-0001.ckpt": bytes(round(megabytes * 1e6))} if megabytes else {}
        start = time.monotonic()
        _Post(mailbox, 0).put(Incoming(None, 0, 0, checkpoints=content, kept=frozenset(content)))
        return time.monotonic() - start


def main() -> None:
    """Print a table."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    mailbox = _new_mailbox()
    sender = Sender.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)).remote()
    print("megabytes  put (ms)  heard (ms)  written (ms)  all (ms)")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for megabytes in MEGABYTES:
            rows = []
            for _ in range(TIMES + 1):
                put = ray.get(sender.send.remote(mailbox, megabytes))
                start = time.monotonic()
                ((_, parcel),) = ray.get(mailbox.hear.remote(5.0))
                heard = time.monotonic() - start
                put_files(Path(folder), parcel.checkpoints, parcel.kept)
                rows.append((put, heard, time.monotonic() - start - heard))
            medians = [1000 * statistics.median(column) for column in zip(*rows[1:], strict=True)]
            print(f"{megabytes:9.1f}  {medians[0]:8.1f}  {medians[1]:10.1f}  {medians[2]:12.1f}  {sum(medians):8.1f}")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
