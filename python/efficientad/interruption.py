"""Stopping a long run at a safe point."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """Inside the ``with`` block, SIGINT, SIGTERM and SIGHUP are noted instead of acting at once.

    Those that are ignored, as SIGHUP under nohup, stay ignored. The run asks ``requested`` at safe
    points, brings its state to safety, and calls ``act``. A second signal acts at once. In a thread
    other than the main one, signals keep their usual effect.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self._received is not None

    def act(self) -> None:
        """Raises what the signal stands for: KeyboardInterrupt, or SystemExit(128 + its number)."""
        assert self._received is not None
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self._received)

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        repeated = self.requested
        self._received = signal.Signals(number)
        if repeated:
            self.act()
