"""What befalls networks and servers, over real sockets: nothing is lost, and training waits for its own disk alone."""

from __future__ import annotations

import datetime
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

from paddle_warm_callbacks.checkpoint import mirror, mirroring
from paddle_warm_callbacks.checkpoint.mirror_writer import Mirror, MirrorWriter
from paddle_warm_callbacks.checkpoint.mirroring import MirrorEvent
from paddle_warm_callbacks.checkpoint.newest import newest_verified
from paddle_warm_callbacks.checkpoint.sending import Sender
from paddle_warm_callbacks.checkpoint.store import CheckpointStore
from paddle_warm_callbacks.checkpoint.urls import opened
from paddle_warm_callbacks.checkpoint.writer import BackgroundWriter
from paddle_warm_callbacks.errors import CheckpointWriteError, SourceError
from tests.checkpoint.s3.faulty_proxy import Fault, FaultyProxy
from tests.checkpoint.s3.server import SECRET, S3Server
from tests.checkpoint.s3.test_s3 import large
from tests.checkpoint.samples import contents, step_in

pytestmark = [
    pytest.mark.s3,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore"),
]

PARTS = r"PUT .*partNumber="


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients give up an answer after three seconds rather than sixty."""
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 3, "connect_timeout": 2}}
    )


def arrived(tmp_path: Path, url: str) -> bool:
    """Return whether the newest checkpoint of the run is at ``url``, whole."""
    newest = CheckpointStore(tmp_path / "run").latest_verified()
    assert newest is not None
    back = mirror.download(f"{url}/checkpoints/{newest.name}", tmp_path / "back")
    return back.digest == newest.digest


@pytest.mark.parametrize(
    ("count", "fault", "pattern"),
    [
        (8, Fault(status=503), ""),
        (8, Fault(status=500), "PUT|POST"),
        (3, Fault(silent_for=20), PARTS),
        (1, Fault(silent_for=20), r"POST .*uploadId="),
        (3, Fault(cut_after=1 << 20), PARTS),
        (2, Fault(cut_after=10), r"PUT .*manifest\.json"),
        (2, Fault(status=403), r"GET .*[?&]uploads"),
    ],
    ids=[
        "503 burst",
        "500 burst",
        "parts time out",
        "completion times out",
        "cut in mid-part",
        "manifest cut",
        "listing uploads not allowed",
    ],
)
def test_an_upload_survives(
    impatient: None, proxy: FaultyProxy, bucket: str, tmp_path: Path, count: int, fault: Fault, pattern: str
) -> None:
    url, befallen = f"{bucket}/defects", [0]
    proxy.times(count, fault, pattern)
    choose = proxy.choose

    def counting(method: str, path: str) -> Fault | None:
        chosen = choose(method, path)
        befallen[0] += chosen is not None
        return chosen

    proxy.choose = counting
    writer = BackgroundWriter(CheckpointStore(tmp_path / "run"), mirror=url)
    writer.submit(large(1))
    writer.close()
    assert befallen == [count], "the faults came"
    assert arrived(tmp_path, url)


def test_parts_that_are_there_are_not_sent_again(
    proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three parts fails for good; another process comes back for the rest."""
    url = f"{bucket}/defects"
    checkpoint = CheckpointStore(tmp_path / "run").commit(large(1))
    proxy.choose = lambda method, path: Fault(status=403) if "partNumber=2" in path else None
    broken = MirrorWriter(Mirror(url))
    with pytest.raises(PermissionError):
        broken.copy(checkpoint)
    broken.close()
    assert mirror.list_mirrored(url) == []
    proxy.choose = lambda method, path: None
    again = MirrorWriter(Mirror(url))
    again.copy(checkpoint)
    again.close()
    size = checkpoint.manifest.files["model.pdparams"].size
    assert 8 << 20 <= again.bytes_sent < size - (8 << 20) + 100_000, "one part of three was there at least"
    assert arrived(tmp_path, url)


def test_after_a_failure_parts_go_one_by_one_and_then_together_again(
    proxy: FaultyProxy, bucket: str, tmp_path: Path
) -> None:
    checkpoint = CheckpointStore(tmp_path / "run").commit(large(1))
    entry = checkpoint.manifest.files["model.pdparams"]
    path = Path(checkpoint.path) / "model.pdparams"
    target = f"{bucket.partition('://')[2]}/net"
    with Sender(opened(bucket)[0]) as sender:
        at_once = [sender.at_once]
        proxy.times(1, Fault(status=403), PARTS)
        with pytest.raises(PermissionError):
            sender.send(path, target, entry)
        at_once.append(sender.at_once)
        for number in range(3):
            sender.send(path, f"{target}-{number}", entry)
            at_once.append(sender.at_once)
    assert at_once == [4, 1, 2, 4, 4]


def test_a_killed_process_leaves_nothing_that_misleads_and_its_rerun_goes_on(
    proxy: FaultyProxy, bucket: str, tmp_path: Path
) -> None:
    url = f"{bucket}/defects"
    checkpoint = CheckpointStore(tmp_path / "run").commit(large(1))
    proxy.bytes_per_second = 6e6
    script = (
        "import sys\nfrom paddle_warm_callbacks.checkpoint import mirror\n"
        "from paddle_warm_callbacks.checkpoint.store import Checkpoint\n"
        "mirror.upload(Checkpoint(sys.argv[1]), sys.argv[2])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, checkpoint.path, url], cwd=Path(__file__).parents[3]
    )
    deadline = time.monotonic() + 60
    while proxy.bytes_up < 12 << 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert proxy.bytes_up >= 12 << 20
    assert mirror.list_mirrored(url) == []
    with pytest.raises(SourceError):
        mirror.download(f"{url}/checkpoints/{checkpoint.name}", tmp_path / "none")
    assert newest_verified(CheckpointStore(tmp_path / "elsewhere"), url) is None
    proxy.bytes_per_second = None
    writer = MirrorWriter(Mirror(url))
    writer.copy(checkpoint)
    writer.close()
    assert arrived(tmp_path, url)


