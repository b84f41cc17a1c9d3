"""How fast weights are read beside ``paddle.load``, and in how much memory: files that Paddle wrote, of ResNet50.

    python benchmarks/read_weights.py [--rounds 7] [--dir .]

Every read is the first of its process, as in a training script: the readers are imported and warm, the memory is not.
Each round reads every file both ways, from the page cache; the table holds medians of the processor's time, which other
jobs disturb less than the clock's, and of the ratio within a round. "Again" is the median of the same ratio where one
process reads the file ten times both ways in turn, with the memory of one read left to the next. Memory is what a
process's peak grows by while it reads one file, as a multiple of the file's size; on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
from safetensors.numpy import save_file

from paddle_warm_callbacks.checkpoint.pdparams import read_pdparams
from paddle_warm_callbacks.checkpoint.safetensors import read_safetensors


def _with_paddle(path: str) -> Any:
    return paddle.load(path, return_numpy=True)


READERS: dict[str, Callable[[str], Any]] = {
    "paddle": _with_paddle,
    "ours": read_pdparams,
    "safetensors": read_safetensors,
}


FILES = {
    ".pdparams, protocol 2": "2.pdparams",
    ".pdopt, protocol 2": "2.pdopt",
    ".pdparams, protocol 4": "4.pdparams",
    ".pdopt, protocol 4": "4.pdopt",
    "5,000 arrays of 256 bytes, protocol 4": "small.pdparams",
    ".safetensors": "net.safetensors",
}


def main() -> None:
    """Write the files, measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dir", default=".", help="where the files are written")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        _write(arguments.write)
        return
    if arguments.once:
        print(_peak_growth(*arguments.once))
        return
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        # Elsewhere, so that the processes that read do not begin with memory that the networks left.
        subprocess.run([sys.executable, __file__, "--write", folder], check=True, capture_output=True)
        files = {name: Path(folder) / file for name, file in FILES.items()}
        for reader in ("ours", "paddle"):  # what a reader imports the first time
            READERS[reader](str(Path(folder) / "small.pdparams"))
        ours = {name: "safetensors" if name.endswith("safetensors") else "ours" for name in files}
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(arguments.rounds):
            for name, path in files.items():
                for reader in (ours[name], *(["paddle"] if ours[name] == "ours" else [])):
                    seconds.setdefault((name, reader), []).extend(_seconds([reader], path))
        print("| file | here | `paddle.load` | x `paddle.load` | again | memory here | of `paddle.load` |")
        print("|---|---|---|---|---|---|---|")
        for name, path in files.items():
            here, theirs = seconds[name, ours[name]], seconds.get((name, "paddle"))
            ratio = theirs and statistics.median(one / other for one, other in zip(here, theirs))
            shown = [
                name,
                f"{1000 * statistics.median(here):.0f} ms",
                f"{1000 * statistics.median(theirs):.0f} ms" if theirs else "",
                f"{ratio:.2f}" if ratio else "",
                f"{_again(path):.2f}" if ratio else "",
                _measured(ours[name], path),
                _measured("paddle", path) if theirs else "",
            ]
            print("| " + " | ".join(shown) + " |")


def _write(folder: Path) -> None:
    network = paddle.vision.models.resnet50()
    optimizer = paddle.optimizer.Adam(parameters=network.parameters())
    network(paddle.rand([1, 3, 64, 64])).sum().backward()
    optimizer.step()
    for protocol in (2, 4):
        paddle.save(network.state_dict(), str(folder / f"{protocol}.pdparams"), protocol=protocol)
        paddle.save(optimizer.state_dict(), str(folder / f"{protocol}.pdopt"), protocol=protocol)
    small = {f"layer{number}.weight": paddle.rand([64]) for number in range(5000)}
    paddle.save(small, str(folder / "small.pdparams"))
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    save_file(arrays, str(folder / "net.safetensors"))


def _again(path: Path) -> float:
    taken = _seconds(["ours", "paddle"] * 10, path)
    return statistics.median(here / theirs for here, theirs in zip(taken[::2], taken[1::2]))


def _seconds(readers: list[str], path: Path) -> list[float]:
    """Return the processor's seconds of each read, one after the other in a process of its own."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        taken: list[float] = []
        for reader in readers:
            began = time.process_time()
            read = READERS[reader](str(path))
            taken.append(time.process_time() - began)
            del read
        os.write(sending, json.dumps(taken).encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        taken = json.load(pipe)
    os.waitpid(child, 0)
    return taken


def _measured(reader: str, path: Path) -> str:
    command = [sys.executable, __file__, "--once", reader, str(path)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    return f"{grown / path.stat().st_size:.2f} x"


def _peak_growth(reader: str, path: str) -> int:
    """Return how many bytes the peak of this process's memory grows by while the file is read."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _peak()
    held = READERS[reader](path)
    grown = _peak() - before
    del held
    return grown


def _peak() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
