"""Reports of an evaluation, a training run or measured codecs: self-contained pages, and JSON documents.

A page needs the extra “report”, whose packages are imported when a page is made.
"""

from lookalike.evaluation.report.codecs import CodecPage, CodecPoint, render_codecs, write_codecs
from lookalike.evaluation.report.illustrations import Illustrations, Neighbours, illustrate
from lookalike.evaluation.report.page import default_folder, render, require, write

__all__ = [
    "CodecPage",
    "CodecPoint",
    "Illustrations",
    "Neighbours",
    "default_folder",
    "illustrate",
    "render",
    "render_codecs",
    "require",
    "write",
    "write_codecs",
]
