"""Means over categories, collections and seeds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from efficientad.reproduction.collection import COLLECTIONS, OTHER


@dataclass(frozen=True)
class Spread:
    """A figure in per cent over the seeds.

    Attributes:
        mean: over the seeds.
        deviation: standard deviation over the seeds, with divisor N - 1; None for a single seed.
    """

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        deviation = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        return f"{self.mean:.2f}{deviation}"


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and deviation of figures in [0, 1], as per cent; None where there is none."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation)


_OneSeed: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Results by collection and category."""


@dataclass
class Results:
    """The results of one row of a table: by seed, collection and category."""

    found: dict[int, dict[str, dict[str, Mapping[str, Any]]]] = field(default_factory=dict)

    def add(self, seed: int, result: Mapping[str, Any]) -> None:
        """Takes in the content of a result file."""
        collections = self.found.setdefault(seed, defaultdict(dict))
        collections[result["collection"]][result["category"]] = result

    @property
    def collections(self) -> tuple[str, ...]:
        """Those with a result, the published ones first."""
        present = {name for collections in self.found.values() for name in collections}
        return tuple(name for name in (*COLLECTIONS, OTHER) if name in present)

    def categories(self, collection: str) -> tuple[str, ...]:
        """The collection's categories with a result, sorted."""
        names = {name for one in self.found.values() for name in one.get(collection, ())}
        return tuple(sorted(names))

    def complete_categories(self, collection: str) -> tuple[str, ...]:
        """Those with a result of every seed: means over seeds are of the same categories."""
        return tuple(
            name
            for name in self.categories(collection)
            if all(name in one.get(collection, ()) for one in self.found.values())
        )

    def of_category(self, figure: str, collection: str, category: str) -> Spread | None:
        """A figure of a category over the seeds."""
        return spread(
            collections.get(collection, {}).get(category, {}).get(figure)
            for collections in self.found.values()
        )

    def of_collection(self, figure: str, collection: str) -> Spread | None:
        """A figure's mean over a collection's complete categories, over the seeds."""
        return self._over_seeds(lambda one: self._mean_of(figure, collection, one))

    def overall(self, figure: str) -> Spread | None:
        """The mean of the collections' means, over the seeds, as the paper's Table 1 has it."""
        return self._over_seeds(
            lambda one: _mean([self._mean_of(figure, name, one) for name in self.collections])
        )

    def _over_seeds(self, figure: Callable[[_OneSeed], float | None]) -> Spread | None:
        return spread(figure(collections) for collections in self.found.values())

    def _mean_of(self, figure: str, collection: str, one: _OneSeed) -> float | None:
        names = self.complete_categories(collection)
        return _mean([one[collection][name][figure] for name in names])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
