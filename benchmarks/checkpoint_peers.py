"""How long others block training for a checkpoint, and until it is on disk: the state of ResNet50 and Momentum.

    pip install -e ".[cpu,peers]"
    python benchmarks/checkpoint_peers.py [--rounds 5] [--dir .]

Each round does everything once, in turn. "Blocked" is the time until the call returns, as a multiple of a memcpy of the
same bytes, in one block, in the same round (what the same takes in pieces of the tensors' sizes is shown too);
"durable" is the rate from the call's beginning until all is on disk (a ``sync`` of the file system for those that do
not flush), as a share of a plain write and fsync of the same bytes in the same round.
Two peers and one of ours copy on a thread of their own, and the next optimizer step must wait for that; ours holds it
back, which ``checkpoint_throughput.py`` shows. Whoever is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import logging
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet50_state import Memcpy, resnet50, seconds_of, write_plainly

from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.hapi.staging import StagingBuffers
from paddle_warm_callbacks.progress import Progress

# Begins a save into a directory; what it returns waits until that is complete.
Save = Callable[[Path], Callable[[], Any]]


def peers(state: dict[str, Any]) -> dict[str, Save]:
    """Return everyone who is installed, by name."""
    found = _paddle(state)
    if importlib.util.find_spec("torch"):
        found.update(_torch(state))
    if importlib.util.find_spec("orbax"):
        found.update(_orbax(state))
    return found


def _ours(tensors: dict[str, Any]) -> dict[str, Save]:
    volatile: frozenset[str] = frozenset()
    steps = itertools.count(1)

    def contents(arrays: dict[str, Any]) -> CheckpointContents:
        step = next(steps)
        return CheckpointContents(arrays, progress=Progress(step, 0, step))

    def at_once(place: Path, buffers: StagingBuffers = StagingBuffers()) -> Callable[[], Any]:  # noqa: B008
        writer = BackgroundWriter(CheckpointStore(place))
        writer.submit(contents(buffers.copy(tensors)))
        return writer.close

    def behind(place: Path, buffers: StagingBuffers = StagingBuffers()) -> Callable[[], Any]:  # noqa: B008
        writer = BackgroundWriter(CheckpointStore(place))
        arrays, copying = buffers.copy_behind(tensors, volatile)
        writer.submit(contents(arrays), copying.run)
        return writer.close

    return {"ours: copied behind, then written": behind, "ours: copied at once, then written": at_once}


def _paddle(state: dict[str, Any]) -> dict[str, Save]:
    import paddle

    tensors = {name: paddle.to_tensor(array) for name, array in state.items()}

    def save(place: Path) -> Callable[[], Any]:
        paddle.save(tensors, str(place / "model.pdparams"))
        return lambda: None

    def async_save(place: Path) -> Callable[[], Any]:
        paddle.async_save(tensors, str(place / "model.pdparams"))
        return paddle.framework.io.clear_async_save_task_queue

    # On CPU async_save hands the live tensors to its thread: what it stores may be of a later step.
    return {**_ours(tensors), "paddle.save": save, "paddle.async_save (of live tensors)": async_save}


def _torch(state: dict[str, Any]) -> dict[str, Save]:
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

    tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}

    def save(place: Path) -> Callable[[], Any]:
        torch.save(tensors, place / "model.pt")
        return lambda: None

    def dcp_save(place: Path) -> Callable[[], Any]:
        dcp.save(tensors, checkpoint_id=place / "dcp", no_dist=True)
        return lambda: None

    def async_save(place: Path) -> Callable[[], Any]:
        return dcp.async_save(tensors, checkpoint_id=place / "dcp").result

    # On CPU there is neither pinned memory nor a stream; shared memory would be for a process that writes.
    stager = DefaultStager(StagingOptions(False, False, True, False))

    def staged_save(place: Path) -> Callable[[], Any]:
        saving = dcp.async_save(tensors, checkpoint_id=place / "dcp", async_stager=stager)
        return saving.upload_completion.result

    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    return {
        "torch.save": save,
        "torch DCP save": dcp_save,
        "torch DCP async_save": async_save,
        "torch DCP async_save, staged on a thread": staged_save,
    }


def _orbax(state: dict[str, Any]) -> dict[str, Save]:
    import orbax.checkpoint as ocp

    def save(place: Path) -> Callable[[], Any]:
        checkpointer = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())
        checkpointer.save(place.absolute() / "orbax", args=ocp.args.PyTreeSave(state))
        return checkpointer.wait_until_finished

    return {"Orbax async": save}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default=".", help="on the disk to be measured")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="checkpoint-peers-", dir=arguments.dir) as place:
        measure(Path(place), arguments.rounds)


def measure(place: Path, rounds: int) -> None:
    """Save in every way in turn, ``rounds`` times after one that warms up, and print medians."""
    model, optimizer = resnet50()
    state = {**model, **optimizer}
    size = sum(array.nbytes for array in state.values())
    memory = Memcpy(array.nbytes for array in state.values())
    in_pieces = []
    blocked: dict[str, list[float]] = {}
    durable: dict[str, list[float]] = {}
    ways = peers(state)
    for number in range(rounds + 1):
        memcpy, pieces = memory.seconds()
        in_pieces.append(pieces / memcpy)
        os.sync()
        raw = seconds_of(lambda: write_plainly(place / "raw", memory.source))
        for name, save in ways.items():
            directory = place / "save"
            directory.mkdir()
            os.sync()
            began = time.perf_counter()
            wait = save(directory)
            returned = time.perf_counter()
            wait()
            os.sync()
            done = time.perf_counter()
            shutil.rmtree(directory)
            if number:
                blocked.setdefault(name, []).append((returned - began) / memcpy)
                durable.setdefault(name, []).append(raw / (done - began))
    print(
        f"{size / 1e6:.0f} MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"memcpy in pieces of the tensors' sizes: {statistics.median(in_pieces):.2f} of one block"
    )
    print(f"{'':<40}{'blocked, x memcpy':>20}{'(range)':>16}{'durable, of raw':>18}{'(range)':>14}")
    for name in ways:
        waits, rates = blocked[name], durable[name]
        print(
            f"{name:<40}{statistics.median(waits):>20.2f}{f'{min(waits):.2f}-{max(waits):.2f}':>16}"
            f"{statistics.median(rates):>18.2f}{f'{min(rates):.2f}-{max(rates):.2f}':>14}"
        )


if __name__ == "__main__":
    main()
