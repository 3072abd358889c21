"""Ingest of images: from files to items with vectors in a store.

The steps are functions, and a runner owns the threads:

1. `plan` lists the images to add, from a folder, files or images in memory.
2. `read` reads an image and fits it to the encoder, unless the vector of its content is known.
3. `embed` sends batches of images through the encoder.
4. `write` writes items and vectors into the store, in the order of the plan.
5. `run` reads and embeds in one thread for each core, and writes every few seconds.

It does not read a file whose size and times did not change, and does not embed a content that is known under any name. So
a killed run continues at its last write, and a folder that grew takes only the time of its new files.
"""

from lookalike.ingest.gone import GoneFolder, split_gone
from lookalike.ingest.lookup import find_items
from lookalike.ingest.paths import absolute_path, file_id, is_missing, signature
from lookalike.ingest.plan import Entry, Labels, Plan, Source, plan, resolve_links
from lookalike.ingest.relocate import Relocation, is_windows_path, plan_relocation, relocator
from lookalike.ingest.run import Added, Failure, add

__all__ = [
    "Added",
    "Entry",
    "Failure",
    "GoneFolder",
    "Labels",
    "Plan",
    "Relocation",
    "Source",
    "absolute_path",
    "add",
    "file_id",
    "find_items",
    "is_missing",
    "is_windows_path",
    "plan",
    "plan_relocation",
    "relocator",
    "resolve_links",
    "signature",
    "split_gone",
]
