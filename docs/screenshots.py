"""Make the picture in README: the recipe, killed twice and run again, as VisualDL shows it.

``python docs/screenshots.py`` trains it anew, in minutes; needs Chromium and its driver on the machine, and the
package's ``browser`` extra.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import urlencode

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "resnet50_head_swap" / "train.py"
IMAGES = Path(__file__).with_name("images")
_SECONDS = 60.0
# Nothing that looks for the internet.
_CHROMIUM = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def train_with_kills(output: Path, *arguments: str, kills: int = 2, timeout: float = 3600.0) -> None:
    """Run the recipe, send it SIGKILL after each of the new model's first ``kills`` epochs, and run it to its end.

    Raises:
        RuntimeError: It ended by itself before it was killed, or failed.
        subprocess.TimeoutExpired: It took longer than ``timeout`` seconds.
    """
    command = [sys.executable, str(RECIPE), f"output={output}", *arguments]
    deadline = time.monotonic() + timeout
    for epoch in range(1, kills + 1):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            # Its name comes with the commit; a little later, so that the logs are ahead of it.
            while not list((output / "new" / "checkpoints").glob(f"*-epoch-{epoch:04d}/manifest.json")):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise RuntimeError(f"the recipe did not come to epoch {epoch}: {process.returncode}")
                time.sleep(0.05)
            time.sleep(1.0)
            if process.poll() is not None:
                raise RuntimeError(f"the recipe ended before it could be killed: {process.returncode}")
            process.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=timeout)


@contextmanager
def served(log_dir: Path) -> Iterator[str]:
    """Yield the address of a VisualDL server that shows ``log_dir``, its runs named as below it."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = shutil.which("visualdl", path=str(Path(sys.executable).parent))
    assert program is not None, "pip install 'paddle-warm-callbacks[visualdl]'"
    options = ["--host", "127.0.0.1", "--port", str(port), "--language", "en", "--disable-telemetry"]
    with subprocess.Popen(
        [program, "--logdir", log_dir.name, *options],
        cwd=log_dir.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            address = f"http://127.0.0.1:{port}/app"
            _wait_for(address)
            yield address
        finally:
            server.terminate()


def scalars(address: str, run: str, tag: str) -> list[tuple[int, float]]:
    """Return a curve's points, (step, value), as the server gives them to its page."""
    query = urlencode({"run": run, "tag": tag})
    with urllib.request.urlopen(f"{address}/api/scalar/list?{query}", timeout=_SECONDS) as answer:
        return [(int(step), float(value)) for _, step, value in json.load(answer)["data"]]


@contextmanager
def browser(width: int = 1280, height: int = 1110) -> Iterator[Any]:
    """Yield a headless Chromium of the machine, as a Selenium driver."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (*_CHROMIUM, f"--window-size={width},{height}"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def show_scalars(driver: Any, address: str, tags: str) -> list[Any]:
    """Show the curves whose tags match the regular expression, unsmoothed.

    Returns:
        The canvases, drawn.
    """
    driver.get(f"{address}/scalar")
    # The page draws its parts anew while it loads, and one that was found is then of no use.
    wait = WebDriverWait(driver, _SECONDS, ignored_exceptions=[StaleElementReferenceException])
    wait.until(lambda d: _typed(d, "input[value^='0']", "0", Keys.ENTER))
    wait.until(lambda d: _typed(d, "input[placeholder='Search tags in RegExp']", tags))
    wait.until(lambda d: "Search Result" in d.find_element(By.TAG_NAME, "body").text)
    wait.until(lambda d: d.find_elements(By.TAG_NAME, "canvas"))
    time.sleep(3.0)  # the curves grow
    return list(driver.find_elements(By.TAG_NAME, "canvas"))


def _typed(driver: Any, selector: str, *keys: str) -> bool:
    """Type over what stands in a field, as soon as it is there; return whether it was."""
    found = driver.find_elements(By.CSS_SELECTOR, selector)
    if found:
        found[0].send_keys(Keys.CONTROL, "a")
        found[0].send_keys(*keys)
    return bool(found)


def main() -> None:
    """Write docs/images/visualdl.png."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "head_swap"
        train_with_kills(output)
        with served(output / "vdl") as address, browser() as driver:
            show_scalars(driver, address, "train/loss|eval/acc|lr/all|trainable_share")
            driver.save_screenshot(str(IMAGES / "visualdl.png"))


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/api/runs", timeout=_SECONDS):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main()
