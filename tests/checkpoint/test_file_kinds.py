"""Files that are no weights, given as weights: the error says what they seem to be."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from paddle_warm_callbacks.checkpoint.file_kinds import (
    BEGINNING_BYTES,
    PADDLE_TENSORS,
    PICKLE,
    kind_of,
)
from paddle_warm_callbacks.checkpoint.source import open_source
from paddle_warm_callbacks.errors import UnsafeFileError

GENUINE = Path(__file__).parent / "genuine"


def archive(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as zipped:
            zipped.writestr("net/data.pkl", "x")
    else:
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("net/best.pdparams"))
    return out.getvalue()


# What it is, the bytes, what it seems to be, and a word of the remedy.
OTHERS = {
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(600), "a PNG picture", "check the path"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(600), "a JPEG picture", "check the path"),
    "zip": (archive("zip"), "a zip archive, as torch.save writes", "safetensors"),
    "tar": (archive("tar"), "a tar archive", "unpack it"),
    "tar.gz": (gzip.compress(archive("tar")), "a gzip archive", "unpack it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file, as Keras writes", "paddle.save"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(600), "an ONNX model", "exported from"),
    "torch.save of old": (
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2),
        "a file of torch.save, before PyTorch 1.6",
        "safetensors",
    ),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a pointer of Git LFS, which stands for the file",
        "git lfs pull",
    ),
    "HTML": (
        b"\n<!DOCTYPE html>\n<html><head>\n<title>\n  404 Not\n Found </title></head></html>",
        "an HTML page: '404 Not Found'",
        "a server may have answered",
    ),
    "XML": (
        b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>',
        "an XML document: 'The key does not exist.'",
        "a server may have answered",
    ),
    "JSON": (
        b'\xef\xbb\xbf{"error": "Repository not found"}',
        'JSON: \'{"error": "Repository not found"}\'',
        "a server may have answered",
    ),
    "text": (b"Access denied\n", "text: 'Access denied'", "a server may have answered"),
    "long text": (b"All work and no play " * 40, f"text: '{('All work and no play ' * 3)[:59]}…'", "read it"),
    # Cut in the middle of a character where the beginning ends.
    "Chinese text": (("x" + "无权访问" * 100).encode(), ("text: 'x" + "无权访问" * 14 + "无权…'"), "read it"),
}


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors", ".pdiparams"])
@pytest.mark.parametrize("other", OTHERS)
def test_given_as_weights_it_is_named_as_what_it_seems_to_be(tmp_path: Path, other: str, suffix: str) -> None:
    data, seems, remedy = OTHERS[other]
    path = tmp_path / f"net{suffix}"
    path.write_bytes(data)
    with pytest.raises(UnsafeFileError) as failure:
        open_source(path)
    assert failure.value.received == seems
    assert remedy in failure.value.remedy
    assert str(path) in failure.value.where


def test_weights_under_the_name_of_the_other_kind_are_told_their_own(tmp_path: Path) -> None:
    array = np.arange(3.0)
    table = b'{"w":{"dtype":"F64","shape":[3],"data_offsets":[0,24]}}'
    content = {
        ".safetensors": len(table).to_bytes(8, "little") + table + array.tobytes(),
        ".pdparams": pickle.dumps({"w": array}, 4),
    }
    for right, wrong in ((".safetensors", ".pdparams"), (".pdparams", ".safetensors")):
        path = tmp_path / f"net{wrong}"
        path.write_bytes(content[right])
        with pytest.raises(UnsafeFileError) as failure:
            open_source(path)
        assert failure.value.remedy == f"name it {right}"
        renamed = path.rename(tmp_path / f"renamed{right}")
        assert open_source(renamed).tensors["w"].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "path", sorted(GENUINE.glob("*/*.pdparams")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_the_control_genuine_files_are_of_their_own_kind(path: Path) -> None:
    assert kind_of(path.read_bytes()[:BEGINNING_BYTES]) is PICKLE


@pytest.mark.parametrize("path", sorted(GENUINE.glob("*/*.pdiparams")), ids=lambda path: path.parent.name)
def test_the_control_genuine_parameters_of_inference_are_of_theirs(path: Path) -> None:
    assert kind_of(path.read_bytes()[:BEGINNING_BYTES]) is PADDLE_TENSORS


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xfe\xed\xfa\xce" * 9, b"  \n", b"\x80\x09N.", "café".encode("latin-1") * 9]
)
def test_what_is_not_known_is_not_guessed(data: bytes) -> None:
    assert kind_of(data) is None
