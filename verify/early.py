"""Answers Ctrl-C while NumPy and the like are being loaded; this module itself loads next to nothing.

An exception raised in the middle of an import may be lost there or turned into another one, so the process ends at
once. Nothing has been written by then.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def end_at_once(*_: object) -> NoReturn:
    """End this process, with one line on stderr."""
    print("verify: interrupted", file=sys.stderr, flush=True)
    os._exit(130)


def answer_ctrl_c() -> None:
    """From now on end at once on Ctrl-C, unless this process was started so as to ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)


def answer_ctrl_c_properly() -> None:
    """From now on let Ctrl-C be a ``KeyboardInterrupt`` again, after `answer_ctrl_c`."""
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
