"""The manifest protects itself, and says everything it was given."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_warm_callbacks.checkpoint.digests import digest_of
from paddle_warm_callbacks.checkpoint.manifest import (
    FileEntry,
    Manifest,
    TensorEntry,
    tensors_from_bytes,
    tensors_to_bytes,
)
from paddle_warm_callbacks.errors import CorruptCheckpointError
from paddle_warm_callbacks.progress import Progress

MANIFEST = Manifest(
    files={"model.pdparams": FileEntry(10, "ab" * 16), "state.json": FileEntry(2, "cd" * 16)},
    progress=Progress(12, 1, 2),
    epoch_completed=False,
    metrics={"acc": 0.5, "worst": float("-inf")},
    metadata={"labels": ["é", "b"], "size": (1, 2)},
    parent="ef" * 16,
    writer={"paddle": "3.3.1"},
    created="2026-11-23T12:00:00+00:00",
)


def test_what_is_written_is_read_back() -> None:
    assert Manifest.from_bytes(MANIFEST.to_bytes(), "here") == MANIFEST
    assert MANIFEST.size == 12


def test_the_file_is_json_that_people_can_read() -> None:
    record = json.loads(MANIFEST.to_bytes())
    assert record["progress"] == {"global_step": 12, "epoch": 1, "step_in_epoch": 2}
    assert record["files"]["model.pdparams"] == {"size": 10, "digest": "ab" * 16}
    assert record["algorithm"] == "xxh3_128"


@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    whole = MANIFEST.to_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + data.draw(st.integers(0, 3)) :]
    if changed != whole:
        with pytest.raises(CorruptCheckpointError):
            Manifest.from_bytes(changed, "here")


def _signed(record: object) -> bytes:
    """Return a manifest whose digest is right, whatever it says."""
    rest = b'", ' + json.dumps(record).encode()[1:]
    return b'{"digest": "' + digest_of(rest).encode() + rest


def test_a_newer_format_asks_for_a_newer_package() -> None:
    record = {**json.loads(MANIFEST.to_bytes()), "version": 3}
    del record["digest"]
    with pytest.raises(CorruptCheckpointError, match="newer version") as caught:
        Manifest.from_bytes(_signed(record), "here")
    assert "pip install --upgrade" in caught.value.remedy


@pytest.mark.parametrize("missing", ["files", "progress", "metrics", "writer"])
def test_a_manifest_that_lacks_something_is_no_manifest(missing: str) -> None:
    record = json.loads(MANIFEST.to_bytes())
    del record["digest"], record[missing]
    with pytest.raises(CorruptCheckpointError, match="lacks"):
        Manifest.from_bytes(_signed(record), "here")


def test_the_table_of_tensors_is_read_back() -> None:
    tensors = (TensorEntry("fc.weight", "model.pdparams", (2, 3), "float32", 17, "ab" * 16),)
    assert tensors_from_bytes(tensors_to_bytes(tensors)) == tensors
    assert tensors_from_bytes(tensors_to_bytes(())) == ()
