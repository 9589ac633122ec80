"""Detectors used in a process, in its forked child and grandchild, and in the process again.

Usage: fork.py MODEL
"""

from __future__ import annotations

import os
import sys
import threading

import torch

from efficientad_ext import Detector
from efficientad_ext.engine import Engine
from efficientad_ext.model_file import load_model


def in_child(check) -> None:
    child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the child failed"


def main(path: str) -> None:
    model = load_model(path)
    image = torch.randint(0, 256, (*model.input_size, 3), dtype=torch.uint8)
    engines = [Engine(model, precision=name) for name in ("float32", "bfloat16")]
    detector = Detector(model)

    def results():
        return [engine(image[None]).score for engine in engines] + [detector(image).score]

    expected = results()
    # While one of the engines is at work in a thread that the child will not have.
    forked = threading.Event()
    at_work = threading.Event()

    def work() -> None:
        with engines[0]._execution.workspace():
            at_work.set()
            forked.wait()

    def check() -> None:
        assert all(map(torch.equal, results(), expected)), "other results"

    def check_in_child() -> None:
        check()
        in_child(check)

    thread = threading.Thread(target=work)
    thread.start()
    at_work.wait()
    in_child(check_in_child)
    forked.set()
    thread.join()
    check()
    in_child(check)
    check()


main(*sys.argv[1:])
