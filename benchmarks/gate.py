"""Expected ratios, and what to say of a measured one.

`expected.json` holds, for each processor and comparison, the ratio (time of what a user would pick
instead, divided by ours) that was measured when the file was last written, the margin by which a
run may differ, and for some comparisons a floor: the ratio that the project promises, whatever was
measured last. A processor that is not in the file is held to the floors alone: what another one
shows says little about it.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

EXPECTED = Path(__file__).with_name("expected.json")

# Shared machines are noisy; ratios of interleaved medians repeat to about a tenth.
DEFAULT_MARGIN = 0.25

UPDATE_COMMAND = "pytest benchmarks --update-expected"


@dataclass(frozen=True)
class Expectation:
    """What a comparison is expected to show."""

    ratio: float
    margin: float = DEFAULT_MARGIN
    floor: float | None = None

    @property
    def lowest(self) -> float:
        lowest = self.ratio * (1 - self.margin)
        return lowest if self.floor is None else max(lowest, self.floor)

    @property
    def highest(self) -> float:
        return self.ratio / (1 - self.margin)


Expectations = dict[str, dict[str, Expectation]]

_CPU_INFO = Path("/proc/cpuinfo")


def processor(cpu_info: Path = _CPU_INFO) -> str:
    """The CPU's vendor, family and model; where the system does not tell, its architecture."""
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    if not {"vendor_id", "cpu family", "model"} <= told.keys():
        return platform.machine()
    return f"{told['vendor_id']} family {told['cpu family']} model {told['model']}"


def of_processor(expectations: Expectations, name: str) -> dict[str, Expectation]:
    """The expectations of a processor: of the longest key with which its name begins."""
    keys = [key for key in expectations if f"{name} ".startswith(f"{key} ")]
    return expectations[max(keys, key=len)] if keys else {}


def load(path: Path = EXPECTED) -> Expectations:
    """The expectations by processor and name."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    return {
        device: {name: Expectation(**entry) for name, entry in entries.items()}
        for device, entries in stored.items()
    }


def save(expectations: Expectations, path: Path = EXPECTED) -> None:
    """Write the expectations, sorted, so that a diff shows what changed."""
    stored = {
        device: {
            name: {key: value for key, value in asdict(entry).items() if value is not None}
            for name, entry in sorted(entries.items())
        }
        for device, entries in sorted(expectations.items())
    }
    path.write_text(json.dumps(stored, indent=2) + "\n")


def failure(name: str, ratio: float, expectation: Expectation) -> str | None:
    """What is wrong with a measured ratio, if it is too low."""
    if ratio >= expectation.lowest:
        return None
    promise = f", promised at least {expectation.floor:g}" if expectation.floor else ""
    return (
        f"{name} is {ratio:.2f} times as fast as its comparison, expected {expectation.ratio:.2f} "
        f"(at least {expectation.lowest:.2f}){promise}"
    )


def remark(name: str, ratio: float, expectation: Expectation | None) -> str | None:
    """What a measured ratio that is not too low asks for, if anything."""
    if expectation is None:
        return (
            f"{name}: {ratio:.2f} and no expectation yet; "
            f"run `{UPDATE_COMMAND}` and commit the file"
        )
    if ratio > expectation.highest:
        return (
            f"{name}: {ratio:.2f}, expected {expectation.ratio:.2f}, an unexplained win; "
            f"find out why, run `{UPDATE_COMMAND}` and commit the file"
        )
    return None
