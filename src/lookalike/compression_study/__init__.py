"""The study of compact codes: methods × sizes on labelled embeddings, as R4 compared them.

A study goes through these files: `reading` reads a collection or arrays, `data` makes folds of them, `methods` names the
codecs and their sizes, `measuring` fits a codec in three folds and measures it, `study` runs the cells of a study and
resumes it, `tables`, `figures` and `page` write the results.
"""

from lookalike.compression_study.data import StudyData
from lookalike.compression_study.measuring import Cell, Result
from lookalike.compression_study.methods import EXTRAS, METHODS, parse_methods
from lookalike.compression_study.page import write
from lookalike.compression_study.reading import read
from lookalike.compression_study.study import run

__all__ = ["EXTRAS", "METHODS", "Cell", "Result", "StudyData", "parse_methods", "read", "run", "write"]
