"""Transplant by class name, head dropped, and a cold start, at equal budget, over several seeds.

    python benchmarks/detection_strategies.py [--seeds 3] [--dir runs/detection_strategies] [key=value ...]

Runs the detection recipe, with its overrides, for each seed, always from the same old model, and once more with nothing
frozen. Prints, with four decimals, what mAP the old model has of its classes and what each seed's transplant begins
with; then COCO mAP of the old and of the new classes before the first step and after each epoch, mean and range over
the seeds, as a Markdown table. Stopped and run again, it goes on.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.common import seeds
from recipes.common.config import load_config
from recipes.common.old_labels import old_labels
from recipes.detection.train import Recipe, RecipeConfig

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "detection" / "train.py"
ARMS = {
    "vdl/new": "by class name, backbone frozen at first",
    "all/vdl/new": "by class name, nothing frozen",
    "vdl/dropped": "head dropped, nothing frozen",
    "vdl/cold": "cold start",
}
GROUPS = {"mAP_old": "old classes", "mAP_new": "new classes"}


def main() -> None:
    """Train what is missing, and print the table."""
    arguments = seeds.arguments(str(__doc__), "runs/detection_strategies")
    folders = [arguments.dir / f"seed-{seed}" for seed in range(arguments.seeds)]
    exported = folders[0] / "export" / "old"
    old = [f"checkpoint={exported / 'model_final.pdparams'}", f"old_labels={exported / 'label_list.txt'}"]
    for seed, folder in enumerate(folders):
        common = [f"train.seed={seed}", *arguments.overrides]
        seeds.train(RECIPE, folder, *(old if seed else []), *common)
        nothing_else = ["train.unfreeze=all", "compare_dropped=false", "compare_cold=false"]
        seeds.train(RECIPE, folder / "all", *old, *common, *nothing_else)
    curves = {
        f"{group}: {label}": [seeds.from_the_start(folder / arm, metric) for folder in folders]
        for metric, group in GROUPS.items()
        for arm, label in ARMS.items()
    }
    overrides = [f"output={folders[0]}", *old, *arguments.overrides]
    config = load_config(RecipeConfig, RECIPE.with_name("config.yaml"), overrides)
    assert config.checkpoint is not None
    labels = old_labels(config.checkpoint, config.old_labels) or []
    with contextlib.redirect_stdout(sys.stderr):  # ppdet and pycocotools print
        before = Recipe(config).source_map(config.checkpoint, labels)
    after = ", ".join(f"{curve[0]:.4f}" for curve in curves[f"old classes: {ARMS['vdl/new']}"])
    print(f"Old classes: mAP {before:.4f} in the old model, {after} right after the transplant.\n")
    epochs = range(1, len(next(iter(curves.values()))[0]))
    rows = {name: [seeds.spread(values) for values in zip(*found)] for name, found in curves.items()}
    print(seeds.markdown(["start", *(f"epoch {epoch}" for epoch in epochs)], rows))


if __name__ == "__main__":
    main()
