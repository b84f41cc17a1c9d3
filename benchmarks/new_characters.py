"""A text recogniser's new dictionary: by character, head dropped, and a cold start, at equal budget, over seeds.

    python benchmarks/new_characters.py [--seeds 3] [--dir runs/new_characters] [key=value of the recipe ...]

Runs the text recognition recipe once for each seed of training, all from one old model, and prints as Markdown tables
how many lines are read exactly and how near the others are: before the first step, after each epoch, and the epochs
to 90%. Mean, and range over the seeds. Stopped and run again, it goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.common import seeds
from recipes.common.comparison import by_epoch, epochs_to

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "ocr_recognition" / "train.py"
ARMS = {"new": "by character", "dropped": "head dropped", "cold": "cold start"}
KINDS = {"old_": "Lines of old characters", "new_": "Lines with new characters", "": "All lines"}
TARGET = 0.9


def main() -> None:
    """Train what is missing, and print the tables."""
    arguments = seeds.arguments(str(__doc__), "runs/new_characters")
    folders = [arguments.dir / f"seed-{seed}" for seed in range(arguments.seeds)]
    for seed, folder in enumerate(folders):
        source = [f"checkpoint={folders[0] / 'old'}"] if seed else []
        seeds.train(RECIPE, folder, f"train.seed={seed}", *source, *arguments.overrides)
    exact, alike = (by_epoch(folders[0] / "vdl" / "old", f"eval/{what}")[-1] for what in ("acc", "edit"))
    print(f"The old model reads {exact:.1%} of the lines of old characters exactly; edit {alike:.3f}.")
    for kind, title in KINDS.items():
        rows: dict[str, list[str]] = {}
        for arm, label in ARMS.items():
            logs = [folder / "vdl" / arm for folder in folders]
            curves = [seeds.from_the_start(log, f"{kind}acc") for log in logs]
            edit = sum(by_epoch(log, f"eval/{kind}edit")[-1] for log in logs) / len(logs)
            needed = ", ".join(epochs_to(curve[1:], TARGET) for curve in curves)
            rows[label] = [*map(seeds.spread, zip(*curves)), f"{edit:.3f}", needed]
        epochs = [f"epoch {epoch}" for epoch in range(1, len(rows[label]) - 2)]
        columns = ["start", *epochs, "edit, at the end", f"epochs to {TARGET:.0%}"]
        print(f"\n{title}:\n\n{seeds.markdown(columns, rows)}")


if __name__ == "__main__":
    main()
