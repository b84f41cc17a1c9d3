"""What a log holds after a process that was killed at any byte and one that goes on, read by VisualDL's own reader."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from paddle_warm_callbacks.logs.jsonl import JsonlLog
from paddle_warm_callbacks.logs.vdl import FILE, VisualDLLog

visualdl = pytest.importorskip("visualdl")
Image = pytest.importorskip("PIL.Image")


def scalars(directory: Path, tag: str) -> list[tuple[int, float]]:
    reader = visualdl.LogReader(file_path=str(directory / FILE))
    return [(point.id, point.value) for point in reader.get_data("scalar", tag)]


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def up_to(last: int) -> Callable[[str, int], bool]:
    return lambda tag, step: step <= last


def write(log: Any, steps: range, value: float) -> None:
    for step in steps:
        log.scalar("train/loss", step, value, 1.5)
        log.text("note", step, f"{step} von {value}")
    log.close()


@pytest.mark.parametrize("last", [0, 3, 7])
def test_what_is_logged_again_is_there_once(tmp_path: Path, last: int) -> None:
    for kind in (VisualDLLog, JsonlLog):
        write(kind(tmp_path, up_to(0)), range(1, 8), 1.0)
        write(kind(tmp_path, up_to(last)), range(last + 1, 10), 2.0)
    expected = [(step, 1.0 if step <= last else 2.0) for step in range(1, 10)]
    assert scalars(tmp_path, "train/loss") == expected
    found = [(record["step"], record["value"]) for record in lines(tmp_path) if record["tag"] == "train/loss"]
    assert found == expected
    texts = visualdl.LogReader(file_path=str(tmp_path / FILE)).get_data("text", "note")
    assert [text.id for text in texts] == list(range(1, 10))


def test_a_log_torn_at_any_byte_keeps_every_whole_record(tmp_path: Path) -> None:
    write(VisualDLLog(tmp_path, up_to(0)), range(1, 4), 1.0)
    write(JsonlLog(tmp_path, up_to(0)), range(1, 4), 1.0)
    whole = {name: (tmp_path / name).read_bytes() for name in (FILE, "metrics.jsonl")}
    for name, kind in ((FILE, VisualDLLog), ("metrics.jsonl", JsonlLog)):
        kept_before = -1
        for size in range(len(whole[name]) + 1):
            (tmp_path / name).write_bytes(whole[name][:size])
            kind(tmp_path, up_to(3)).close()
            stays = (tmp_path / name).read_bytes()[: len(whole[name])]
            if name == "metrics.jsonl":
                assert whole[name].startswith(stays)
                assert stays.count(b"\n") == whole[name][:size].count(b"\n")
                continue
            (tmp_path / name).write_bytes(whole[name][:size])
            log = VisualDLLog(tmp_path, up_to(3))
            log.scalar("train/loss", 4, 2.0, 1.5)
            log.close()
            points = scalars(tmp_path, "train/loss")
            assert points[-1] == (4, 2.0)
            assert points[:-1] == [(step, 1.0) for step in range(1, len(points))]
            assert len(points) >= kept_before
            kept_before = len(points)
        if name == FILE:
            assert kept_before == 4


def test_a_length_that_is_noise_ends_the_log_there(tmp_path: Path) -> None:
    write(VisualDLLog(tmp_path, up_to(0)), range(1, 4), 1.0)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\xff" * 20)
    write(VisualDLLog(tmp_path, up_to(3)), range(4, 6), 2.0)
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == [1, 2, 3, 4, 5]


def test_histograms_are_read_back(tmp_path: Path) -> None:
    log = VisualDLLog(tmp_path, up_to(0))
    log.histogram("parameters/fc.weight", 1, np.arange(100, dtype="float32"))
    log.close()
    (found,) = visualdl.LogReader(file_path=str(tmp_path / FILE)).get_data(
        "histogram", "parameters/fc.weight"
    )
    assert sum(found.histogram.hist if hasattr(found, "histogram") else found.hist) == 100


def test_pictures_are_read_back_in_their_colors(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), dtype="uint8")
    picture[:, :3] = (250, 100, 0)
    log = VisualDLLog(tmp_path, up_to(0))
    log.image("eval/sample", 7, picture)
    log.close()
    (found,) = visualdl.LogReader(file_path=str(tmp_path / FILE)).get_data("image", "eval/sample")
    assert found.id == 7
    with Image.open(io.BytesIO(found.image.encoded_image_string)) as read:
        assert np.array_equal(np.asarray(read.convert("RGB")), picture)


def test_a_missing_visualdl_is_an_import_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "visualdl":
            raise ImportError("No module named 'visualdl'")
        return whole(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError):
        VisualDLLog(tmp_path, up_to(0))
