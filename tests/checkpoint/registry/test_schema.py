"""The published JSON Schema: in step with the code, true of every record, and untrue of what is none."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from paddle_warm_callbacks.checkpoint.registry.record import ModelVersion
from paddle_warm_callbacks.checkpoint.registry.registry import Registry
from paddle_warm_callbacks.checkpoint.registry.schema import json_schema
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.plan.retention import KeepBest
from tests.checkpoint.samples import contents

PUBLISHED = Path(__file__).parents[3] / "docs" / "registry.schema.json"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("registry")
    registry = Registry(place / "models")
    parent = registry.push(CheckpointStore(place / "a").commit(contents(1)), "imagenet")
    said = {"parent": "imagenet", "config": {"lr": 0.1}, "notes": "for line 3", "shift": (1, 2)}
    metrics = {"acc": 0.5, "loss": float("nan")}
    checkpoint = CheckpointStore(place / "b").commit(contents(2, metrics=metrics))
    version = registry.push(checkpoint, "defects", metadata=said, rank_by=KeepBest("acc"))
    assert version.parent == parent.digest
    written: dict[str, Any] = json.loads(
        (place / "models/models/defects/versions/00000001.json").read_bytes()
    )
    return written


def test_the_published_schema_is_the_codes() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == json_schema()


def test_it_has_every_field_of_a_record() -> None:
    assert list(json_schema()["properties"]) == [entry.name for entry in fields(ModelVersion)]


def test_it_is_true_of_what_is_written(record: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(record, json_schema())


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": "1"},
        {"digest": "xyz"},
        {"metrics": {"acc": "high"}},
        {"rank_by": {"metric": "acc"}},
        {"ancestry": [{"source": "x"}]},
        {"labels": "abc"},
        {"schema_version": 2},
        {"unknown": 1},
        {"notes": 1},
    ],
)
def test_it_is_untrue_of_anything_else(record: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**record, **change}, json_schema())


def test_a_record_comes_back_as_it_went(record: dict[str, Any]) -> None:
    data = json.dumps(record).encode()
    assert ModelVersion.from_bytes(data, "here").to_json() == record
