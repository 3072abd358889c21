"""Names in filters: their stored Unicode form, and explanations of filters that no item passes."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lookalike.query import Filter
from lookalike.stores.protocol import Store
from lookalike.unicode_forms import find_names

_LISTED = 8


def in_stored_form(store: Store, where: Filter) -> Filter:
    """Replace labels and attributes that are stored in another Unicode form by the stored ones; see `find_names`."""
    texts = [*(where.labels or ()), *where.attributes.keys(), *where.attributes.values()]
    if all(text.isascii() for text in texts):
        return where
    labels = where.labels
    if labels is not None:
        known = store.labels()
        labels = frozenset(name for label in labels for name in find_names(label, known) or [label])
    attributes: Mapping[str, str] = where.attributes
    if any(not text.isascii() for pair in attributes.items() for text in pair):
        values = _attributes(store)
        names = {key: next(iter(find_names(key, values)), key) for key in attributes}
        attributes = {
            names[key]: next(iter(find_names(value, values.get(names[key], ()))), value)
            for key, value in attributes.items()
        }
    return replace(where, labels=labels, attributes=attributes)


def unknown_names(store: Store, where: Filter) -> list[str]:
    """Say which labels, attributes and ids of a filter no item has, with the most similar known name."""
    problems = []
    if where.labels:
        known = store.labels()
        unknown = sorted(label for label in where.labels if not find_names(label, known))
        problems += [f"No item has the label “{label}”{_suggest(label, known)}" for label in unknown]
    if where.attributes:
        values = _attributes(store)
        for key, value in where.attributes.items():
            problems += _unknown_attribute(key, value, values)
    if where.ids:
        found = store.get(sorted(where.ids))
        problems += [f"No item has the id “{ident}”." for ident in sorted(where.ids - found.keys())]
    return problems


def explain_nothing(store: Store, where: Filter) -> str:
    """Say why no item passes a filter."""
    return " ".join(unknown_names(store, where)) or "No item meets all conditions of the filter. Give fewer of them."


def _unknown_attribute(key: str, value: str, known: Mapping[str, Iterable[str]]) -> list[str]:
    names = find_names(key, known)
    if not names:
        return [f"No item has the attribute “{key}”{_suggest(key, known)}"]
    values = known[names[0]]
    return [] if find_names(value, values) else [f"No item has {key}={value}{_suggest(value, values)}"]


def _attributes(store: Store) -> dict[str, set[str]]:
    """Collect the values of each attribute."""
    known: dict[str, set[str]] = {}
    for item in store.scan():
        for key, value in item.attributes.items():
            known.setdefault(key, set()).add(value)
    return known


def _suggest(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar name, or list a few."""
    names = sorted(known)
    folded = {"".join(filter(str.isalnum, known_name.casefold())): known_name for known_name in reversed(names)}
    wanted = "".join(filter(str.isalnum, name.casefold()))
    if close := difflib.get_close_matches(wanted, folded, 1):
        return f"; did you mean “{folded[close[0]]}”?"
    if not names:
        return "; none has any."
    more = ", …" if len(names) > _LISTED else ""
    return f"; there are {', '.join(f'“{known_name}”' for known_name in names[:_LISTED])}{more}."
