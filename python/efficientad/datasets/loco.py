"""The layout of MVTec LOCO AD (Bergmann et al., Beyond Dents and Scratches, IJCV 2022).

That of MVTec AD with validation images, the two kinds of defects below, and one mask for each
annotated defect: ground_truth/KIND/NAME/NUMBER.png. A mask's pixels are 0 or the value that
defects_config.json lists, with the defect's saturation.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from efficientad.datasets import mvtec
from efficientad.datasets.layout import LabelledSet, Saturation

DEFECTS = "defects_config.json"
LOGICAL, STRUCTURAL = KINDS = ("logical_anomalies", "structural_anomalies")


def find_test_set(root: Path) -> LabelledSet:
    """The images in test, with their masks, and the saturations if there is a list of them."""
    file = root / DEFECTS
    return replace(
        mvtec.find_test_set(root),
        format="mvtec_loco",
        saturations=_read_saturations(file) if file.is_file() else None,
    )


def _read_saturations(file: Path) -> dict[int, Saturation]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {int(entry["pixel_value"]): _saturation(entry) for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{file} is not a list of defects with pixel_value, saturation_threshold and "
            f"relative_saturation: {type(error).__name__}: {error}"
        ) from error


def _saturation(entry: dict[str, Any]) -> Saturation:
    threshold, relative = float(entry["saturation_threshold"]), bool(entry["relative_saturation"])
    if not threshold > 0 or (relative and threshold > 1):
        raise ValueError(f"saturation_threshold is {threshold}")
    return Saturation(threshold, relative)
