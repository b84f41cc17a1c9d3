"""docs/metrics_log.md names every tag that a run writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.test_markdown_examples import ROOT

pytest.importorskip("paddle", reason="a run is trained", exc_type=ImportError)

from paddle_warm_callbacks import (
    EveryNSteps,
    PeriodicCheckpoint,
    Stage,
    StagedUnfreeze,
    WarmLRScaler,
    WarmStartCallback,
    WarmVisualDL,
)
from tests.callbacks.runs import Points, fit, model

PAGE = (ROOT / "docs" / "metrics_log.md").read_text(encoding="utf-8")


def _patterns() -> list[str]:
    rows = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
    tags = [tag for row in rows for tag in re.findall(r"`([a-z]+(?:/[a-z_<>/…]+)?)`", row)]
    return [re.sub(r"<\w+>|…", ".+", tag) for tag in tags]


def test_every_tag_of_a_run_is_on_the_page(tmp_path: Path) -> None:
    board = WarmVisualDL(tmp_path / "vdl", log_freq=1, gradient_norm=True, hparams={"augmentation": "flips"})
    callbacks = (
        WarmStartCallback(model()),
        WarmLRScaler(0.5, groups={"body": 0.1}),
        StagedUnfreeze([Stage(0, "fc"), Stage(1, ".*")]),
        PeriodicCheckpoint(tmp_path, save=EveryNSteps(2), mirror=str(tmp_path / "mirror")),
        board,
    )
    fit(model(), *callbacks, eval_data=Points(), epochs=2)
    lines = (tmp_path / "vdl" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    tags = {json.loads(line)["tag"] for line in lines}
    patterns = _patterns()
    assert len(tags) > 15
    assert {tag for tag in tags if not any(re.fullmatch(pattern, tag) for pattern in patterns)} == set()
    assert not any(
        re.fullmatch(pattern, "other/tag") for pattern in patterns
    )  # the patterns are not everything