def test_training_does_not_wait_for_a_slow_link_and_the_newest_arrives(
    proxy: FaultyProxy, bucket: str, tmp_path: Path
) -> None:
    """1 MB/s: a part of eight megabytes takes longer than a client waits for an answer."""
    url, events = f"{bucket}/defects", list[MirrorEvent]()
    proxy.bytes_per_second = 1e6
    store = CheckpointStore(tmp_path / "run")
    writer = BackgroundWriter(store, mirror=url, on_mirrored=events.append)
    for step in (1, 2, 3):
        writer.submit(large(step))
        writer.wait()
    assert events == [], "all three are committed, and none has arrived"
    assert writer.mirror_lag() is not None
    writer.close()
    assert [(event.name, event.passed_over) for event in events] == [
        ("step-00000001", 1),
        ("step-00000003", 1),
    ]
    assert arrived(tmp_path, url)


def test_a_server_that_is_killed_and_comes_back_gets_the_rest(
    server: S3Server, proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "_SECONDS_BETWEEN", 1.0)
    url = f"{bucket}/defects"
    proxy.bytes_per_second = 8e6
    writer = BackgroundWriter(CheckpointStore(tmp_path / "run"), mirror=url)
    writer.submit(large(1))
    writer.wait()
    while proxy.bytes_up < 4 << 20:
        time.sleep(0.02)
    server.kill()
    writer.submit(contents(2))
    writer.wait()  # training goes on
    proxy.bytes_per_second = None
    restarting = threading.Thread(target=server.start)
    restarting.start()
    writer.close()
    restarting.join()
    assert arrived(tmp_path, url)


@pytest.mark.parametrize("wrong", ["credentials", "bucket"])
def test_what_will_not_mend_is_said_at_the_end_without_a_secret_and_costs_training_nothing(
    client: Any,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    url = f"{bucket}/defects"
    store = CheckpointStore(tmp_path / "run")
    writer = BackgroundWriter(store, mirror=url)
    writer.submit(contents(1))
    writer.close()
    if wrong == "credentials":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"not-{SECRET}")
    else:
        client.S3FileSystem().rm(bucket, recursive=True)
    client.S3FileSystem.clear_instance_cache()
    writer = BackgroundWriter(store, mirror=url)
    writer.submit(contents(2))
    writer.wait()
    with pytest.raises(CheckpointWriteError, match="could not be copied to the mirror") as caught:
        writer.close()
    assert [step_in(checkpoint) for checkpoint in store.list()] == [1, 2]
    for said in (str(caught.value), str(caught.value.__cause__), caplog.text):
        assert SECRET not in said
    with pytest.raises(SourceError):  # and nothing starts over in silence
        newest_verified(CheckpointStore(tmp_path / "empty"), url)


def test_a_clock_that_is_hours_off_is_told_and_chooses_no_older_state(
    client: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server refuses requests that are signed at another time than its own."""
    import botocore.auth

    url, now = f"{bucket}/defects", botocore.auth.get_current_datetime
    store = CheckpointStore(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(
            botocore.auth, "get_current_datetime", lambda *given: now(*given) - datetime.timedelta(hours=3)
        )
        writer = BackgroundWriter(store, mirror=url)
        writer.submit(contents(1))
        with pytest.raises(CheckpointWriteError, match="could not be copied to the mirror"):
            writer.close()
        with pytest.raises(SourceError):
            newest_verified(CheckpointStore(tmp_path / "empty"), url)
    client.S3FileSystem.clear_instance_cache()
    # On a machine whose clock is right the next is younger by the clock, and older by its position.
    for step in (3, 2):
        mirror.upload(CheckpointStore(tmp_path / f"machine-{step}").commit(contents(step)), url)
    found = newest_verified(store, url)
    assert found is not None
    assert step_in(found) == 3


def test_of_two_machines_on_one_run_the_later_goes_on_and_both_keep_what_they_have(
    bucket: str, tmp_path: Path
) -> None:
    url = f"{bucket}/defects"
    here, there = CheckpointStore(tmp_path / "here"), CheckpointStore(tmp_path / "there")
    one = BackgroundWriter(here, mirror=url)
    one.submit(contents(1))
    one.wait()
    while one.mirror_lag():
        time.sleep(0.02)
    found = newest_verified(there, url)
    assert found is not None
    two = BackgroundWriter(there, mirror=url)
    two.submit(contents(2, metrics={"acc": 0.5}))
    two.close()
    one.submit(contents(2))
    with pytest.raises(CheckpointWriteError, match="could not be copied") as caught:
        one.close()
    assert "taken this mirror over" in str(caught.value)
    assert [step_in(checkpoint) for checkpoint in here.list()] == [1, 2]
    assert mirror.download(f"{url}/checkpoints/step-00000002", tmp_path / "back").manifest.metrics == {
        "acc": 0.5
    }
