"""Which start is taken, of every combination of what there is, and why the others are not."""

from __future__ import annotations

from itertools import product

import pytest

from paddle_warm_callbacks.plan.start import CHECKPOINT, COLD, PRETRAINED, RESUME, choose_start


@pytest.mark.parametrize(
    ("found", "source", "pretrained"),
    list(product((None, "step-00000004"), (None, "old.pdparams"), (None, "paddle.vision:resnet18"))),
)
def test_resume_goes_before_checkpoint_before_pretrained_before_cold(
    found: str | None, source: str | None, pretrained: str | None
) -> None:
    start = choose_start(
        resume_from="latest", run="runs/a", found=found, source=source, pretrained=pretrained
    )
    asked = {RESUME: found, CHECKPOINT: source, PRETRAINED: pretrained, COLD: "initial values"}
    taken = next(kind for kind, given in asked.items() if given is not None)
    assert start.kind == taken
    assert str(asked[taken]) in start.taken
    # Everything that was asked for and goes behind is named, and the resume that was not possible is explained.
    behind = [given for kind, given in asked.items() if given is not None and kind not in (taken, COLD)]
    for given in behind:
        assert any(given in sentence and "goes before it" in sentence for sentence in start.passed_over)
    assert (taken == RESUME) != any("runs/a has no checkpoint yet" in why for why in start.passed_over)


def test_a_resume_that_was_not_asked_for_is_told_so() -> None:
    start = choose_start(resume_from=None, run="None", found=None, source=None, pretrained=None)
    assert start.to_text().splitlines() == [
        "start: cold, from the network's own initial values",
        "  not resumed: resume_from is not set",
        "  not warm: neither a checkpoint nor pretrained weights are given",
    ]
