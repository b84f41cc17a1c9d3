"""What a step costs in each stage of unfreezing a ResNet50, as a ratio to a step that trains everything.

    python benchmarks/stage_step_time.py [--rounds 5] [--steps 8]

Each round times every stage in turn, so that a noisy machine is noisy for all; the table holds medians over rounds of
the ratio within a round. "no callback" is a bare fit.
"""

from __future__ import annotations

import argparse
import statistics

import paddle
from timed_fit import Repeated, images, timed_steps

from paddle_warm_callbacks import Stage, StagedUnfreeze

STAGES = {
    "head": r"^fc\.",
    "layer4 and head": r"^layer4\.|^fc\.",
    "layer3 and deeper": r"^layer[34]\.|^fc\.",
    "everything": ".*",
}


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    loader = Repeated(images(64, 8), arguments.steps)
    seconds: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for name, pattern in {**STAGES, "no callback": ""}.items():
            network = paddle.vision.models.resnet50(num_classes=10)
            callbacks = [StagedUnfreeze([Stage(0, pattern)])] if pattern else []
            steps = timed_steps(network, loader, callbacks)
            seconds.setdefault(name, []).append(statistics.median(steps))
    print("| stage | ms a step | of everything |\n|---|---|---|")
    for name, found in seconds.items():
        ratio = statistics.median(one / whole for one, whole in zip(found, seconds["everything"]))
        print(f"| {name} | {1000 * statistics.median(found):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
