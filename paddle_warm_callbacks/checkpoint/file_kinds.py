"""What a file seems to be that was given as weights and is none: told by its first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# As many as a tar archive needs: its mark stands at byte 257.
BEGINNING_BYTES = 512

_LONGEST_QUOTE = 60
# What an HTML page, and a storage server's error in XML, say.
_SAYS = re.compile(r"<(title|message)\b[^>]*>\s*([^<]*[^<\s])", re.IGNORECASE)


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        seems: What it seems to be, for people.
        remedy: What to do about its being given as weights.
    """

    seems: str
    remedy: str


_CONVERT = "convert it to safetensors where PyTorch is at hand"
_UNPACK = "unpack it, and give the file of weights in it"
_NO_WEIGHTS = "check the path: it is no file of weights"
_AN_ANSWER = "a server may have answered with it in the file's stead: read it, and get the file again"

PICKLE = FileKind("a pickle, as paddle.save writes", "name it .pdparams")
SAFETENSORS = FileKind("a safetensors file", "name it .safetensors")
PADDLE_TENSORS = FileKind(
    "a tensor in Paddle's binary format, or the .pdiparams of an inference model",
    "use the .pdparams file that paddle.save or Model.save(training=True) wrote",
)
_TAR = FileKind("a tar archive", _UNPACK)
_ONNX = FileKind("an ONNX model", "give the weights that it was exported from")

# What files of a kind begin with; where one is the beginning of another, the longer first.
_MAGIC = {
    b"version https://git-lfs.github.com/": FileKind(
        "a pointer of Git LFS, which stands for the file",
        "get the file itself, with git lfs pull or by its download link",
    ),
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.": FileKind(
        "a file of torch.save, before PyTorch 1.6", _CONVERT
    ),
    **{bytes([0x80, protocol]): PICKLE for protocol in (2, 3, 4, 5)},
    b"PK\x03\x04": FileKind(
        "a zip archive, as torch.save writes", f"{_CONVERT}; if it is of files, {_UNPACK}"
    ),
    b"\x1f\x8b": FileKind("a gzip archive", _UNPACK),
    b"\x89PNG\r\n\x1a\n": FileKind("a PNG picture", _NO_WEIGHTS),
    b"\xff\xd8\xff": FileKind("a JPEG picture", _NO_WEIGHTS),
    b"\x89HDF\r\n\x1a\n": FileKind(
        "an HDF5 file, as Keras writes",
        "give its arrays by name: a dictionary, or one written by paddle.save",
    ),
    bytes(4): PADDLE_TENSORS,
}
# An ONNX model begins with its version, and then with one of these fields.
_AFTER_ONNX_VERSION = b"\x12\x1a\x22\x28\x32\x3a\x42"


def kind_of_file(path: Path) -> FileKind | None:
    """Return :func:`kind_of` a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return kind_of(file.read(BEGINNING_BYTES))


def kind_of(beginning: bytes) -> FileKind | None:
    r"""Return the kind of a file by how it begins; None if it is none that is known here.

    Args:
        beginning: Its first `BEGINNING_BYTES`, or all of a shorter one.

    >>> kind_of(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").seems
    'a PNG picture'
    >>> kind_of(b"<html><head><title>404 Not Found</title>").seems
    "an HTML page: '404 Not Found'"
    """
    for magic, kind in _MAGIC.items():
        if beginning.startswith(magic):
            return kind
    if beginning[5:9] == b"\0\0\0{":  # a table of less than 1 TB, and its first character
        return SAFETENSORS
    if beginning[257:262] == b"ustar":
        return _TAR
    if beginning[:1] == b"\x08" and beginning[2:3] and beginning[2] in _AFTER_ONNX_VERSION:
        return _ONNX
    text = _text(beginning)
    return None if text is None else FileKind(f"{_kind_of_text(text)}: {_quoted(text)!r}", _AN_ANSWER)


def _text(beginning: bytes) -> str | None:
    """Return the beginning as text, if it is any."""
    try:
        text = beginning.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(beginning) - 3:
            return None
        text = beginning[: error.start].decode("utf-8-sig")  # a character is cut in two
    text = text.strip()
    return text if text and all(one.isprintable() or one.isspace() for one in text) else None


def _kind_of_text(text: str) -> str:
    lower = text.lower()
    if lower.startswith(("<!doctype html", "<html")):
        return "an HTML page"
    if lower.startswith("<?xml"):
        return "an XML document"
    return "JSON" if text.startswith(("{", "[")) else "text"


def _quoted(text: str) -> str:
    """Return what the text says that may be why it is there: a page's title, a message, or its first words."""
    said = _SAYS.search(text)
    words = " ".join((said[2] if said else text).split())
    return words if len(words) <= _LONGEST_QUOTE else words[: _LONGEST_QUOTE - 1] + "…"
