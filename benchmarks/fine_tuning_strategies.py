"""Head alone, staged, everything at once, and a cold start, at equal budget, over several seeds.

    python benchmarks/fine_tuning_strategies.py [--seeds 3] [--dir runs/strategies] [key=value of the recipe ...]

Runs the head-swap recipe's default for each seed, then its other strategies from the same old model, and prints the
validation accuracy after each epoch, mean and range over the seeds, as a Markdown table. Stopped and run again, it
goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.common import seeds
from recipes.common.comparison import by_epoch

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "resnet50_head_swap" / "train.py"
STRATEGIES = {"head": "head alone", "staged": "staged", "all": "everything at once"}
METRICS = {"eval/acc": "all classes", "eval/old_acc": "old classes"}


def main() -> None:
    """Train what is missing, and print the table."""
    arguments = seeds.arguments(str(__doc__), "runs/strategies")
    folders = [arguments.dir / f"seed-{seed}" for seed in range(arguments.seeds)]
    for seed, folder in enumerate(folders):
        common = [f"train.seed={seed}", *arguments.overrides]
        seeds.train(RECIPE, folder / "staged", *common, "train.unfreeze=staged")
        for name in ("head", "all"):
            old = f"checkpoint={folder / 'staged' / 'old'}"
            seeds.train(RECIPE, folder / name, *common, old, f"train.unfreeze={name}", "compare_cold=false")
    runs = {
        f"{label}, {of}": [by_epoch(folder / name / "vdl" / "new", tag) for folder in folders]
        for tag, of in METRICS.items()
        for name, label in STRATEGIES.items()
    }
    runs["cold start, all classes"] = [
        by_epoch(folder / "staged" / "vdl" / "cold", "eval/acc") for folder in folders
    ]
    epochs = range(1, len(next(iter(runs.values()))[0]) + 1)
    rows = {name: [seeds.spread(values) for values in zip(*found)] for name, found in runs.items()}
    print(seeds.markdown([f"epoch {epoch}" for epoch in epochs], rows))


if __name__ == "__main__":
    main()
