"""Reports: an evaluation, or a training run, as one self-contained page and one JSON document.

Needs the extra “report”; nothing of it is imported before a report is made.
"""

from lookalike.evaluation.report.building import illustrate, measure, require
from lookalike.evaluation.report.contents import About, Histogram, KeyFigure, Neighbours, Report
from lookalike.evaluation.report.embedding_map import Map
from lookalike.evaluation.report.pictures import Picture
from lookalike.evaluation.report.writing import render, write

__all__ = [
    "About",
    "Histogram",
    "KeyFigure",
    "Map",
    "Neighbours",
    "Picture",
    "Report",
    "illustrate",
    "measure",
    "render",
    "require",
    "write",
]
