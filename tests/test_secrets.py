"""Credentials leave the texts they stand in, and nothing else does."""

from __future__ import annotations

import logging

import pytest

from paddle_warm_callbacks.errors import SourceError
from paddle_warm_callbacks.secrets import cause, redacted, redacted_values

SECRETS = [
    ("ftp://me:hunter2@host/x", "ftp://***@host/x"),
    ("see https://hunter2@host:8080/x?a=1, or not", "see https://***@host:8080/x?a=1, or not"),
    ("https://b.s3.amazonaws.com/k?X-Amz-Credential=hunter2&X-Amz-Date=1&X-Amz-Signature=hunter2",
     "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Date=1&X-Amz-Signature=***"),
    ("https://a.blob.core.windows.net/c/x?sv=2022&sig=hunter2#f", "https://a.blob.core.windows.net/c/x?sv=2022&sig=***#f"),
    ("https://x/y?OSSAccessKeyId=hunter2&Expires=5&Signature=hunter2", "https://x/y?OSSAccessKeyId=***&Expires=5&Signature=***"),
    ("https://x/y?access_token=hunter2", "https://x/y?access_token=***"),
    ("https://x/y?jwt=hunter2&pwd=hunter2&auth=hunter2", "https://x/y?jwt=***&pwd=***&auth=***"),
    ("https://x/y?Policy=hunter2&Key-Pair-Id=hunter2", "https://x/y?Policy=***&Key-Pair-Id=***"),
    ("https://x/y?Signature=hunter2/of/hunter2%3D&part=1", "https://x/y?Signature=***&part=1"),
    ("https://x/y#access_token=hunter2", "https://x/y#access_token=***"),
    ("https://x/token=hunter2/y;sig=hunter2/z", "https://x/token=***/y;sig=***/z"),
    ("https://x/api/token/hunter2/net.pdparams", "https://x/api/token/***/net.pdparams"),
    ("s3://bucket/token=hunter2/y", "s3://bucket/token=***/y"),
    ("https://x/s/hunter2Yk3x0Qm9Zr7Lw2Vb8/net?d=hunter2Yk3x0Qm9Zr7Lw2Vb8", "https://x/s/***/net?d=***"),
    ("simplecache::https://me:hunter2@x/y", "simplecache::https://***@x/y"),
    ("a ftp://me:hunter2@one/x and ftp://me:hunter2@two/x", "a ftp://***@one/x and ftp://***@two/x"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_a_secret_goes_and_the_rest_stays(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://models/defects",
        "registry://defects@production",
        "registry://defects@3?root=s3://models/registry",
        "file:///home/me@work/x",
        "https://host/a@b?part=ema",
        "me@example.com: key=3, token=4",
        "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/legendary_models/ResNet50_vd_ssld_pretrained.pdparams",
        "https://huggingface.co/user/model/resolve/0123456789abcdef0123456789abcdef01234567/net.safetensors",
        "https://host/runs/step-00001200-epoch-0003/manifest.json?author=me&version=12",
        "s3://models/Yk3x0Qm9Zr7Lw2Vb8Tn4",
        "/home/me/keys/token=3, no URL at all",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_values_are_gone_through() -> None:
    url = "ftp://me:hunter2@host"
    assert redacted_values({"a": [url, 1], "b": (url,), "c": None}) == {
        "a": ["ftp://***@host", 1],
        "b": ("ftp://***@host",),
        "c": None,
    }


def test_errors_and_logs_show_none(caplog: pytest.LogCaptureFixture) -> None:
    url = "https://me:hunter2@host/x"
    error = SourceError(f"{url} is not there", where=url, received=url, expected=url, remedy=url)
    logging.getLogger("paddle_warm_callbacks").warning("copying %s failed: %s", url, OSError(url))
    for text in (
        str(error),
        error.what,
        error.where,
        error.received,
        error.expected,
        error.remedy,
        caplog.text,
    ):
        assert "hunter2" not in text
        assert "***@host" in text


def test_a_cause_that_would_tell_is_not_shown() -> None:
    assert cause(OSError("https://me:hunter2@host")) is None
    harmless = OSError("https://host")
    assert cause(harmless) is harmless
