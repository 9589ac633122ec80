"""How long a detection takes: one image at a time for latency, batches of 16 for throughput.

That is what the paper reports. A pass goes from images of the network's input size, as bytes in the
host's memory, to maps and scores there; copies to and from the device are part of it. Passes for
warming up come first.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from efficientad.progress import with_progress
from efficientad_ext.detector import Detector, Precision
from efficientad_ext.model_file import Model

THROUGHPUT_BATCH = 16

PASSES_ON_A_GPU = 1000
PASSES_ON_A_CPU = 20


@dataclass(frozen=True)
class Milliseconds:
    """How long passes took: their mean, and the times that 50, 90 and 99 % of them did not exceed.

    Percentiles are times that were measured, the nearest rank above.
    """

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Timing:
    """What was measured, and on what.

    Attributes:
        device: the name of the GPU or of the processor.
        threads: of torch on the CPU.
        precision: what the networks compute in.
        torch: its version.
        size: of the model, "small" or "medium".
        input_size: (height, width) of the images.
        passes: measured ones, after as many to warm up.
        latency: of one image.
        batch: of 16 images.
    """

    device: str
    threads: int
    precision: str
    torch: str
    size: str
    input_size: tuple[int, int]
    passes: int
    latency: Milliseconds
    batch: Milliseconds

    @property
    def images_per_second(self) -> float:
        """The throughput in batches of 16."""
        return 1000 * THROUGHPUT_BATCH / self.batch.mean

    def record(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            **asdict(self),
            "input_size": list(self.input_size),
            "images_per_second": self.images_per_second,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Timing:
        """What ``record`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        height, width = record["input_size"]
        parts = {name: record[name] for name in cls.__dataclass_fields__}
        parts["input_size"] = (height, width)
        for name in ("latency", "batch"):
            parts[name] = Milliseconds(**parts[name])
        return cls(**parts)

    def lines(self) -> list[str]:
        """Everything in words, one thing to a line."""
        height, width = self.input_size
        lines = [
            f"device: {self.device}, {self.threads} CPU threads",
            f"network: EfficientAD, {self.size}, {height}x{width}, {self.precision}, "
            f"torch {self.torch}",
        ]
        for title, times in (("batch 1", self.latency), (f"batch {THROUGHPUT_BATCH}", self.batch)):
            lines.append(
                f"{title}: mean {times.mean:.3f} ms, p50 {times.p50:.3f}, p90 {times.p90:.3f}, "
                f"p99 {times.p99:.3f} ({self.passes} passes)"
            )
        return [*lines, f"throughput: {self.images_per_second:.1f} images/s"]


def measure_times(
    model: Model,
    device: str | torch.device = "cpu",
    *,
    precision: Precision = "auto",
    passes: int | None = None,
) -> Timing:
    """Times detections of random images.

    Args:
        model: what to time.
        device: where.
        precision: see ``Detector``.
        passes: how many passes to measure, after as many to warm up; by default 1000 on a GPU and
            20 on a CPU.

    Raises:
        ValueError: if ``passes`` is not positive, or what ``Detector`` raises.
        RuntimeError: what ``Detector`` raises.
    """
    if passes is None:
        passes = PASSES_ON_A_GPU if torch.device(device).type == "cuda" else PASSES_ON_A_CPU
    if passes < 1:
        raise ValueError(f"passes is {passes}; expected at least 1")
    detector = Detector(model, device, precision=precision, batch_size=THROUGHPUT_BATCH)
    return Timing(
        device=device_name(detector.device),
        threads=torch.get_num_threads(),
        precision=detector.precision,
        torch=torch.__version__,
        size=model.size,
        input_size=model.input_size,
        passes=passes,
        latency=_measure(detector, 1, passes),
        batch=_measure(detector, THROUGHPUT_BATCH, passes),
    )


def device_name(device: torch.device) -> str:
    """What the manufacturer calls it, as far as the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _measure(detector: Detector, batch: int, passes: int) -> Milliseconds:
    images = np.random.default_rng(0).integers(
        0, 256, (batch, *detector.input_size, 3), dtype=np.uint8
    )
    times = []
    for number in with_progress(f"batch {batch}", "pass", range(2 * passes)):
        begin = time.perf_counter()
        detection = detector(images)
        # These wait for the device.
        detection.map.cpu()
        detection.score.cpu()
        if number >= passes:
            times.append(1000 * (time.perf_counter() - begin))
    return _summary(times)


def _summary(times: Sequence[float]) -> Milliseconds:
    ordered = sorted(times)

    def percentile(share: int) -> float:
        return ordered[-(-share * len(ordered) // 100) - 1]

    return Milliseconds(statistics.fmean(times), percentile(50), percentile(90), percentile(99))
