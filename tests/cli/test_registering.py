"""``registry``: publish, tag, list, show, compare and follow models from a shell, as a person and as a script."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from paddle_warm_callbacks.checkpoint.registry.references import ROOT_VARIABLE
from paddle_warm_callbacks.checkpoint.registry.registry import Registry
from tests.cli.typed import flip_a_bit, lines_of, make_run, typed, typed_json


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_a_model_is_pushed_tagged_listed_and_shown(root: Path, run: Path) -> None:
    first, second = (run / "checkpoints" / name for name in ("step-00000002-epoch-0001", "step-00000005"))
    said = ["--notes", "the first", "--data-source", "line 3", "--author", "Ada", "--field", "shift=night"]
    pushed = typed("registry", "push", first, "defects", *said, "--rank-by", "acc", "--tag", "production")
    assert pushed.stdout.split(" is ")[1] == "defects@1, defects@production\n"
    assert typed("registry", "push", second, "defects", "--metric", "acc=0.95").stdout.endswith(
        "is defects@2\n"
    )
    assert typed("registry", "tag", "defects@2", "candidate").stdout == "defects@candidate is defects@2\n"
    rows = list(lines_of(typed("registry", "list")))
    assert rows[0][:2] == ["model", "tags"]
    assert [row[:3] for row in rows[1:]] == [
        ["defects@1", "production", "acc=0.9"],
        ["defects@2", "candidate", "acc=0.95"],
    ]
    shown = dict(
        line.split(maxsplit=1) for line in typed("registry", "show", "defects@1").stdout.splitlines() if line
    )
    assert (shown["notes"], shown["data_source"], shown["author"]) == ("the first", "line 3", "Ada")
    assert (shown["shift"], shown["tags"]) == ("night", "production")
    assert shown["labels"] == '["a", "b"]'
    assert typed_json("registry", "show", "defects@best")["version"] == 2


def test_json_has_every_field(root: Path, run: Path) -> None:
    pushed = typed_json("registry", "push", run, "defects", "--tag", "x")
    (listed,) = typed_json("registry", "list", "defects")
    shown = typed_json("registry", "show", "defects")
    assert pushed == listed
    assert {**listed, "place": str(root / "checkpoints" / pushed["digest"])} == shown
    assert (pushed["reference"], pushed["tags"], pushed["progress"]["global_step"]) == ("defects@1", ["x"], 5)


def test_diff_ends_with_1_where_models_differ(root: Path, run: Path) -> None:
    for name in ("step-00000002-epoch-0001", "step-00000004-epoch-0002"):
        typed("registry", "push", run / "checkpoints" / name, "defects")
    assert typed("registry", "diff", "defects@1", "defects@1").stdout.splitlines()[-1] == "tensors: 4 same"
    said = typed("registry", "diff", "defects@1", "defects@2", exit_code=1).stdout
    assert "changed: model.pdparams/fc.weight" in said
    assert ["metrics.acc", "0.9", "0.5"] in list(
        lines_of(typed("registry", "diff", "defects@1", "defects@2", exit_code=1))
    )
    found = typed_json("registry", "diff", "defects@1", "defects@2", exit_code=1)
    assert found["fields"] == {"metrics.acc": [0.9, 0.5]}
    assert found["same"] + len(found["changed"]) == 4


def test_lineage_is_drawn_to_the_root(root: Path, run: Path) -> None:
    typed("registry", "push", run, "imagenet", "--data-source", "ImageNet")
    typed(
        "registry",
        "push",
        run / "checkpoints" / "step-00000002-epoch-0001",
        "defects",
        "--parent",
        "imagenet",
    )
    assert typed("registry", "lineage", "defects").stdout.splitlines() == [
        "defects@1  acc=0.9",
        "  <- imagenet@1  ImageNet",
    ]
    links = typed_json("registry", "lineage", "defects")
    assert [link["source"] for link in links] == ["defects@1", "imagenet@1"]
    assert links[1]["version"]["data_source"] == "ImageNet"


def test_errors_and_wrong_calls_end_with_2(root: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such model" in typed("registry", "show", "absent", exit_code=2).stderr
    assert "--rank-by" in typed("registry", "push", run, "defects", "--mode", "min", exit_code=2).stderr
    assert "NAME=VALUE" in typed("registry", "push", run, "defects", "--field", "x", exit_code=2).stderr
    assert "cannot be one" not in typed("registry", "list").stdout
    assert typed("registry", "list").stdout == "no model yet\n"
    monkeypatch.delenv(ROOT_VARIABLE)
    assert ROOT_VARIABLE in typed("registry", "list", exit_code=2).stderr
    assert typed("registry", "--root", root, "list").stdout == "no model yet\n"


def test_what_a_record_says_does_not_command_a_terminal(root: Path, run: Path) -> None:
    Registry(root).push(str(run), "defects", metadata={"notes": "\x1b[2Jgone"})
    for command in (["list"], ["show", "defects"], ["lineage", "defects"]):
        assert "\x1b" not in typed("registry", *command).stdout


def test_the_schema_is_printed_without_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    jsonschema.Draft202012Validator.check_schema(json.loads(typed("registry", "schema").stdout))


def test_other_commands_look_into_a_model_too(root: Path, run: Path) -> None:
    pushed = typed_json("registry", "push", run / "checkpoints" / "step-00000002-epoch-0001", "defects")
    assert typed_json("show", "registry://defects")["digest"] == pushed["digest"]
    (verdict,) = typed_json("verify", "registry://defects@1")
    assert verdict["whole"]
    flip_a_bit(root / "checkpoints" / pushed["digest"] / "model.pdparams")
    assert "DAMAGED" in typed("verify", "registry://defects@1", exit_code=1).stdout
    assert "no such version" in typed("show", "registry://defects@2", exit_code=2).stderr
