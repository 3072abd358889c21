"""Downloads of encoders from the Hugging Face hub, by ``hf://`` addresses."""

from collections.abc import Sequence
from pathlib import Path

from lookalike.encoders.network import one_line
from lookalike.errors import MissingExtraError, NotFoundError, UsageError

SCHEME = "hf://"


def repository(folder: Path) -> Path | None:
    """Return a repository's folder in the cache of the hub's client, if a folder lies there: ``models--org--repo``."""
    return next((path for path in (folder, *folder.parents) if path.name.startswith("models--")), None)


def fetch(address: str, files: Sequence[str], purpose: str) -> Path:
    """Download files of a repository, or find them in the local cache.

    Args:
        address: ``hf://org/repo[@revision]``.
        files: names, or patterns such as ``*.onnx``.
        purpose: the beginning of the message if the hub's client is not installed, such as ``"An encoder from a hub"``.

    Returns:
        A folder with the files that the repository has.

    Raises:
        UsageError: the address is invalid.
        MissingExtraError: the hub's client is not installed.
        NotFoundError: the repository or the revision does not exist, or cannot be reached.
    """
    repo, _, revision = address.removeprefix(SCHEME).partition("@")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(f"“{address}” is not an address on the hub. Write hf://org/repo or hf://org/repo@revision.")
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 -- an extra
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("hub", purpose) from e
    try:
        folder = snapshot_download(repo, revision=revision or None, allow_patterns=list(files))
    except (HfHubHTTPError, OSError, ValueError) as e:
        raise NotFoundError(f"{address} cannot be fetched: {one_line(e)}") from e
    return Path(folder)
