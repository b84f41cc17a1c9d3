"""What the ranks' agreements cost, by number of ranks: connecting, an agreement, an order, the states for a save.

The ranks are threads of this one process, on connections of this machine: they share one interpreter, which real ranks
do not, so that beyond a few dozen the figures are upper bounds. What is sent, and by whom, is what a run sends. Every
figure is also given as a ratio to one call of Paddle's TCPStore, measured in the same run.

    python benchmarks/rank_coordination.py --ranks 2 8 64 256
"""

from __future__ import annotations

import argparse
import resource
import threading
import time
from typing import Any

import numpy as np
from paddle.base import core

from paddle_warm_callbacks.hapi.boundaries import Boundaries
from paddle_warm_callbacks.hapi.parallel import ConnectedRanks
from paddle_warm_callbacks.hapi.rank_state import without_repetition

ROUNDS = 5


class Bulletin:
    """Where the address is pinned."""

    text: str | None = None

    def put(self, text: str) -> None:
        """Pin it."""
        self.text = text

    def take(self) -> str | None:
        """Return it."""
        return self.text


def counters(rank: int) -> dict[str, Any]:
    """Return what a rank's random state and loader position are: three generators, at two moments."""
    words = np.random.RandomState(rank).randint(0, 2**32, 625, dtype=np.uint32)
    moment = {"python": words, "numpy": words, "paddle": bytes(2504)}
    return {"loader": {"now": moment, "epoch_start": {"rng": moment}}, "optimizer_keys": list(range(100))}


def one_rank(
    number: int, size: int, bulletin: Bulletin, gate: threading.Barrier, seconds: dict[str, float]
) -> None:
    """Do what a run does, and on rank 0 note how long each part takes."""
    began = time.perf_counter()
    ranks = ConnectedRanks(number, size, bulletin, "127.0.0.1", 300.0)
    note = seconds if number == 0 else {}
    note["connect"] = time.perf_counter() - began
    boundaries = Boundaries.of(ranks)
    digest = "0" * 32
    for part in ("agreement", "boundary", "order", "states of a save"):
        times = []
        for _ in range(ROUNDS):
            gate.wait()
            began = time.perf_counter()
            if part == "agreement":
                ranks.agree("digests", digest, lambda parts: len(set(parts)) == 1)
            elif part == "boundary":
                boundaries.passed()
            elif part == "order":
                if number == 0:
                    boundaries.ask("save")
                boundaries.passed()
            else:
                ranks.agree(
                    "states", {"counters": counters(number), "arrays": {}}, without_repetition, each=True
                )
            times.append(time.perf_counter() - began)
            gate.wait()
            if part == "order":
                boundaries.passed()
        note[part] = sorted(times)[ROUNDS // 2]
    ranks.close()


def store_call() -> float:
    """Return the seconds that one call of Paddle's TCPStore takes."""
    store = core.TCPStore("127.0.0.1", 29871, True, 1, 30)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        store.add("key", 1)
    return (time.perf_counter() - began) / ROUNDS


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 8, 64, 256])
    chosen = parser.parse_args()
    reference = store_call()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"one TCPStore call: {1e3 * reference:.1f} ms")
    parts = ("connect", "agreement", "boundary", "order", "states of a save")
    print("| ranks | " + " | ".join(parts) + " |\n|" + "---|" * (len(parts) + 1))
    for size in chosen.ranks:
        seconds: dict[str, float] = {}
        bulletin, gate = Bulletin(), threading.Barrier(size)
        threads = [
            threading.Thread(target=one_rank, args=(number, size, bulletin, gate, seconds))
            for number in range(size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        row = [f"{1e3 * seconds[part]:.2f} ms ({seconds[part] / reference:.2g})" for part in parts]
        print(f"| {size} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
