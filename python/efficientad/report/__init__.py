"""The report of an evaluation: one HTML page that needs no network and no other file."""

from efficientad.report.page import write_report

__all__ = ["write_report"]
