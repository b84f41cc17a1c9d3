"""Run training scripts as processes that do not each pay for importing Paddle: import once, fork for every job.

Nothing of Paddle has run at the fork, so that a child is what a fresh interpreter is after its imports: the first
generated name, the first draw and the first allocation are its own. Reads a line of JSON a request (a list of jobs, run
side by side), answers with a line of JSON (a list of results).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

from tests.exact_resume import training_script, users_scripts

MODULES = {"training_script": training_script.main, "users_scripts": users_scripts.main}


def start(job: dict[str, Any]) -> int:
    """Fork a child that runs the job in a session of its own; return its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        MODULES[job["module"]](job["arguments"])
        status = 0
    except BaseException:  # the traceback is the job's output
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(child: int, deadline: float) -> dict[str, Any]:
    """Wait for a child, kill it at the deadline, and kill whatever it left behind."""
    timed_out = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            timed_out = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # DataLoader workers of a killed run
    return {"returncode": os.waitstatus_to_exitcode(status), "timed_out": timed_out}


def serve() -> None:
    """Answer requests until one with no jobs, or the end of standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a job prints must not be read as an answer
    print("ready", file=answers, flush=True)
    for request in sys.stdin:
        jobs = json.loads(request)
        if not jobs:
            break
        children = [(start(job), time.monotonic() + job["timeout"]) for job in jobs]
        print(json.dumps([finish(*child) for child in children]), file=answers, flush=True)


if __name__ == "__main__":
    serve()
