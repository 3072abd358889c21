"""Duplicates: found, grouped, decided on, moved away, and put back.

with Collection.open("shop.lookalike") as shop:
    found = find(shop, calibrated(shop.encoder, shop.store.metric, shop.store.count()))
    apply(shop, found.groups, Path("shop-trash"))

What is found is a proposal. Nothing moves before `apply`, which deletes nothing; `restore` puts everything back.
"""

from lookalike.duplicates import decisions
from lookalike.duplicates.finding import Duplicates, Group, Member, PairFound, find
from lookalike.duplicates.keeping import RULES, Facts, Rule
from lookalike.duplicates.leaks import Leaks, leaks
from lookalike.duplicates.tiers import Reach, Tier, at_rate, calibrated, given
from lookalike.duplicates.trash import Moved, apply, restore
from lookalike.duplicates.turning import Turn

__all__ = [
    "RULES",
    "Duplicates",
    "Facts",
    "Group",
    "Leaks",
    "Member",
    "Moved",
    "PairFound",
    "Reach",
    "Rule",
    "Tier",
    "Turn",
    "apply",
    "at_rate",
    "calibrated",
    "decisions",
    "find",
    "given",
    "leaks",
    "restore",
]
