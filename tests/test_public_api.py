"""The public names: all there, where they are promised, with the promised signatures, and without Paddle at import."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import paddle_warm_callbacks
from paddle_warm_callbacks import errors

NEEDS_PADDLE = {
    *("PeriodicCheckpoint", "StagedUnfreeze", "WarmLRScaler", "WarmStartCallback", "WarmVisualDL"),
    *("SamplePredictions", "class_caption", "fine_tune", "from_config", "stages_from_depth"),
    *("ProofResult", "prove"),
}

# Name, then its constructor's parameters as (name, default), "*" before the keyword-only ones. REQUIRED has none.
REQUIRED = inspect.Parameter.empty
SIGNATURES: dict[str, list[Any]] = {
    "WarmStartCallback": [
        ("source", None),
        "*",
        ("run_dir", None),
        ("resume_from", None),
        ("head", None),
        ("include", None),
        ("exclude", None),
        ("rename", None),
        ("min_loaded", 0.5),
    ],
    "PeriodicCheckpoint": [
        ("run_dir", REQUIRED),
        "*",
        ("save", "EveryNEpochs(1)"),
        ("keep", "KeepLatest(3)"),
        ("mirror", None),
        ("metadata", None),
        ("save_on_signal", True),
    ],
    "StagedUnfreeze": [("stages", REQUIRED)],
    "WarmLRScaler": [("factor", 0.1), "*", ("warmup_steps", 0), ("groups", None), ("on_resume", "keep")],
    "WarmVisualDL": [("log_dir", REQUIRED)],
    "Stage": [
        ("from_epoch", REQUIRED),
        ("trainable", REQUIRED),
        "*",
        ("lr_factor", 1.0),
        ("rewarm_steps", 0),
        ("freeze_norm", True),
    ],
    "HeadTransplant": [
        ("key", REQUIRED),
        ("old_labels", REQUIRED),
        ("new_labels", REQUIRED),
        "*",
        ("layout", "linear"),
    ],
    "CheckpointStore": [("run_dir", REQUIRED)],
    "EveryNEpochs": [("n", REQUIRED)],
    "EveryNSteps": [("n", REQUIRED)],
    "EveryNSeconds": [("s", REQUIRED)],
    "KeepLatest": [("n", REQUIRED)],
    "KeepBest": [("metric", REQUIRED), ("mode", "max"), ("n", 1)],
    "KeepEvery": [("n_epochs", REQUIRED)],
}


def _public(name: str) -> Any:
    if name in NEEDS_PADDLE:
        pytest.importorskip("paddle", reason="needs Paddle", exc_type=ImportError)
    return getattr(paddle_warm_callbacks, name)


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_begins_as_promised(name: str) -> None:
    promised = SIGNATURES[name]
    keyword_only_from = promised.index("*") if "*" in promised else len(promised)
    parameters = inspect.signature(_public(name)).parameters
    for index, (parameter, default) in enumerate(entry for entry in promised if entry != "*"):
        found = parameters[parameter]
        if index < keyword_only_from:
            assert list(parameters)[index] == parameter
            assert found.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        else:
            assert found.kind is inspect.Parameter.KEYWORD_ONLY
        assert _shown(found.default) == default


def _shown(default: Any) -> Any:
    """Return a policy as its constructor call, however its repr names the field; anything else as it is."""
    if type(default).__module__.startswith("paddle_warm_callbacks."):
        return f"{type(default).__name__}({', '.join(map(repr, vars(default).values()))})"
    return default


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_beyond_the_promised_are_optional(name: str) -> None:
    promised = {entry[0] for entry in SIGNATURES[name] if entry != "*"}
    for parameter in inspect.signature(_public(name)).parameters.values():
        assert parameter.name in promised or parameter.default is not REQUIRED, parameter


def test_checkpoint_store_has_the_promised_methods() -> None:
    for method in ("list", "latest_verified"):
        assert callable(getattr(paddle_warm_callbacks.CheckpointStore, method))


@pytest.mark.parametrize(
    "name", [name for name in paddle_warm_callbacks.__all__ if not name.endswith("Error")]
)
def test_every_public_name_is_defined_in_its_home_and_documented(name: str) -> None:
    public = _public(name)
    home = next(home for home, names in paddle_warm_callbacks._HOMES.items() if name in names)
    home = f"paddle_warm_callbacks.{home}"
    assert public.__module__ == home or public.__module__.startswith(f"{home}.")
    assert inspect.getdoc(public)


def test_every_error_is_public() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == {name for name in paddle_warm_callbacks.__all__ if name.endswith("Error")}
    assert all(
        issubclass(getattr(paddle_warm_callbacks, name), errors.WarmCallbacksError) for name in defined
    )


def test_type_checkers_and_the_interpreter_are_told_the_same() -> None:
    tree = ast.parse(Path(str(paddle_warm_callbacks.__file__)).read_text(encoding="utf-8"))
    for_checkers = {
        (alias.name, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("paddle_warm_callbacks.")
        for alias in node.names
        if alias.name in paddle_warm_callbacks.__all__
    }
    for_the_interpreter = {
        (name, f"paddle_warm_callbacks.{home}")
        for home, names in paddle_warm_callbacks._HOMES.items()
        for name in names
    }
    assert for_checkers == for_the_interpreter
    assert sorted(name for name, _ in for_checkers) == sorted(paddle_warm_callbacks.__all__)


def test_import_alone_imports_neither_paddle_nor_storage() -> None:
    loaded = _run(
        "import sys, paddle_warm_callbacks; dir(paddle_warm_callbacks);"
        "print(*[m for m in ('paddle', 'visualdl', 'fsspec', 'omegaconf', 'numpy') if m in sys.modules])"
    )
    assert loaded == ""


def test_store_and_policies_come_without_paddle() -> None:
    names = "CheckpointStore, EveryNSteps, HeadTransplant, KeepBest, Stage"
    assert (
        _run(f"import sys; from paddle_warm_callbacks import {names}; print('paddle' in sys.modules)")
        == "False"
    )


@pytest.mark.parametrize("name", sorted(NEEDS_PADDLE))
def test_a_callback_without_paddle_says_how_to_install_it(name: str) -> None:
    said = _run(
        f"""
import sys
class NoPaddle:  # the first finder asked, so that Paddle is absent where it is installed too
    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] == "paddle":
            raise ModuleNotFoundError(f"No module named {{fullname!r}}", name="paddle")
sys.meta_path.insert(0, NoPaddle())
try:
    from paddle_warm_callbacks import {name}
except ImportError as error:
    print(error.name, error)
"""
    )
    assert said.startswith(f"paddle {name} needs PaddlePaddle, and it is not installed")
    assert 'pip install "paddle-warm-callbacks[cpu]"' in said


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'NoSuchName'"):
        paddle_warm_callbacks.NoSuchName  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'NoSuchName'"):
        exec("from paddle_warm_callbacks import NoSuchName")
