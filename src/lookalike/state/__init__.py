"""The user's state folder: the signing key, and the folders that the user indexed; no stranger writes into it. And the cache."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from lookalike.untrusted.paths import read_inside

_KEY = "key"
_KEY_BYTES = 32


def state_folder() -> Path:
    """Return the path of the state folder, such as ``~/.local/state/lookalike``; it may not exist."""
    from platformdirs import user_state_path  # noqa: PLC0415 -- the import takes 30 ms, and most commands do without

    return user_state_path("lookalike", appauthor=False)


def cache_folder() -> Path:
    """Return the path of the folder for what can be made or fetched again, such as ``~/.cache/lookalike``; it may not exist."""
    from platformdirs import user_cache_path  # noqa: PLC0415 -- as in `state_folder`

    return user_cache_path("lookalike", appauthor=False)


def create_state_folder() -> Path:
    """Create the state folder if it does not exist, and return its path.

    Raises:
        OSError: it cannot be created.
    """
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def read_key() -> bytes | None:
    """Read the secret key that signs this user's own files; none if there is none."""
    try:
        key = read_inside(state_folder(), _KEY, _KEY_BYTES)
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None


def make_key() -> bytes:
    """Read the secret key, or create it.

    Raises:
        OSError: it cannot be created.
    """
    folder = create_state_folder()
    with suppress(FileExistsError):
        # Only this user may read it. Another process may have been faster.
        descriptor = os.open(folder / _KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
    key = read_key()
    if key is None:
        raise FileExistsError(f"{folder / _KEY} is damaged; delete it")
    return key
