"""Print the tables of docs/configuration.md: every setting, read off the schema, and what slips of the pen are told.

    python docs/settings_table.py            # the settings
    python docs/settings_table.py --slips    # the wrong YAMLs and their messages

A test holds the page to both.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddle_warm_callbacks.config.bounds import form_text
from paddle_warm_callbacks.config.schema import Config
from paddle_warm_callbacks.config.structure import Node, paths, structure_of
from paddle_warm_callbacks.errors import WarmCallbacksError

SLIPS = (
    "training: {resume_form: latest}",
    "epochs: 30",
    "training: latest",
    "unfreeze: {stages: {trainable: fc}}",
    "model: {arch: resnet51}",
    "training: {epochs: thirty}",
    "lr: {factor: 0}",
    "lr: {on_resume: continue}",
    "head: {key: fc, new_labels: [scratch, dent]}",
    "unfreeze: {stages: [{from_epoch: 2, trainable: fc}]}",
    "mirror: {url: 's3://${oc.env:NO_SUCH_BUCKET}/runs'}",
    "training: {resume_from: best}",
    "checkpoints: {keep: {latest: 3}, keep: {best: acc}}",
    "unfreeze: {stages: [{from_epoch: 0, trainable: 'fc('}]}",
    "{model: {arch: resnet18}, unfreeze: {stages: [{from_epoch: 0, trainable: layr4}]}}",
    "# nothing yet",
)


def settings() -> Iterator[str]:
    """Yield the lines of the table of settings."""
    yield "| setting | is | default | what for | another value at a resume |"
    yield "|---|---|---|---|---|"
    for path, node in paths(structure_of(Config)):
        cells = (
            f"`{path}`",
            form_text(node),
            _default(node),
            node.metadata["about"],
            node.metadata["on_resume"],
        )
        yield f"| {' | '.join(cells)} |"


def slips() -> Iterator[str]:
    """Yield the lines of the table of wrong YAMLs, each loaded as ``config.yaml``."""
    yield "| YAML | is told | received | expected | remedy |"
    yield "|---|---|---|---|---|"
    for yaml in SLIPS:
        error = _told(yaml)
        where = f"{error.what}: `{error.where}`"
        expected = error.expected if len(error.expected) < 120 else f"{error.expected[:100]}…"
        cells = (f"`{yaml}`", where, error.received, expected, error.remedy)
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def _told(yaml: str) -> WarmCallbacksError:
    # Imports Paddle, which the table of settings does not need.
    from paddle_warm_callbacks import from_config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml, encoding="utf-8")
        try:
            from_config(path)
        except WarmCallbacksError as error:
            shown = (text.replace(f"{folder}/", "") for text in (error.what, error.where, error.received))
            what, where, received = shown
            return WarmCallbacksError(
                what, where=where, received=received, expected=error.expected, remedy=error.remedy
            )
    raise AssertionError(f"it is not wrong: {yaml}")


def _default(node: Node) -> str:
    if node.default is dataclasses.MISSING:
        return ""
    return "required" if node.default == "???" else f"`{json.dumps(node.default)}`".replace('"', "")


if __name__ == "__main__":
    sys.stdout.write("\n".join(slips() if "--slips" in sys.argv else settings()) + "\n")
