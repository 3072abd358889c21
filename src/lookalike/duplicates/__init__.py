"""Duplicates: find, group, decide, move to a trash, and restore.

::

    groups = find_duplicates(shop)
    print(groups)
    move_to_trash(shop, groups, "shop-trash")
    restore("shop-trash", Collection.open)

`find_duplicates` only proposes which images to keep. `move_to_trash` moves the others and deletes no file, and `restore`
moves them back. The module `find` lists the steps of the search.
"""

from lookalike.duplicates import decisions
from lookalike.duplicates.find import FindOptions, find_duplicates
from lookalike.duplicates.keep import DEFAULT_RULES, KeepRule
from lookalike.duplicates.leaks import Leaks, find_leaks
from lookalike.duplicates.orientation import Orientation
from lookalike.duplicates.radius import SearchRadius
from lookalike.duplicates.result import Applied, DuplicateGroups, DuplicatePair, FileFacts, Group, Member, Tier
from lookalike.duplicates.source import Source
from lookalike.duplicates.trash import Confirm, Moved, describe_outside, find_companions, move_to_trash, restore

__all__ = [
    "DEFAULT_RULES",
    "Applied",
    "Confirm",
    "DuplicateGroups",
    "DuplicatePair",
    "FileFacts",
    "FindOptions",
    "Group",
    "KeepRule",
    "Leaks",
    "Member",
    "Moved",
    "Orientation",
    "SearchRadius",
    "Source",
    "Tier",
    "decisions",
    "describe_outside",
    "find_companions",
    "find_duplicates",
    "find_leaks",
    "move_to_trash",
    "restore",
]
