"""What goes over the line to a mirror, what need not, what is deleted there, and who may write."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint import mirror
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.sending import Sender
from paddle_warm_callbacks.checkpoint.store import Checkpoint, CheckpointStore
from paddle_warm_callbacks.checkpoint.urls import opened
from paddle_warm_callbacks.errors import CheckpointWriteError, InvalidArgumentError, SourceError
from paddle_warm_callbacks.plan.retention import KeepBest, KeepLatest
from tests.checkpoint.samples import contents, entries, step_in


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path}/mirror" if request.param == "memory" else str(tmp_path / "mirror")


def committed(tmp_path: Path, step: int, **values: Any) -> Checkpoint:
    return CheckpointStore(tmp_path / "run").commit(contents(step, **values))


def unchanged_but_for_the_head(tmp_path: Path, step: int) -> Checkpoint:
    """Commit a checkpoint whose model is that of every other step, and its optimizer's state is not."""
    base = contents(step, size=4000)
    model = {"fc.weight": np.ones((4000, 20), np.float32)}
    return CheckpointStore(tmp_path / "run").commit(
        type(base)(**{**vars(base), "model": model, "model_names": {}})
    )


def test_a_file_that_is_there_already_is_copied_there_and_not_sent(tmp_path: Path, url: str) -> None:
    writer = MirrorWriter(Mirror(url))
    first, second = (unchanged_but_for_the_head(tmp_path, step) for step in (1, 2))
    writer.copy(first)
    sent = writer.bytes_sent
    assert sent == first.manifest.size
    writer.copy(second)
    assert writer.bytes_sent - sent == second.manifest.size - second.manifest.files["model.pdparams"].size
    writer.close()
    for checkpoint in (first, second):
        back = mirror.download(f"{url}/checkpoints/{checkpoint.name}", tmp_path / "back" / checkpoint.name)
        assert back.digest == checkpoint.digest


def test_so_it_is_by_a_process_that_did_not_send_the_first(tmp_path: Path, url: str) -> None:
    first, second = (unchanged_but_for_the_head(tmp_path, step) for step in (1, 2))
    mirror.upload(first, url)
    writer = MirrorWriter(Mirror(url))
    writer.copy(second)
    writer.close()
    assert writer.bytes_sent == second.manifest.size - second.manifest.files["model.pdparams"].size


def test_where_the_first_has_gone_the_file_is_sent(tmp_path: Path, url: str) -> None:
    first, second = (unchanged_but_for_the_head(tmp_path, step) for step in (1, 2))
    writer = MirrorWriter(Mirror(url))
    writer.copy(first)
    sent = writer.bytes_sent
    files, root = opened(url)
    files.rm(f"{root}/checkpoints/{first.name}", recursive=True)
    writer.copy(second)
    writer.close()
    assert writer.bytes_sent - sent == second.manifest.size
    assert step_in_optimizer(mirror.download(f"{url}/checkpoints/{second.name}", tmp_path / "back")) == 2


def step_in_optimizer(checkpoint: Checkpoint) -> int:
    return int(checkpoint.read_optimizer()["LR_Scheduler"]["last_epoch"])


def test_the_mirrors_own_policy_keeps_what_it_says(tmp_path: Path, url: str) -> None:
    writer = MirrorWriter(Mirror(url, keep=KeepLatest(1) | KeepBest("acc")))
    for step, acc in enumerate((0.5, 0.9, 0.7, 0.6), start=1):
        writer.copy(committed(tmp_path, step, metrics={"acc": acc}))
    writer.close()
    assert mirror.list_mirrored(url) == ["step-00000002", "step-00000004"]
    files, root = opened(url)
    left = [
        str(name).rstrip("/").rsplit("/", 1)[-1] for name in files.ls(f"{root}/checkpoints", detail=False)
    ]
    assert sorted(left) == ["step-00000002", "step-00000004"], "no file of the others is left"
    assert len(CheckpointStore(tmp_path / "run").list()) == 4, (
        "the run's own are kept by the run's own policy"
    )


