"""Head alone, staged, everything at once, and a cold start, at equal budget, over several seeds.

    python benchmarks/fine_tuning_strategies.py [--seeds 3] [--dir runs/strategies] [key=value of the recipe ...]

Runs the head-swap recipe's default for each seed, then its other strategies from the same old model, and prints the
validation accuracy after each epoch, mean and range over the seeds, as a Markdown table. Stopped and run again, it
goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "resnet50_head_swap" / "train.py"
STRATEGIES = {"head": "head alone", "staged": "staged", "all": "everything at once"}


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("runs/strategies"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    curves: dict[str, list[list[float]]] = {}
    for seed in range(arguments.seeds):
        folder = arguments.dir / f"seed-{seed}"
        common = [f"train.seed={seed}", *arguments.overrides]
        _train(folder / "staged", *common, "train.unfreeze=staged")
        for name in ("head", "all"):
            old = f"checkpoint={folder / 'staged' / 'old'}"
            _train(folder / name, *common, old, f"train.unfreeze={name}", "compare_cold=false")
        for name, label in STRATEGIES.items():
            for tag, of in (("eval/acc", "all classes"), ("eval/old_acc", "old classes")):
                curve = _curve(folder / name / "vdl" / "new", tag)
                curves.setdefault(f"{label}, {of}", []).append(curve)
        curves.setdefault("cold start, all classes", []).append(
            _curve(folder / "staged" / "vdl" / "cold", "eval/acc")
        )
    epochs = len(next(iter(curves.values()))[0])
    print("| |" + "".join(f" epoch {epoch} |" for epoch in range(1, epochs + 1)))
    print("|---|" + "---|" * epochs)
    for name in sorted(curves, key=lambda name: ("old classes" in name, name)):
        print(f"| {name} |" + "".join(f" {_described(found)} |" for found in zip(*curves[name])))


def _train(output: Path, *overrides: str) -> None:
    subprocess.run(
        [sys.executable, str(RECIPE), f"output={output}", *overrides], check=True, stdout=sys.stderr
    )


def _curve(log_dir: Path, tag: str) -> list[float]:
    records = map(json.loads, (log_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [record["value"] for record in records if record["tag"] == tag]


def _described(values: tuple[float, ...]) -> str:
    mean = sum(values) / len(values)
    return f"{100 * mean:.1f}% ({100 * min(values):.0f} to {100 * max(values):.0f})"


if __name__ == "__main__":
    main()
