"""The first signal is remembered, the second one ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from throughtime.training.signals import StopRequest

# Children are forked, so that torch is imported once.
TWO_SIGNALS = """
import os, signal, sys
from throughtime.training.signals import StopRequest
for pair in sys.argv[1:]:
    first, second = map(int, pair.split("-"))
    child = os.fork()
    if child == 0:
        try:
            with StopRequest() as stop:
                signal.raise_signal(first)
                print(stop.signal_number, flush=True)
                signal.raise_signal(second)
        finally:
            print("still here", flush=True)
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_a_second_signal_ends_the_process_at_once() -> None:
    pairs = [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ]
    arguments = [f"{int(first)}-{int(second)}" for first, second in pairs]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", TWO_SIGNALS]  # of forks beside threads
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)
    expected = "".join(f"{int(first)}\n{128 + second}\n" for first, second in pairs)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_the_handlers_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
