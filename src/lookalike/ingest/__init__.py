"""Ingest: from image files to items with vectors in a store.

The steps are functions, and a runner owns the threads:

1. `plan`: what to add, from a folder, files or images in memory.
2. `read`: an entry's content, fitted to the encoder, unless its vector is known already.
3. `embed`: batches of images on their way through the encoder.
4. `write`: items and vectors into the store, in the order of the plan.
5. `run`: reads and embeds in one thread for each core, and writes every few seconds.

A file whose size and times did not change is not read. A content that is known, under this name or another one, is not
embedded. So a run that was killed continues where it stopped, and a folder that grew costs only what is new.
"""

from lookalike.ingest.paths import absolute_path, file_id
from lookalike.ingest.plan import Entry, Labels, Source, plan
from lookalike.ingest.run import Added, Failure, add
from lookalike.ingest.write import Keeper

__all__ = ["Added", "Entry", "Failure", "Keeper", "Labels", "Source", "absolute_path", "add", "file_id", "plan"]
