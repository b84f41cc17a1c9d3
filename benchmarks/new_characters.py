"""A text recogniser's new dictionary: by character, head dropped, and a cold start, at equal budget, over seeds.

    python benchmarks/new_characters.py [--seeds 3] [--dir runs/new_characters] [key=value of the recipe ...]

Runs the text recognition recipe once for each seed of training, all from one old model, and prints as Markdown tables
how many lines are read exactly and how near the others are: before the first step, after each epoch, and the epochs
to 90%. Mean, and range over the seeds. Stopped and run again, it goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.common.comparison import by_epoch, epochs_to

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "ocr_recognition" / "train.py"
ARMS = {"new": "by character", "dropped": "head dropped", "cold": "cold start"}
KINDS = {"old_": "Lines of old characters", "new_": "Lines with new characters", "": "All lines"}
TARGET = 0.9


def main() -> None:
    """Train what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("runs/new_characters"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    folders = [arguments.dir / f"seed-{seed}" for seed in range(arguments.seeds)]
    for seed, folder in enumerate(folders):
        source = [f"checkpoint={folders[0] / 'old'}"] if seed else []
        overrides = [f"output={folder}", f"train.seed={seed}", *source, *arguments.overrides]
        subprocess.run([sys.executable, str(RECIPE), *overrides], check=True, stdout=sys.stderr)
    exact, alike = (by_epoch(folders[0] / "vdl" / "old", f"eval/{what}")[-1] for what in ("acc", "edit"))
    print(
        f"The old model reads {100 * exact:.1f}% of the lines of old characters exactly; edit {alike:.3f}.\n"
    )
    for kind, title in KINDS.items():
        runs = {arm: [_run(folder, arm, f"{kind}acc") for folder in folders] for arm in ARMS}
        edits = {arm: [_run(folder, arm, f"{kind}edit")[-1] for folder in folders] for arm in ARMS}
        epochs = len(runs["new"][0]) - 1
        print(
            f"| {title} | at the start |" + "".join(f" epoch {epoch} |" for epoch in range(1, epochs + 1)),
            end="",
        )
        print(" edit, at the end | epochs to 90% |")
        print("|---|" + "---|" * (epochs + 3))
        for arm, label in ARMS.items():
            cells = [_described(values) for values in zip(*runs[arm])]
            needed = ", ".join(epochs_to(values[1:], TARGET) for values in runs[arm])
            edit = sum(edits[arm]) / len(edits[arm])
            print(f"| {label} | {' | '.join(cells)} | {edit:.3f} | {needed} |")
        print()


def _run(folder: Path, arm: str, metric: str) -> list[float]:
    """Return a run's metric before its first step and after each epoch."""
    logs = folder / "vdl" / arm
    return [*by_epoch(logs, f"start/{metric}"), *by_epoch(logs, f"eval/{metric}")]


def _described(values: tuple[float, ...]) -> str:
    mean = sum(values) / len(values)
    return f"{100 * mean:.1f}% ({100 * min(values):.0f} to {100 * max(values):.0f})"


if __name__ == "__main__":
    main()
