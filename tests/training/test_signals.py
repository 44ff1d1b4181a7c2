"""The first signal is remembered, the second one ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from throughtime.training.signals import StopRequest

TWO_SIGNALS = """
import signal, sys
from throughtime.training.signals import StopRequest
with StopRequest() as stop:
    signal.raise_signal(int(sys.argv[1]))
    print(stop.signal_number, flush=True)
    try:
        signal.raise_signal(int(sys.argv[2]))
    finally:
        print("still here", flush=True)
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)],
)
def test_a_second_signal_ends_the_process_at_once(first: signal.Signals, second: signal.Signals) -> None:
    arguments = [sys.executable, "-c", TWO_SIGNALS, str(int(first)), str(int(second))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (128 + second, f"{int(first)}\n", "")


def test_the_handlers_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
