"""The loop of a run that takes hours: progress, checkpoints, and a stop at a safe point."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from efficientad.interruption import Interruption
from efficientad.memory import freed_memory_is_kept
from efficientad.progress import progress_bar

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
REPORT_EVERY = 10


def run_steps(
    title: str,
    first: int,
    last: int,
    items: Iterable[Item],
    step: Callable[[Item], None],
    describe: Callable[[], str],
    save: Callable[[], None],
    agree: Callable[[bool], bool] = bool,
    shown: bool = True,
) -> None:
    """Does a step with each of the items, and saves the state once a minute.

    When SIGINT, SIGTERM or SIGHUP arrives, the step is finished and saved, and then the signal
    acts. The last state is saved too.

    Args:
        title: what the progress bar is called.
        first: the number of steps done before.
        last: the number of steps done in the end.
        items: what the steps ``first`` to ``last`` - 1 work on.
        step: does one step.
        describe: a few words on the last step for the progress bar; raises RuntimeError where it
            must not be saved.
        save: writes the checkpoint.
        agree: whether to stop, given whether a signal has arrived; processes that work together
            find one answer here.
        shown: whether there is a progress bar.
    """
    bar = progress_bar(title, "step", last, first, shown)
    saved_at = time.monotonic()
    with Interruption() as interruption, freed_memory_is_kept(), bar:
        for done, item in enumerate(items, start=first + 1):
            step(item)
            bar.update()
            if done % REPORT_EVERY == 0 or done == last:
                bar.set_postfix_str(describe(), refresh=False)
            stop = agree(interruption.requested)
            due = time.monotonic() - saved_at >= CHECKPOINT_SECONDS
            if due or stop or done == last:
                describe()
                save()
                saved_at = time.monotonic()
            if stop:
                logger.warning("stopped after step %d of %d; continue with --resume", done, last)
                interruption.act()
