"""Doing several experiments at once, each in a process of its own, and going on where one fails."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from efficientad.interruption import Interruption
from efficientad.reproduction.experiment import Experiment
from efficientad_ext.architecture import Size

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.5

# Generous estimates of what a training at 256x256 takes on a GPU; larger inputs take more.
_BYTES_PER_TRAINING: dict[Size, int] = {"small": 3 * 2**30, "medium": 6 * 2**30}
_CORES_PER_TRAINING = 2


@dataclass(frozen=True)
class Failure:
    """An experiment that came to no result, and why."""

    experiment: Experiment
    reason: str


def default_jobs(device: str, sizes: Sequence[Size], input_size: tuple[int, int]) -> int:
    """How many trainings have room on the device at once.

    On the CPU 1, whose convolutions use all cores. On a GPU as many as fit its free memory, by
    estimate, but no more than one for two cores.
    """
    if torch.device(device).type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    growth = max(1.0, input_size[0] * input_size[1] / 256**2)
    needed = max(_BYTES_PER_TRAINING[size] for size in sizes) * growth
    return max(1, min(int(free / needed), (os.cpu_count() or 1) // _CORES_PER_TRAINING))


def run_experiments(experiments: Sequence[Experiment], jobs: int) -> tuple[Failure, ...]:
    """Runs all of them, in order, so many at a time.

    With one job they run in this process. With several, each runs in a process of its own, with
    its share of the cores, and writes what it has to say into its log file. When a signal asks this
    process to stop (SIGINT, SIGTERM, SIGHUP), or when it is killed, they save their checkpoints and
    end.
    """
    try:
        return _Processes(experiments, jobs).run() if jobs > 1 else _one_by_one(experiments)
    except (KeyboardInterrupt, SystemExit):
        logger.warning("stopped; the same command goes on from here")
        raise


def _one_by_one(experiments: Sequence[Experiment]) -> tuple[Failure, ...]:
    failures = []
    for number, experiment in enumerate(experiments, start=1):
        logger.info("%s: %d of %d", experiment.title, number, len(experiments))
        try:
            experiment.run()
        except Exception as error:
            failures.append(_failure(experiment, _reason(error)))
    return tuple(failures)


class _Processes:
    """The running processes, and those to come."""

    def __init__(self, experiments: Sequence[Experiment], jobs: int) -> None:
        self._waiting = list(experiments)
        self._jobs = jobs
        self._threads = max(1, (os.cpu_count() or 1) // jobs)
        self._running: dict[int, tuple[BaseProcess, Connection, Experiment]] = {}
        self._failures: list[Failure] = []

    def run(self) -> tuple[Failure, ...]:
        with Interruption() as interruption:
            try:
                while self._waiting or self._running:
                    while self._waiting and len(self._running) < self._jobs:
                        self._start(self._waiting.pop(0))
                    for ended in wait(list(self._running), _SECONDS_BETWEEN_LOOKS):
                        assert isinstance(ended, int)
                        self._end(ended)
                    if interruption.requested:
                        interruption.act()
            finally:
                for process, _, _ in self._running.values():
                    process.terminate()
                for process, _, _ in self._running.values():
                    process.join()
        return tuple(self._failures)

    def _start(self, experiment: Experiment) -> None:
        context = get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run_apart, args=(experiment, self._threads, sender))
        process.start()
        sender.close()
        logger.info("%s: begun; its log is %s", experiment.title, experiment.log_file)
        self._running[process.sentinel] = (process, receiver, experiment)

    def _end(self, sentinel: int) -> None:
        process, receiver, experiment = self._running.pop(sentinel)
        process.join()
        if process.exitcode == 0:
            logger.info("%s: done", experiment.title)
        else:
            try:
                reason = receiver.recv()
            except EOFError:
                reason = f"its process ended with exit status {process.exitcode}"
            self._failures.append(_failure(experiment, reason))
        receiver.close()


def _run_apart(experiment: Experiment, threads: int, sender: Connection) -> None:
    """What a process does."""
    # Away from the terminal: Ctrl-C reaches the parent alone, which asks for an end once.
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    experiment.log_file.parent.mkdir(parents=True, exist_ok=True)
    log = experiment.log_file.open("a", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log.fileno(), stream.fileno())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s: %(message)s")
    torch.set_num_threads(threads)
    try:
        experiment.run()
    except Exception as error:
        logger.exception("%s failed", experiment.title)
        sender.send(_reason(error))
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    """Whoever runs the command again must find nobody at work on its files."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _failure(experiment: Experiment, reason: str) -> Failure:
    logger.error("%s failed: %s", experiment.title, reason)
    return Failure(experiment, reason)
