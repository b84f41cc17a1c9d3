"""What is stored of a configuration: resolved, and without what the environment gave."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from paddle_warm_callbacks.config.stored import stored

SECRET = "s3cr3t"


def kept(**values: Any) -> dict[str, Any]:
    return stored(OmegaConf.create(values))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("NUMBER", "5")


def test_interpolations_are_resolved() -> None:
    assert kept(a=1, b="${a}", c=["${b}", {"d": "x-${a}"}], e=None) == {
        "a": 1, "b": 1, "c": [1, {"d": "x-1"}], "e": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "is_stored"),
    [
        ("${oc.env:TOKEN}", "${oc.env:TOKEN}"),
        ("${oc.env:TOKEN,none}", "${oc.env:TOKEN,none}"),
        ("${ oc.env : TOKEN }", "${ oc.env : TOKEN }"),
        ("https://${oc.env:TOKEN}.host/${name}", "https://${oc.env:TOKEN}.host/n"),
        ("${oc.env:NONE,${oc.env:TOKEN}}/${name}", "${oc.env:NONE,${oc.env:TOKEN}}/n"),
        ("${oc.decode:${oc.env:TOKEN}}", "${oc.decode:${oc.env:TOKEN}}"),
        ("${oc.env:NONE,${name}}", "${oc.env:NONE,${name}}"),
        ("\\${name}", "${name}"),
        ("s3://key:${oc.env:TOKEN}@host/x", "s3://***@host/x"),
        (f"s3://key:{SECRET}@host/x@2", "s3://***@host/x@2"),
        (f"https://{SECRET}@host/x", "https://***@host/x"),
        ("a@b.example", "a@b.example"),
    ],
)
def test_the_environment_and_passwords_are_not(written: str, is_stored: str) -> None:
    found = kept(name="n", token=written, again="${token}", nested={"list": ["${token}", "<${again}>"]})
    assert found["token"] == found["again"] == found["nested"]["list"][0] == is_stored
    assert found["nested"]["list"][1] == f"<{is_stored}>"
    assert SECRET not in repr(found)


def test_the_control_resolved_it_is_there() -> None:
    config = OmegaConf.create({"token": "${oc.env:TOKEN}", "again": "${token}"})
    assert OmegaConf.to_container(config, resolve=True) == {"token": SECRET, "again": SECRET}


def test_a_typed_value_from_the_environment_stays_as_it_is_written() -> None:
    from paddle_warm_callbacks.config.loading import load
    from paddle_warm_callbacks.config.schema import Config

    loaded = load(Config, {"training": {"epochs": "${oc.env:NUMBER}", "seed": "${training.epochs}"}})
    assert (loaded.values.training.epochs, loaded.values.training.seed) == (5, 5)
    assert loaded.plain["training"]["epochs"] == loaded.plain["training"]["seed"] == "${oc.env:NUMBER}"


def test_no_resolver_gets_at_it_by_another_setting() -> None:
    made = kept(token="${oc.env:TOKEN}", made="${oc.create:{a: '${token}'}}", decoded="${oc.decode:${token}}")
    assert made["made"] == {"a": "${oc.env:TOKEN}"}
    assert made["decoded"] == "${oc.decode:${token}}"


def test_what_needs_the_environments_value_to_be_computed_stays_as_it_is_written() -> None:
    assert kept(token="${oc.env:TOKEN}", key="${dict.${token}}")["key"] == "${dict.${token}}"
