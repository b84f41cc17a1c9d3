"""The tables of docs/configuration.md are what the code says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from docs.settings_table import SLIPS, settings
from tests.conftest import HAS_PADDLE
from tests.docs.test_markdown_examples import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_table() -> None:
    assert "\n".join(settings()) in PAGE, "out of step: python docs/settings_table.py"


@pytest.mark.skipif(not HAS_PADDLE, reason="from_config builds networks")
def test_at_least_ten_wrong_yamls_are_told_what_the_page_says() -> None:
    assert len(SLIPS) >= 10
    script = ROOT / "docs" / "settings_table.py"
    printed = subprocess.run(
        [sys.executable, str(script), "--slips"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert printed in PAGE, "out of step: python docs/settings_table.py --slips"
    assert printed.count("\n") == len(SLIPS) + 2
