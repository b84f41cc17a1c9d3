"""Errors carry what they document, and stay what they were through pickling and inheritance."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from paddle_warm_callbacks import errors
from paddle_warm_callbacks.errors import InvalidArgumentError, WarmCallbacksError

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, WarmCallbacksError)
]
every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


@every_class
def test_every_field_is_set_and_shown(kind: type[WarmCallbacksError]) -> None:
    fields = {"where": "the place", "received": "this", "expected": "that", "remedy": "do so"}
    error = kind("it failed", **fields)
    assert error.what == "it failed"
    assert {name: getattr(error, name) for name in fields} == fields
    assert str(error).splitlines() == [
        "it failed", "  where:    the place", "  received: this", "  expected: that", "  remedy:   do so",
    ]  # fmt: skip


@every_class
def test_empty_fields_take_no_line(kind: type[WarmCallbacksError]) -> None:
    assert str(kind("it failed", remedy="do so")).splitlines() == ["it failed", "  remedy:   do so"]


@every_class
def test_a_class_says_when_it_is_raised(kind: type[WarmCallbacksError]) -> None:
    assert kind.__doc__
    assert issubclass(kind, WarmCallbacksError)


@pytest.mark.parametrize(
    "copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"]
)
def test_an_error_from_a_worker_process_keeps_its_fields(copied: object) -> None:
    assert callable(copied)
    error = copied(InvalidArgumentError("it failed", where="fc.weight", remedy="do so"))
    assert type(error) is InvalidArgumentError
    assert (error.what, error.where, error.remedy) == ("it failed", "fc.weight", "do so")
    assert str(error).count("fc.weight") == 1


def test_wrong_arguments_are_value_errors_and_the_rest_is_not() -> None:
    assert [kind.__name__ for kind in CLASSES if issubclass(kind, ValueError)] == [
        "InvalidArgumentError",
        "PatternError",
    ]
