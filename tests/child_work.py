"""Work for child processes of the tests, in a module that is quick to import."""

from __future__ import annotations

import os
import signal
import time

from biopercept.errors import TrainingError
from biopercept.parallel import Work


def _open(request: int) -> list[int]:
    return [request]


def _work(context: list[int], job: str) -> int:
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "not finite":
        raise TrainingError("the loss is not finite")
    if job == "hang":
        time.sleep(600)
    context.append(1)  # a context is made once in each process, and kept
    return int(job) * context[0]


def _eat(context: None, n_bytes: int) -> int:
    return len(bytearray(n_bytes))


WORK = Work(_work, _open, 10)
EATING: Work[None, None, int, int] = Work(_eat, None, None)
