"""Detections on a CPU against what a user would pick instead, in one interleaved run.

    python benchmarks/cpu_engine.py [--sizes small medium] [--precisions float32 bfloat16 float16]
        [--batches 1 16] [--threads N] [--rounds N] [--frames N] [--with-compile]
        [--output FILE.json]

Same weights and the same images, bytes in, map and score out; medians of calls that take turns.
OpenVINO (the extra [benchmarks]) runs in its latency mode, or in its throughput mode for more than
one image. The error is that of the map against the networks in float64, relative to its norm; the
networks are untrained but for the teacher, whose weights come with the package. `--frames` adds the
way from a 1024x1024 camera frame in memory to the verdict, by as many calls. float16 is worth its
time where the processor multiplies it (AMX): elsewhere nobody gains from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from efficientad.networks import Networks, initial_networks
from efficientad.teacher import default_teacher
from efficientad.timing import device_name
from PIL import Image
from plain_detector import QUANTILES, PlainDetector

from efficientad_ext import Detector, build_config
from efficientad_ext.engine import Engine, EnginePrecision
from efficientad_ext.model_file import Model

SIZE = (256, 256)
FRAME = (1024, 1024, 3)
PRECISIONS: dict[str, tuple[EnginePrecision, torch.dtype, str]] = {
    "float32": ("float32", torch.float32, "f32"),
    "bfloat16": ("bfloat16", torch.bfloat16, "bf16"),
    "float16": ("float16", torch.float16, "f16"),
}

Detect = Callable[[np.ndarray], np.ndarray]
"""Maps (N, 1, 256, 256) of uint8 images (N, 256, 256, 3)."""


def networks_of(size: Any) -> Networks:
    return initial_networks(size, SIZE, default_teacher(size).weights, 0, torch.device("cpu"))


def model_of(size: Any) -> Model:
    return dataclasses.replace(networks_of(size).as_model(size, SIZE, {}), quantiles=QUANTILES)


def by_engine(size: Any, precision: EnginePrecision) -> Detect:
    engine = Engine(model_of(size), precision=precision, batch_size=1, features=True)
    return lambda images: engine(torch.from_numpy(images)).map.numpy()


def by_torch(size: Any, dtype: torch.dtype, compiled: bool = False) -> Detect:
    plain = PlainDetector(networks_of(size), SIZE, dtype)
    run = torch.compile(plain, mode="max-autotune") if compiled else plain

    @torch.inference_mode()
    def detect(images: np.ndarray) -> np.ndarray:
        map_, _ = run(torch.from_numpy(images))
        return map_.numpy()

    return detect


def openvino_model(size: Any, precision: str, threads: int, throughput: bool) -> Any:
    plain = PlainDetector(networks_of(size), SIZE, torch.float32)
    example = torch.zeros((1, *SIZE, 3), dtype=torch.uint8)
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    converted = openvino.convert_model(plain, example_input=example)
    return openvino.Core().compile_model(converted, "CPU", options)


def by_openvino(size: Any, precision: str, threads: int, throughput: bool) -> Detect:
    compiled = openvino_model(size, precision, threads, throughput)
    if not throughput:
        return lambda images: compiled(images)[0]
    queue = openvino.AsyncInferQueue(compiled)

    def detect(images: np.ndarray) -> np.ndarray:
        maps = np.empty((len(images), 1, *SIZE), np.float32)

        def keep(request: Any, index: int) -> None:
            maps[index] = request.get_output_tensor(0).data

        queue.set_callback(keep)
        for index in range(len(images)):
            queue.start_async(images[index : index + 1], index)
        queue.wait_all()
        return maps

    return detect


def contenders(size: Any, batch: int, arguments: argparse.Namespace) -> dict[str, Detect]:
    found: dict[str, Detect] = {}
    for name in arguments.precisions:
        ours, dtype, theirs = PRECISIONS[name]
        found[f"engine {name}"] = by_engine(size, ours)
        found[f"torch {name}"] = by_torch(size, dtype)
        found[f"OpenVINO {name}"] = by_openvino(size, theirs, arguments.threads, batch > 1)
        if arguments.with_compile:
            found[f"torch.compile {name}"] = by_torch(size, dtype, compiled=True)
    return found


def medians(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call, all of them in turn."""
    return {name: statistics.median(times) for name, times in in_turn(calls, rounds).items()}


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if number > 0:  # the first one warms up
                times[name].append(1000 * (time.perf_counter() - begin))
    return times


def measure(size: Any, batch: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    images = np.random.default_rng(0).integers(0, 256, (batch, *SIZE, 3), dtype=np.uint8)
    expected = by_torch(size, torch.float64)(images[:1])
    found = contenders(size, batch, arguments)
    milliseconds = medians(
        {name: lambda detect=detect: detect(images) for name, detect in found.items()},
        arguments.rounds,
    )
    return {
        name: {
            "milliseconds": milliseconds[name],
            "map error": float(
                np.linalg.norm(detect(images)[:1] - expected) / np.linalg.norm(expected)
            ),
        }
        for name, detect in found.items()
    }


def measure_frames(size: Any, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Percentiles of the time from a frame in memory to the verdict, in milliseconds."""
    frame = np.random.default_rng(0).integers(0, 256, FRAME, dtype=np.uint8)
    model = model_of(size)
    calls: dict[str, Callable[[], object]] = {}
    for name in arguments.precisions:
        ours, _, theirs = PRECISIONS[name]
        detector = Detector(model, precision=ours)
        compiled = openvino_model(size, theirs, arguments.threads, throughput=False)

        def by_pillow(compiled: Any = compiled) -> bool:
            resized = Image.fromarray(frame).resize(SIZE[::-1], Image.Resampling.BILINEAR)
            return bool(compiled(np.asarray(resized)[None])[1] > model.threshold)

        calls[f"detector {name}"] = lambda detector=detector: bool(detector(frame).verdict)
        calls[f"Pillow, OpenVINO {name}"] = by_pillow
    return {
        name: {
            "p50": statistics.median(times),
            "p99": float(np.percentile(times, 99, method="higher")),
        }
        for name, times in in_turn(calls, arguments.frames).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["small", "medium"])
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=["float32", "bfloat16"]
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--with-compile", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {
        "processor": device_name(torch.device("cpu")),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "openvino": openvino.__version__,
        "build": build_config(),
    }
    for size in arguments.sizes:
        for batch in arguments.batches:
            figures = measure(size, batch, arguments)
            results[f"{size} batch {batch}"] = figures
            print(f"{size}, batch {batch}", flush=True)
            for name, figure in figures.items():
                precision = name.rpartition(" ")[2]
                share = figure["milliseconds"] / figures[f"OpenVINO {precision}"]["milliseconds"]
                print(
                    f"  {name:24} {figure['milliseconds']:8.1f} ms, {share:.2f} of OpenVINO's, "
                    f"map error {figure['map error']:.1e}",
                    flush=True,
                )
        if arguments.frames:
            frames = measure_frames(size, arguments)
            results[f"{size} from a frame"] = frames
            for name, figure in frames.items():
                print(
                    f"  {name:24} p50 {figure['p50']:.1f} ms, p99 {figure['p99']:.1f}", flush=True
                )
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
