"""A configuration read: defaults, file, overrides, interpolation; and what a slip of the pen is told, with its line."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from paddle_warm_callbacks.config.loading import load
from paddle_warm_callbacks.config.schema import Config, HeadConfig, StageConfig
from paddle_warm_callbacks.config.structure import VALUE, Node, paths, structure_of
from paddle_warm_callbacks.errors import InvalidArgumentError, SourceError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    for text in ("", "# nothing yet\n", "training:\n"[:0]):
        assert load(Config, write(tmp_path, text)).values == Config()


NESTED = [
    (path, node)
    for path, node in paths(structure_of(Config), sections=True)
    if node.kind != VALUE or node.metadata.get("form") or get_origin(node.type) is list
]


@pytest.mark.parametrize(("path", "node"), NESTED, ids=[path for path, _ in NESTED])
def test_whatever_is_no_single_value_has_an_example_that_is_right(path: str, node: Node) -> None:
    name = path.rpartition(".")[2]
    required: dict[str, Any] = {"head": {"key": "fc", "new_labels": ["a"]}, "stages[]": {"trainable": "fc"}}
    required |= {"data": {"train": "images"}}
    required |= {"schedule": {"name": "CosineAnnealingDecay"}, "mirror": {"url": "s3://b"}}
    value: Any = {name: yaml.safe_load(node.metadata["example"])}
    for part in reversed(path.split(".")[:-1]):
        section = {**required.get(part, {}), **value}
        value = {part[:-2]: [section]} if part.endswith("[]") else {part: section}
    load(Config, value)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = write(
        tmp_path, "training: {epochs: 7, seed: 1}\nunfreeze: {stages: [{trainable: fc, from_epoch: 0}]}\n"
    )
    overrides = [
        *("training.epochs=9", "unfreeze.stages[0].lr_factor=0.5", "unfreeze.stages.0.trainable=[a, b]"),
        *("head.key=fc", "head.new_labels=[x, y]", "lr.factor=0.25", "user.deep.er=3", "checkpoints=null"),
    ]
    values = load(Config, path, overrides).values
    assert (values.training.epochs, values.training.seed, values.training.resume_from) == (9, 1, "latest")
    assert values.unfreeze is not None
    assert values.unfreeze.stages == [StageConfig(trainable=["a", "b"], from_epoch=0, lr_factor=0.5)]
    assert values.head == HeadConfig(key="fc", new_labels=["x", "y"])
    assert values.lr is not None
    assert (values.lr.factor, values.user, values.checkpoints) == (0.25, {"deep": {"er": 3}}, None)


def test_a_mapping_and_a_dictconfig_are_taken_as_they_are() -> None:
    given: dict[str, Any] = {"lr": {"factor": 0.5}}
    for config in (given, OmegaConf.create(given)):
        loaded = load(Config, config, ["lr.warmup_steps=3"])
        assert loaded.values.lr is not None
        assert (loaded.values.lr.factor, loaded.values.lr.warmup_steps, loaded.file) == (0.5, 3, None)
    assert given == {"lr": {"factor": 0.5}}
    assert OmegaConf.create(given) == config, "the user's own object was changed"


def test_interpolations_and_the_environment_are_resolved_in_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPOCHS", "12")
    yaml = """
