"""The report of an evaluation: one HTML page that needs no network and no other file."""

from efficientad.report.page import REPORT, write_report

__all__ = ["REPORT", "write_report"]