def test_an_epochs_end_takes_the_place_of_its_last_step_there_too(tmp_path: Path, url: str) -> None:
    writer = MirrorWriter(Mirror(url, keep=KeepLatest(2)))
    for step, epoch in ((3, None), (4, None), (4, 1)):
        writer.copy(committed(tmp_path, step, epoch=epoch))
    writer.close()
    assert mirror.list_mirrored(url) == ["step-00000003", "step-00000004-epoch-0001"]


def test_a_later_process_ranks_by_what_the_manifests_there_say(tmp_path: Path, url: str) -> None:
    for step, acc in enumerate((0.9, 0.5), start=1):
        mirror.upload(committed(tmp_path, step, metrics={"acc": acc}), url)
    writer = MirrorWriter(Mirror(url, keep=KeepBest("acc")))
    writer.copy(committed(tmp_path, 3, metrics={"acc": 0.1}))
    writer.close()
    assert mirror.list_mirrored(url) == ["step-00000001", "step-00000003"], (
        "the newest stays whatever the policy says"
    )


def test_without_a_policy_everything_stays(tmp_path: Path, url: str) -> None:
    writer = MirrorWriter(Mirror(url))
    for step in (1, 2, 3):
        writer.copy(committed(tmp_path, step))
    writer.close()
    assert len(mirror.list_mirrored(url)) == 3


def test_what_cannot_be_deleted_does_not_make_a_copy_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"memory://{tmp_path}/mirror"
    writer = MirrorWriter(Mirror(url, keep=KeepLatest(1)))
    writer.copy(committed(tmp_path, 1))

    def refused(*given: Any) -> None:
        raise PermissionError("append only")

    monkeypatch.setattr(fsspec.filesystem("memory"), "rm_file", refused)
    writer.copy(committed(tmp_path, 2))
    writer.close()
    assert mirror.list_mirrored(url) == ["step-00000001", "step-00000002"]
    assert "append only" in caplog.text


def test_of_two_machines_the_one_that_came_later_goes_on_and_nothing_is_lost(
    tmp_path: Path, url: str
) -> None:
    first, second = MirrorWriter(Mirror(url)), MirrorWriter(Mirror(url))
    first.copy(committed(tmp_path, 1))
    other = CheckpointStore(tmp_path / "other machine")
    second.copy(other.commit(contents(2, metrics={"acc": 1.0})))
    mine = committed(tmp_path, 3)
    with pytest.raises(CheckpointWriteError, match="taken this mirror over"):
        first.copy(mine)
    second.copy(other.commit(contents(3, metrics={"acc": 1.0})))
    first.close()
    second.close()
    assert mirror.list_mirrored(url) == [f"step-0000000{step}" for step in (1, 2, 3)]
    newest = mirror.download(f"{url}/checkpoints/step-00000003", tmp_path / "back")
    assert newest.manifest.metrics == {"acc": 1.0}
    assert step_in(mine) == 3