user: {name: defects}
training: {run_dir: "runs/${user.name}", epochs: "${oc.env:EPOCHS}", seed: "${oc.env:NONE,5}"}
visualdl: {log_dir: "${training.run_dir}/logs", log_freq: "${training.epochs}"}
lr: "${user.none}"
"""
    values = load(Config, write(tmp_path, yaml.replace('lr: "${user.none}"\n', ""))).values
    assert values.training.run_dir == "runs/defects"
    assert (values.training.epochs, values.training.seed) == (12, 5)
    assert values.visualdl is not None
    assert (values.visualdl.log_dir, values.visualdl.log_freq) == ("runs/defects/logs", 12)
    with pytest.raises(InvalidArgumentError, match=r"Interpolation key 'user\.none' not found"):
        load(Config, write(tmp_path, yaml))


@pytest.mark.parametrize(
    ("yaml", "where", "says"),
    [
        ("a: 1", "a in {file}, line 1", "there is no such setting"),
        ("epochs: 3", "epochs in {file}, line 1", "did you mean training.epochs?"),
        ("trainig: {epochs: 3}", "trainig in {file}, line 1", "did you mean training?"),
        ("training:\n  resume_form: latest", "training.resume_form in {file}, line 2", "mean training.resume_from?"),
        ("checkpoints:\n  keep:\n    latst: 3", "line 3", "did you mean checkpoints.keep.latest?"),
        ("keep: {latest: 3}", "line 1", "did you mean checkpoints.keep?"),
        ("unfreeze:\n  stages:\n  - {trainable: fc}\n  - {trainble: x}", "line 4", "unfreeze.stages[1].trainable?"),
        ("1: 2", "1 in {file}, line 1", "there is no such setting"),
        ("training: latest", "training in {file}, line 1", "write it so: training: {epochs: 30, resume_from: latest}"),
        ("unfreeze:\n  stages: {trainable: fc}", "unfreeze.stages in {file}, line 2", "stages: [{from_epoch: 0, "),
        ("unfreeze:\n  stages: [fc]", "unfreeze.stages[0] in {file}, line 2", "a section with some of: trainable"),
        ("unfreeze:\n  stages: [fc]", "unfreeze.stages[0] in {file}", "write it so: stages: [{from_epoch: 0, tr"),
        ("user: [1]", "user in {file}, line 1", "write it so: user: {name: defects}"),
        ("training:\n  epochs: [1]", "training.epochs in {file}, line 2", "a whole number, at least 1"),
        ("checkpoints:\n  signals: SIGTERM", "checkpoints.signals in {file}, line 2", "a list, each a text"),
        ("lr: {groups: {fc: {a: 1}}}", "lr.groups.fc in {file}, line 1", "name: a number, at least 0"),
        ("lr: {groups: {fc: {a: 1}}}", "lr.groups.fc in {file}, line 1", "write it so: groups: {layer4: 0.1}"),
        ("lr:\n  groups: [1]", "lr.groups in {file}, line 2", "a mapping"),
        ("training:\n  epochs: many", "training.epochs in {file}, line 2", "could not be converted to Integer"),
        ("training:\n  epochs: 0", "training.epochs in {file}, line 2", "at least 1"),
        ("lr: {groups: {fc: -1}}", "lr.groups.fc in {file}, line 1", "at least 0"),
        ("lr: {groups: {fc: .nan}}", "lr.groups.fc", "at least 0"),
        ("lr: {factor: .inf}", "lr.factor", "above 0"),
        ("warm_start: {min_loaded: 50}", "warm_start.min_loaded", "at least 0, at most 1"),
        ("lr: {on_resume: kep}", "lr.on_resume", "did you mean keep?"),
        ("warm_start: {include: '('}", "warm_start.include", "a regular expression"),
        ("warm_start: {exclude: []}", "warm_start.exclude", "a regular expression"),
        ("head: {key: fc, new_labels: [0, 1]}", "head.new_labels", "quote labels"),
        ("head: {key: fc}", "head.new_labels in {file}, line 1", "a setting without a default is missing"),
        ("training: {epochs: '${oc.env:NOT_SET}'}", "training.epochs", "set the environment variable"),
        ("training: {epochs: '${trainig.seed}'}", "training.epochs", "an interpolation cannot be resolved"),
        ("training: {run_dir: '${oc.env:'}", "{file}", "mismatched input"),
        ("training: {epochs: 3\n", "{file}, line", "the configuration is not YAML"),
        ("lr: {}\nlr: {}", "{file}, line 2", "found duplicate key lr"),
        ("training:\n\tepochs: 3", "{file}, line 2", "the configuration is not YAML"),
        ("- a", "{file}", "the configuration is not a mapping"),
        ("latest", "{file}", "the configuration is not a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_what_was_meant(
    tmp_path: Path, yaml: str, where: str, says: str
) -> None:
    path = write(tmp_path, yaml)
    with pytest.raises(InvalidArgumentError) as raised:
        load(Config, path)
    assert where.format(file=path) in raised.value.where
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.epoch=3", "did you mean training.epochs=…?"),
        ("epochs=3", "did you mean training.epochs=…?"),
        ("training.epochs", "expected: key=value"),
        ("training.epochs.x=1", "not an override"),
        ("training.epochs=0", "training.epochs, by the override 'training.epochs=0'"),
        ("training.epochs=x", "training.epochs, by the override 'training.epochs=x'"),
        ("training=3", "training, by the override 'training=3'"),
        ("training={epoch: 3}", "did you mean training.epochs?"),
        ("unfreeze.stages.first.lr_factor=1", "not an override"),
        ("unfreeze.stages=[{trainble: a}]", "did you mean unfreeze.stages[0].trainable?"),
        ("training.epochs=[1", "[1"),
        (3, "not an override"),
    ],
)
def test_a_wrong_override_is_named(override: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        load(Config, {}, [override])
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "yaml", ["training: {epochs: '${oc.env:TOKEN}'}", "lr: {on_resume: '${user.token}'}"]
)
def test_no_error_says_what_the_environment_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yaml: str
) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t")
    with pytest.raises(InvalidArgumentError, match=r"what \$\{oc\.env:TOKEN\} gives") as raised:
        load(Config, write(tmp_path, f"user: {{token: '${{oc.env:TOKEN}}'}}\n{yaml}"))
    assert "s3cr3t" not in str(raised.value)


def test_what_is_no_configuration_at_all(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        load(Config, tmp_path / "none.yaml")
    with pytest.raises(InvalidArgumentError, match="a mapping, or a DictConfig"):
        load(Config, 3)
    (tmp_path / "latin.yaml").write_bytes("user: {a: é}".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-8"):
        load(Config, tmp_path / "latin.yaml")


@dataclass
class Small:
    """A schema of a script's own, without our metadata."""

    epochs: int = 3
    names: list[str] = field(default_factory=lambda: ["a"])


def test_any_dataclass_is_a_schema(tmp_path: Path) -> None:
    assert load(Small, write(tmp_path, "names: [b, c]"), ["epochs=4"]).values == Small(4, ["b", "c"])
    with pytest.raises(InvalidArgumentError, match="did you mean epochs"):
        load(Small, {"epoch": 4})


PATHS = [path.replace("[]", "") for path, _ in paths(structure_of(Config), sections=True)]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=6) | st.just("${x}"),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=100)
@given(st.sampled_from(PATHS), JUNK)
def test_whatever_is_written_anywhere_is_taken_or_refused_with_an_error_of_ours(path: str, junk: Any) -> None:
    config: Any = junk
    for name in reversed(path.split(".")):
        config = {name: [config] if name == "stages" and config is not junk else config}
    try:
        loaded = load(Config, config)
    except InvalidArgumentError:
        return
    assert isinstance(loaded.values, Config)
    assert load(Config, loaded.plain).plain == loaded.plain  # whose keys are texts, as those of JSON


@settings(max_examples=100)
@given(st.text(max_size=40) | st.text("abc:{}[]-\n\t '\"#&*!|>%@", max_size=30))
def test_whatever_text_a_file_has_is_taken_or_refused_with_an_error_of_ours(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(text, encoding="utf-8")
        with contextlib.suppress(InvalidArgumentError):
            load(Config, path)
