"""One algorithm, known by its published values."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddle_warm_callbacks.checkpoint.digests import PIECE_BYTES, digest_of, digest_of_file, new_digest


def test_it_is_xxh3_of_128_bits() -> None:
    assert digest_of(b"") == "99aa06d3014798d86001c324468d497f"  # XXH128 of nothing, as xxHash documents it


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_file_in_pieces_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "file").write_bytes(data[:size])
    assert digest_of_file(tmp_path / "file") == (size, digest_of(data[:size]))
    digest = new_digest()
    digest.update(data[: size // 2])
    digest.update(data[size // 2 : size])
    assert digest.hexdigest() == digest_of(data[:size])
