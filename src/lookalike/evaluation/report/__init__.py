"""Reports of an evaluation or a training run: one self-contained page and one JSON document.

The page needs the extra “report”, whose packages are imported when a page is made.
"""

from lookalike.evaluation.report.illustrations import Illustrations, Neighbours, illustrate
from lookalike.evaluation.report.page import default_folder, render, require, write

__all__ = ["Illustrations", "Neighbours", "default_folder", "illustrate", "render", "require", "write"]
