"""Licences of public encoders: those that allow every use, and those that a user must accept."""

import re

from lookalike.untrusted import parsing

UNKNOWN = "not stated"

# Licences that allow every use, commercial ones too, by their names on the hub.
_PERMISSIVE = frozenset(
    {"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense"}
    | {"cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-2.0", "pddl", "odc-by", "cdla-permissive-2.0", "wtfpl", "ms-pl"}
)

_MAX = 200

# The block of YAML at the beginning of a README on the hub.
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)


def is_permissive(licence: str) -> bool:
    """Return whether a licence is known to allow every use.

    Example:
        >>> from lookalike.encoders.licences import is_permissive
        >>> is_permissive("Apache-2.0"), is_permissive("cc-by-nc-4.0"), is_permissive("not stated")
        (True, False, False)
    """
    return licence.lower() in _PERMISSIVE


def of_readme(text: str) -> str:
    r"""Return the licence that a README on the hub states in its front matter; ``"not stated"`` if it does not.

    Example:
        >>> from lookalike.encoders.licences import of_readme
        >>> of_readme("---\nlicense: mit\n---\n# A model")
        'mit'
    """
    found = _FRONT_MATTER.match(text)
    if not found:
        return UNKNOWN
    try:
        tree = parsing.parse_yaml(found[1])
    except parsing.ParseError:
        return UNKNOWN
    if not isinstance(tree, dict):
        return UNKNOWN
    stated = tree.get("license")
    name = tree.get("license_name") if stated == "other" else stated
    line = " ".join(str(name or stated or UNKNOWN).split())
    return "".join(c for c in line if c.isprintable())[:_MAX] or UNKNOWN
