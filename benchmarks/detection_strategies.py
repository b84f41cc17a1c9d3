"""Transplant by class name, head dropped, and a cold start, at equal budget, over several seeds.

    python benchmarks/detection_strategies.py [--seeds 3] [--dir runs/detection-strategies] [key=value ...]

Runs the detection recipe, with its overrides, for each seed, always from the same old model. Prints COCO mAP of the old
and of the new classes after each epoch, mean and range over the seeds, as a Markdown table; epoch 0 is what the start
has given. Stopped and run again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "detection" / "train.py"
ARMS = {"new": "by class name", "dropped": "head dropped", "cold": "cold start"}
GROUPS = {"mAP_old": "old classes", "mAP_new": "new classes"}


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("runs/detection-strategies"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    rows: dict[str, list[list[float | None]]] = {}
    first = arguments.dir / "seed-0"
    for seed in range(arguments.seeds):
        folder = arguments.dir / f"seed-{seed}"
        overrides = [f"output={folder}", f"train.seed={seed}", *arguments.overrides]
        if seed:
            old = first / "export" / "old"
            overrides += [
                f"checkpoint={old / 'model_final.pdparams'}",
                f"old_labels={old / 'label_list.txt'}",
            ]
        subprocess.run([sys.executable, str(RECIPE), *overrides], check=True, stdout=sys.stderr)
        for tag, group in GROUPS.items():
            for arm, label in ARMS.items():
                rows.setdefault(f"{group}: {label}", []).append(_curve(folder / "vdl" / arm, tag))
    epochs = len(next(iter(rows.values()))[0])
    print("| |" + "".join(f" epoch {epoch} |" for epoch in range(epochs)))
    print("|---|" + "---|" * epochs)
    for name, found in rows.items():
        print(f"| {name} |" + "".join(f" {_described(values)} |" for values in zip(*found)))


def _curve(log_dir: Path, tag: str) -> list[float | None]:
    """Return the value before the first epoch, None of a cold start, and those after each."""
    records = [
        json.loads(line) for line in (log_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    start = [record["value"] for record in records if record["tag"] == f"start/{tag}"]
    return [start[0] if start else None, *(r["value"] for r in records if r["tag"] == f"eval/{tag}")]


def _described(values: tuple[float | None, ...]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{sum(known) / len(known):.3f} ({min(known):.2f} to {max(known):.2f})"


if __name__ == "__main__":
    main()
