"""The papers' tables as text, with what was found here beside what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientad.reproduction.collection import COLLECTIONS, MEMBER_COUNTS
from efficientad.reproduction.published import (
    EFFICIENTAD,
    EFFICIENTAD_S_POOLED,
    PUAD_MEAN,
    PUAD_S,
)
from efficientad.reproduction.results import Results
from efficientad.timing import Timing
from efficientad_ext.architecture import Size

LETTERS: Mapping[Size, str] = {"small": "S", "medium": "M"}


def format_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table as lines: the first column to the left, the others to the right; None is a dash."""
    cells = [list(columns), *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [title]
    for row in cells:
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return lines


def reproduction_tables(
    results: Mapping[Size, Results], timings: Mapping[Size, Timing]
) -> list[list[str]]:
    """The categories' figures and the papers' tables, of what there are results of."""
    tables = [_categories(size, found) for size, found in results.items() if found.found]
    tables += [_table_1(results, timings), _table_2(results)]
    if any("MVTec LOCO" in found.collections for found in results.values()):
        tables.append(_puad(results))
    return tables


def _categories(size: Size, results: Results) -> list[str]:
    rows = [
        [
            category,
            collection,
            *(
                results.of_category(figure, collection, category)
                for figure in ("detection", "localisation", "puad")
            ),
        ]
        for collection in results.collections
        for category in results.categories(collection)
    ]
    letter = LETTERS[size]
    columns = ["category", "collection", "AU-ROC", "AU-PRO", f"PUAD-{letter} AU-ROC"]
    return format_table(f"EfficientAD-{letter}, {_seeds(results)}", columns, rows)


def _seeds(results: Results) -> str:
    count = len(results.found)
    return "1 seed" if count == 1 else f"mean ± deviation of {count} seeds"


def _table_1(results: Mapping[Size, Results], timings: Mapping[Size, Timing]) -> list[str]:
    rows: list[list[object]] = []
    for size, found in results.items():
        published = EFFICIENTAD[size]
        timing = timings.get(size)
        rows.append(
            [
                f"EfficientAD-{LETTERS[size]}",
                found.overall("detection"),
                published.detection,
                found.overall("localisation"),
                published.localisation,
                timing and f"{timing.latency.mean:.2f}",
                published.milliseconds,
                timing and f"{timing.images_per_second:.0f}",
                published.images_per_second,
            ]
        )
    columns = ["", "AU-ROC", "published", "AU-PRO", "published", "ms", "published", "images/s",
               "published"]  # fmt: skip
    devices = sorted({timing.device for timing in timings.values()})
    where = f"; times on {', '.join(devices)}, published ones on an RTX A6000" if devices else ""
    return format_table(
        f"Table 1: means of the collections' means ({_coverage(results)}){where}", columns, rows
    )


def _table_2(results: Mapping[Size, Results]) -> list[str]:
    present = [name for found in results.values() for name in found.collections]
    names = list(dict.fromkeys([*COLLECTIONS, *present]))
    rows: list[list[object]] = []
    for size, found in results.items():
        row: list[object] = [f"EfficientAD-{LETTERS[size]}"]
        for name in names:
            row += [found.of_collection("detection", name)]
            row += [EFFICIENTAD[size].by_collection[name]] if name in COLLECTIONS else []
        rows.append([*row, found.overall("detection"), EFFICIENTAD[size].detection])
    columns = [""]
    for name in names:
        columns += [name, "published"] if name in COLLECTIONS else [name]
    title = f"Table 2: image AU-ROC by collection ({_coverage(results)})"
    return format_table(title, [*columns, "mean", "published"], rows)


def _puad(results: Mapping[Size, Results]) -> list[str]:
    loco = "MVTec LOCO"
    columns = ["category"]
    for size in results:
        letter = LETTERS[size]
        columns += [f"EfficientAD-{letter}", "published", f"PUAD-{letter}", "published"]
    names = sorted({name for found in results.values() for name in found.categories(loco)})
    rows: list[list[object]] = []
    for name in names:
        row: list[object] = [name]
        for size, found in results.items():
            small = size == "small"
            row += [found.of_category("detection_pooled", loco, name)]
            row += [EFFICIENTAD_S_POOLED.get(name) if small else None]
            row += [found.of_category("puad", loco, name), PUAD_S.get(name) if small else None]
        rows.append(row)
    mean: list[object] = ["mean"]
    for size, found in results.items():
        mean += [found.of_collection("detection_pooled", loco)]
        mean += [EFFICIENTAD_S_POOLED["mean"] if size == "small" else None]
        mean += [found.of_collection("puad", loco), PUAD_MEAN[size]]
    title = "PUAD on MVTec LOCO: image AU-ROC, logical and structural anomalies pooled"
    return format_table(title, columns, [*rows, mean])


def _coverage(results: Mapping[Size, Results]) -> str:
    """How much of each collection there is, of every seed."""
    counts: dict[str, int] = {}
    for found in results.values():
        for name in found.collections:
            counts[name] = max(counts.get(name, 0), len(found.complete_categories(name)))
    parts = [
        f"{name}: {count} of {MEMBER_COUNTS[name]}" if name in MEMBER_COUNTS else f"{name}: {count}"
        for name, count in counts.items()
    ]
    return ", ".join(parts) or "no results"
