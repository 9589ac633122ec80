"""Reproducing the papers' tables on whole collections.

``reproduce`` is for the main tables, ``ablate`` for those of the ablations. An `Experiment` is one
training with its calibrations and results; `processes` runs them.
"""

from efficientad.reproduction.ablations import TABLES
from efficientad.reproduction.collection import Category, find_categories
from efficientad.reproduction.run import Report, RunConfig, ablate, reproduce

__all__ = ["TABLES", "Category", "Report", "RunConfig", "ablate", "find_categories", "reproduce"]