def test_an_upload_that_broke_off_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a local file system; S3 has its own tests."""
    url, checkpoint = str(tmp_path / "mirror"), committed(tmp_path, 1)
    done: list[str] = []
    put = Sender._put

    def failing(self: Sender, path: Path, target: str) -> None:
        if len(done) == 3:
            raise ConnectionError("lost")
        put(self, path, target)
        done.append(path.name)

    monkeypatch.setattr(mirror, "_FILES_AT_ONCE", 1)
    monkeypatch.setattr(Sender, "_put", failing)
    writer = MirrorWriter(Mirror(url))
    with pytest.raises(ConnectionError):
        writer.copy(checkpoint)
    monkeypatch.setattr(Sender, "_put", put)
    again = MirrorWriter(Mirror(url))
    again.copy(checkpoint)
    assert again.bytes_sent == sum(
        entry.size for name, entry in checkpoint.manifest.files.items() if name not in done
    )
    back = mirror.download(f"{url}/checkpoints/{checkpoint.name}", tmp_path / "back")
    assert entries(back.path) == entries(checkpoint.path)


def test_a_limit_holds_for_all_uploads_together(tmp_path: Path, url: str) -> None:
    checkpoint = committed(tmp_path, 1, size=20_000)
    writer = MirrorWriter(Mirror(url, max_bytes_per_second=checkpoint.manifest.size * 2))
    began = time.monotonic()
    writer.copy(checkpoint)
    writer.copy(committed(tmp_path, 2, size=20_000))
    writer.close()
    # The last bytes may set out when those before them have had their time: a lower bound, whatever the machine does.
    assert time.monotonic() - began > 0.5


def test_the_owner_is_named_without_secrets(tmp_path: Path, url: str) -> None:
    writer = MirrorWriter(Mirror(url))
    writer.copy(committed(tmp_path, 1))
    writer.close()
    files, root = opened(url)
    assert set(json.loads(files.cat_file(f"{root}/owner.json"))) == {"id", "pid", "host", "since"}


_MACHINE = """
import sys
from pathlib import Path
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.errors import CheckpointWriteError
from tests.checkpoint.samples import contents
url, run_dir, rate, *steps = sys.argv[1:]
store = CheckpointStore(run_dir)
writer = MirrorWriter(Mirror(url, max_bytes_per_second=float(rate)))
try:
    for step in steps:
        writer.copy(store.commit(contents(int(step), size=100_000)))
except CheckpointWriteError as error:
    print(error.what)
    raise SystemExit(3)
finally:
    writer.close()
"""


@pytest.mark.parametrize("step_of_the_other", [2, 1])
def test_a_machine_that_comes_in_the_middle_of_anothers_upload_takes_over(
    tmp_path: Path, step_of_the_other: int
) -> None:
    """Two processes, the first on a slow line: its checkpoint never counts, the other's do."""
    place = tmp_path / "mirror"

    def machine(name: str, rate: float, *steps: int) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-c",
            _MACHINE,
            str(place),
            str(tmp_path / name),
            str(rate),
            *map(str, steps),
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])

    slow = machine("slow", 400e3, 1, 3)
    deadline = time.monotonic() + 60
    while not list(place.glob("checkpoints/step-00000001/*")):
        assert time.monotonic() < deadline
        assert slow.poll() is None
        time.sleep(0.01)
    other = machine("other", 1e9, step_of_the_other)
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert slow.poll() is None, "or it had come after the other's upload, not into its middle"
    said, _ = slow.communicate(timeout=60)
    assert (slow.returncode, said) == (3, "another process has taken this mirror over\n")
    assert mirror.list_mirrored(str(place)) == [f"step-0000000{step_of_the_other}"]
    if step_of_the_other != 1:
        Checkpoint(place / "checkpoints" / "step-00000002").verify()
    ours = CheckpointStore(tmp_path / "slow").latest_verified()
    assert ours is not None
    assert step_in(ours) == 1, "nothing is lost"


@pytest.mark.parametrize(
    "arguments",
    [{"url": ""}, {"url": 3}, {"url": "x", "keep": 3}, {"url": "x", "max_bytes_per_second": 0}],
)
def test_a_wrong_argument_is_an_error_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Mirror(**arguments)


@pytest.mark.parametrize(
    ("scheme", "extra", "package"),
    [
        ("s3", "s3", "s3fs"),
        ("oss", "oss", "ossfs"),
        ("gs", "gs", "gcsfs"),
        ("gcs", "gs", "gcsfs"),
        ("hdfs", "hdfs", "pyarrow"),
        ("hf", "hf", "huggingface_hub"),
        ("https", "http", "aiohttp"),
    ],
)
def test_a_missing_package_says_which_extra_has_it_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str, package: str
) -> None:
    # As if nothing had been imported; and importing the package fails, installed or not.
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SourceError) as caught:
        Mirror(f"{scheme}://models/x")
    assert f"paddle-warm-callbacks[{extra}]" in caught.value.remedy
    assert caught.value.received


def test_every_extra_that_an_error_names_exists() -> None:
    from paddle_warm_callbacks.checkpoint import urls

    extras = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    for extra in urls._EXTRAS.values():
        assert f"\n{extra} = [" in extras
