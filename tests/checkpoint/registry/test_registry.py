"""The registry: versions that never change, tags that move whole, references, differences, and descent to the root."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import cache
from paddle_warm_callbacks.checkpoint.pdparams import write_pdparams
from paddle_warm_callbacks.checkpoint.registry.record import ModelVersion
from paddle_warm_callbacks.checkpoint.registry.references import ROOT_VARIABLE
from paddle_warm_callbacks.checkpoint.registry.registry import Registry
from paddle_warm_callbacks.checkpoint.source import open_checkpoint, open_source
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.errors import (
    CorruptCheckpointError,
    InvalidArgumentError,
    RegistryError,
    SourceError,
)
from paddle_warm_callbacks.plan.retention import KeepBest
from tests.checkpoint.samples import contents, same, step_in


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return str(tmp_path / "models") if request.param == "local" else f"memory://{tmp_path}/models"


def committed(tmp_path: Path, step: int, **values: Any) -> Checkpoint:
    return CheckpointStore(tmp_path / f"run-{step}").commit(contents(step, **values))


def test_a_pushed_checkpoint_comes_back_by_every_kind_of_reference(root: str, tmp_path: Path) -> None:
    registry = Registry(root)
    accuracies = {1: 0.5, 2: 0.9, 3: 0.7}
    for step, acc in accuracies.items():
        pushed = registry.push(
            committed(tmp_path, step, metrics={"acc": acc}), "defects", rank_by=KeepBest("acc")
        )
        assert pushed.reference == f"defects@{step}"
    registry.tag("defects@1", "production")
    found = {
        reference: step_in(registry.open(Registry(root).resolve(reference)))
        for reference in ("defects", "defects@latest", "defects@3", "defects@best", "defects@production")
    }
    assert found == {
        "defects": 3, "defects@latest": 3, "defects@3": 3, "defects@best": 2, "defects@production": 1,
    }  # fmt: skip
    assert [version.reference for version in registry.list()] == ["defects@1", "defects@2", "defects@3"]
    assert registry.names() == ["defects"]


def test_a_tag_moves_and_every_other_reference_stays(root: str, tmp_path: Path) -> None:
    registry = Registry(root)
    for step in (1, 2):
        registry.push(committed(tmp_path, step), "defects")
    registry.tag("defects@1", "production")
    registry.tag("defects@1", "old")
    assert registry.tag("defects@2", "production").version == 2
    assert registry.tags("defects") == {"old": 1, "production": 2}
    assert registry.show("defects@2")[1] == ["production"]
    assert registry.resolve("defects@1").version == 1


def test_a_version_is_never_written_over(root: str, tmp_path: Path) -> None:
    registry = Registry(root)
    first = registry.push(committed(tmp_path, 1), "defects", 1, {"notes": "first"})
    with pytest.raises(RegistryError, match="versions do not change"):
        registry.push(committed(tmp_path, 2), "defects", 1, {"notes": "second"})
    assert registry.resolve("defects@1") == first
    assert registry.push(committed(tmp_path, 3), "defects", 7).version == 7
    assert registry.push(committed(tmp_path, 4), "defects").version == 8, "one more than the greatest"


def test_many_pushers_at_once_each_get_a_version_of_their_own(root: str, tmp_path: Path) -> None:
    checkpoints = [committed(tmp_path, step) for step in range(1, 9)]

    def push(checkpoint: Checkpoint) -> ModelVersion:
        return Registry(root).push(checkpoint, "defects")

    with ThreadPoolExecutor(len(checkpoints)) as pool:
        pushed = list(pool.map(push, checkpoints))
    assert len({version.version for version in pushed}) == len(checkpoints)
    registry = Registry(root)
    assert sorted(registry.list("defects"), key=str) == sorted(pushed, key=str)
    for checkpoint, version in zip(checkpoints, pushed):
        assert registry.resolve(version.reference).digest == checkpoint.digest


def test_many_processes_at_once_each_get_a_version_of_their_own(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom paddle_warm_callbacks import Registry\nsys.stdin.readline()\n"
        "for _ in range(5):\n    print(Registry(sys.argv[1]).push(sys.argv[2], 'defects').version, flush=True)\n"
    )
    committed(tmp_path, 1)
    command = [sys.executable, "-c", script, str(tmp_path / "models"), str(tmp_path / "run-1")]
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pushers = [subprocess.Popen(command, cwd=Path(__file__).parents[3], **options) for _ in range(3)]
    numbers = [pusher.communicate("go\n", timeout=60)[0].split() for pusher in pushers]
    assert sorted(int(number) for mine in numbers for number in mine) == list(range(1, 16))


def test_a_push_that_breaks_off_anywhere_publishes_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = committed(tmp_path, 1)
    files = fsspec.filesystem("memory")
    original = {name: getattr(files, name) for name in ("put_file", "pipe_file")}
    broken = 0
    for number in range(100):
        registry = Registry(f"memory://{tmp_path}/models-{number}")
        done = [0]

        def counting(*arguments: Any, name: str, limit: int = number, done: list[int] = done) -> Any:
            if done[0] == limit:
                raise ConnectionError("lost")
            done[0] += 1
            return original[name](*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(files, "put_file", lambda *given: counting(*given, name="put_file"))
            patch.setattr(files, "pipe_file", lambda *given: counting(*given, name="pipe_file"))
            try:
                registry.push(checkpoint, "defects")
            except SourceError:
                broken += 1
                assert registry.list() == []
            else:
                break
        registry.push(checkpoint, "defects")
        assert step_in(registry.open(registry.resolve("defects"))) == 1
    assert broken == 8, "five files, a manifest, a claim and a record"


def test_metadata_says_all_that_is_asked_and_what_the_checkpoint_says_is_taken_over(
    root: str, tmp_path: Path
) -> None:
    own = {"labels": ["dent", "spot"], "data_source": "line 3", "notes": "old", "shift": "night"}
    run = CheckpointStore(tmp_path / "run")
    base = contents(4, epoch=2, metrics={"acc": 0.5, "loss": float("nan")})
    checkpoint = run.commit(type(base)(**{**vars(base), "metadata": own}))
    said = {
        "notes": "new",
        "author": "Ada",
        "code_revision": "abc123",
        "config": {"lr": 0.1, "sizes": [1, 2]},
        "device": "cpu",
        "input_spec": [{"shape": [None, 3, 64, 64], "dtype": "float32"}],
        "metrics": {"acc": 0.75},
        "ticket": 17,
    }
    Registry(root).push(checkpoint, "defects", metadata=said)
    version = Registry(root).resolve("defects")
    assert (version.author, version.notes, version.data_source) == ("Ada", "new", "line 3")
    assert (version.code_revision, version.device) == ("abc123", "cpu")
    assert version.labels == ["dent", "spot"]
    assert version.input_spec == said["input_spec"]
    assert version.config == said["config"]
    assert version.config_digest is not None
    assert len(version.config_digest) == 64
    assert same(dict(version.metrics), {"acc": 0.75, "loss": float("nan")})
    assert version.extra == {"shift": "night", "ticket": 17}
    assert version.writer == {"numpy": np.__version__}
    assert version.progress == checkpoint.progress
    assert version.digest == checkpoint.digest


def test_the_digest_of_a_configuration_is_that_of_its_values(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    checkpoint = committed(tmp_path, 1)
    digests = [
        registry.push(checkpoint, "defects", metadata={"config": config}).config_digest
        for config in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}, "a: 1\n")
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    "metadata",
    [{"notes": 3}, {"labels": "abc"}, {"metrics": 0.5}, {"metrics": {"acc": "high"}}, {"x": object()}],
)
def test_metadata_that_cannot_be_is_refused_before_anything_is_sent(
    tmp_path: Path, metadata: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError):
        Registry(tmp_path / "models").push(committed(tmp_path, 1), "defects", metadata=metadata)
    assert not (tmp_path / "models").exists()


def test_a_file_of_weights_becomes_a_model_that_knows_its_origin(root: str, tmp_path: Path) -> None:
    weights = {"fc.weight": np.arange(6, dtype=np.float32).reshape(3, 2)}
    with (tmp_path / "resnet50.pdparams").open("wb") as file:
        write_pdparams(file, weights)
    registry = Registry(root)
    registry.push(tmp_path / "resnet50.pdparams", "imagenet", metadata={"data_source": "ImageNet"})
    checkpoint = registry.open(registry.resolve("imagenet"))
    assert same(checkpoint.read_model(), weights)
    links = registry.lineage("imagenet")
    assert [link.source for link in links] == ["imagenet@1", str(tmp_path / "resnet50.pdparams")]
    assert links[1].digest is not None


def test_lineage_goes_through_models_of_the_registry_and_past_those_that_it_lacks(
    root: str, tmp_path: Path
) -> None:
    registry = Registry(root)
    imagenet = registry.push(committed(tmp_path, 1), "imagenet")

    def child(step: int, ancestry: list[dict[str, Any]]) -> Checkpoint:
        base = contents(step)
        made = type(base)(**{**vars(base), "metadata": {"ancestry": ancestry}})
        return CheckpointStore(tmp_path / f"child-{step}").commit(made)

    # A step between that nobody pushed: what its descendant carries leads past it.
    between = {"source": "runs/a", "digest": "0" * 32}
    plain = child(2, [between, {"source": "registry://imagenet@1", "digest": imagenet.digest}])
    plastics = registry.push(plain, "plastics")
    # Pushed without a word of its origin, which is given at the push.
    registry.push(committed(tmp_path, 3), "defects", metadata={"parent": "plastics@1"})
    links = registry.lineage("defects")
    assert [link.source for link in links] == ["defects@1", "plastics@1", "runs/a", "imagenet@1"]
    assert [link.version is None for link in links] == [False, False, True, False]
    assert registry.resolve("defects").parent == plastics.digest
    assert [link.source for link in registry.lineage("imagenet")] == ["imagenet@1"]


def test_models_that_name_each_other_as_origin_end(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    own = committed(tmp_path, 1).digest
    base = contents(2)
    ancestry = {"ancestry": [{"source": "a", "digest": own}, {"source": "b", "digest": own}]}
    registry.push(
        CheckpointStore(tmp_path / "x").commit(type(base)(**{**vars(base), "metadata": ancestry})), "x"
    )
    assert [link.source for link in registry.lineage("x")] == ["x@1", "a"]


def test_diff_tells_fields_and_tensors_apart(root: str, tmp_path: Path) -> None:
    registry = Registry(root)
    base = contents(1, metrics={"acc": 0.5})
    registry.push(
        CheckpointStore(tmp_path / "a").commit(base), "defects", metadata={"notes": "a", "author": "me"}
    )
    model = {**base.model, "fc.bias": np.array([9, 9], np.float32), "new": np.zeros(1, np.float32)}
    del model["fc.weight"]
    changed = type(base)(**{**vars(base), "model": model, "metrics": {"acc": 0.75}})
    registry.push(
        CheckpointStore(tmp_path / "b").commit(changed), "defects", metadata={"notes": "b", "author": "me"}
    )
    found = registry.diff("defects@1", "defects@2")
    assert found.changed == ["model.pdparams/fc.bias"]
    assert found.only_a == ["model.pdparams/fc.weight"]
    assert found.only_b == ["model.pdparams/new"]
    assert found.fields == {"metrics.acc": (0.5, 0.75), "notes": ("a", "b")}
    again = registry.diff("defects@1", "defects@1")
    assert (again.fields, again.changed, again.only_a, again.only_b) == ({}, [], [], [])
    assert again.same == found.same + 2


@pytest.mark.parametrize(
    ("reference", "says"),
    [("absent", "defects"), ("defects@9", "defects@1 to @1"), ("defects@no-such-tag", "@production (1)")],
)
def test_what_is_not_there_says_what_is(root: str, tmp_path: Path, reference: str, says: str) -> None:
    registry = Registry(root)
    registry.push(committed(tmp_path, 1), "defects")
    registry.tag("defects", "production")
    with pytest.raises(RegistryError) as caught:
        registry.resolve(reference)
    assert says in caught.value.expected


def test_the_best_of_models_that_were_not_ranked_is_not_guessed(root: str, tmp_path: Path) -> None:
    registry = Registry(root)
    registry.push(committed(tmp_path, 1, metrics={"acc": 0.5}), "defects")
    with pytest.raises(RegistryError, match="the best is not known"):
        registry.resolve("defects@best")
    registry.push(committed(tmp_path, 2, metrics={"acc": 0.25}), "defects", rank_by=KeepBest("acc"))
    assert registry.resolve("defects@best").version == 1
    registry.push(committed(tmp_path, 3, metrics={"acc": 0.3}), "defects", rank_by=KeepBest("acc", "min"))
    assert registry.resolve("defects@best").version == 2, "the newest ranking counts"


@pytest.mark.parametrize("name", ["", "../defects", "a/b", "a@b", ".hidden", "défaut", "a b", "a" * 101])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        Registry(tmp_path / "models").push(committed(tmp_path, 1), name)
    with pytest.raises(InvalidArgumentError):
        Registry(tmp_path / "models").resolve(f"{name}@1")


@pytest.mark.parametrize("tag", ["", "3", "best", "latest", "../x", "a/b"])
def test_a_tag_that_would_be_something_else_is_refused(tmp_path: Path, tag: str) -> None:
    registry = Registry(tmp_path / "models")
    registry.push(committed(tmp_path, 1), "defects")
    with pytest.raises(InvalidArgumentError):
        registry.tag("defects@1", tag)


def test_a_model_that_someone_replaced_or_damaged_is_not_handed_out(root: str, tmp_path: Path) -> None:
    registry = Registry(root)
    pushed = registry.push(committed(tmp_path, 1), "defects")
    other = committed(tmp_path, 2)
    files = fsspec.filesystem("memory" if "://" in root else "file")
    for file in [*other.manifest.files, "manifest.json"]:
        files.put_file(f"{other.path}/{file}", f"{registry._path}/checkpoints/{pushed.digest}/{file}")
    with pytest.raises(CorruptCheckpointError, match="not what was pushed"):
        registry.open(pushed)


def test_a_record_that_is_none_or_of_a_newer_schema_is_refused(root: str, tmp_path: Path) -> None:
    registry = Registry(root)
    pushed = registry.push(committed(tmp_path, 1), "defects")
    files = fsspec.filesystem("memory" if "://" in root else "file")
    newer = {**pushed.to_json(), "schema_version": 2}
    for data, says in (
        (b"{}", "no record"),
        (b"\x00", "no record"),
        (json.dumps(newer).encode(), "newer version"),
    ):
        files.pipe_file(f"{registry._path}/models/defects/versions/00000001.json", data)
        with pytest.raises(CorruptCheckpointError, match=says):
            registry.resolve("defects@1")


def test_a_damaged_checkpoint_is_not_published(root: str, tmp_path: Path) -> None:
    checkpoint = committed(tmp_path, 1)
    (Path(checkpoint.path) / "state.json").write_bytes(b"{}")
    with pytest.raises(CorruptCheckpointError):
        Registry(root).push(checkpoint, "defects")
    assert Registry(root).list() == []


def test_a_url_names_a_model_of_the_registry_in_the_environment_or_of_its_own_root(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registry(root).push(committed(tmp_path, 1), "defects")
    Registry(root).tag("defects", "production")
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    with pytest.raises(InvalidArgumentError, match="which registry is not known"):
        open_source("registry://defects@production")
    source = open_source(f"registry://defects@production?root={root}")
    monkeypatch.setenv(ROOT_VARIABLE, root)
    again = open_source("registry://defects@production")
    assert source.description == again.description == "registry://defects@1", "pinned, for tags move"
    assert same(source.tensors, again.tensors)
    assert source.ancestry == [{"source": "registry://defects@1", "digest": source.digest}]
    assert step_in(open_checkpoint("registry://defects")) == 1


def test_a_registry_that_cannot_be_reached_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(f"memory://{tmp_path}/models")

    def refused(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no route")

    monkeypatch.setattr(fsspec.filesystem("memory"), "ls", refused)
    with pytest.raises(SourceError, match="no route"):
        registry.list()
    with pytest.raises(SourceError, match="nope"):
        Registry("nope://x")
