"""Downloads of encoders from the Hugging Face hub, by ``hf://`` addresses."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lookalike.encoders.network import one_line
from lookalike.errors import EncoderError, LookalikeError, MissingExtraError, NotFoundError, UsageError

SCHEME = "hf://"

_CHUNK = 1 << 20

# The hub's client stores a large file under the SHA-256 of its content.
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Address:
    """A repository on the hub, and perhaps a revision and a file of it: ``hf://org/repo[@revision][/folder/file]``."""

    repository: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address.

        Raises:
            UsageError: it is invalid.
        """
        org, _, rest = text.removeprefix(SCHEME).partition("/")
        name, slash, file = rest.partition("/")
        repo, at, revision = name.partition("@")
        wrong = not org or not repo or "@" in org or (at and not revision) or (slash and not file.endswith(".onnx"))
        if wrong or not set(org + repo + revision).isdisjoint("\\\0 "):
            raise UsageError(
                f"“{one_line(text)}” is not an address on the hub. Write hf://org/repo or hf://org/repo@revision; a network"
                " of several can follow: hf://org/repo/onnx/model.onnx."
            )
        return cls(f"{org}/{repo}", revision or None, file or None)

    def __str__(self) -> str:
        """Return the text of the address."""
        return f"{self.whole}/{self.file}" if self.file else self.whole

    @property
    def whole(self) -> str:
        """The text of the address without the file."""
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Listing:
    """A revision of a repository.

    Attributes:
        commit: its commit, with which `fetch` gets the same files even if the repository changes.
        names: of its files; of those in the cache, if the hub cannot be reached.
    """

    commit: str
    names: tuple[str, ...]


def repository(folder: Path) -> Path | None:
    """Return a repository's folder in the cache of the hub's client, if a folder lies there: ``models--org--repo``."""
    return next((path for path in (folder, *folder.parents) if path.name.startswith("models--")), None)


def list_files(address: Address, purpose: str) -> Listing:
    """List the files of a repository: those on the hub, or in the cache if the hub cannot be reached.

    Raises:
        UsageError: the repository is gated.
        MissingExtraError: the hub's client is not installed.
        NotFoundError: the repository or the revision does not exist, or cannot be reached.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("hub", purpose) from e
    try:
        info = HfApi().model_info(address.repository, revision=address.revision or "main")
        return Listing(str(info.sha), tuple(str(file.rfilename) for file in info.siblings or ()))
    except Exception as e:  # the client raises errors of several libraries
        if not _is_offline(e):
            raise _translate(e, address.whole) from e
        try:
            folder = Path(snapshot_download(address.repository, revision=address.revision, local_files_only=True))
        except Exception:  # noqa: BLE001 -- the first error says why
            raise _translate(e, address.whole) from e
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Listing(folder.name, tuple(sorted(names)))


def fetch(address: str, files: Sequence[str], purpose: str) -> Path:
    """Download files of a repository, or find them in the local cache. An interrupted download is resumed.

    The client shows its progress on a terminal, and sends the token in ``HF_TOKEN`` or of ``hf auth login``. With
    ``HF_HUB_OFFLINE=1`` it uses only the cache.

    Args:
        address: ``hf://org/repo[@revision]``.
        files: names, or patterns such as ``*.onnx``.
        purpose: the beginning of the message if the hub's client is not installed, such as ``"An encoder from a hub"``.

    Returns:
        A folder with the files that the repository has.

    Raises:
        UsageError: the address is invalid, or the repository is gated.
        MissingExtraError: the hub's client is not installed.
        NotFoundError: the repository or the revision does not exist, or cannot be reached.
        EncoderError: a file is damaged.
    """
    at = Address.parse(address)
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 -- an extra
        from huggingface_hub.utils.tqdm import tqdm as bar_class  # noqa: PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("hub", purpose) from e

    tqdm: Any = bar_class

    def begin(bar: object, *args: object, **kwargs: object) -> None:
        tqdm.__init__(bar, *args, **kwargs | {"disable": kwargs.get("disable") or None})  # none: only on a terminal

    bars = type("Bars", (tqdm,), {"__init__": begin})
    try:
        folder = Path(
            snapshot_download(at.repository, revision=at.revision, allow_patterns=list(files), tqdm_class=bars)
        )
    except Exception as e:  # as in `list_files`
        raise _translate(e, at.whole) from e
    for name in files:
        _check_content(folder / name)
    return folder


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    total = sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            total.update(part)
    return total.hexdigest()


def _check_content(path: Path) -> None:
    """Check a large file of the cache against the SHA-256 that the hub stated."""
    stored = path.resolve().name
    if path.is_symlink() and _SHA256.fullmatch(stored) and path.is_file() and digest(path) != stored:
        raise EncoderError(
            f"{path} is damaged: it does not have the SHA-256 that the hub stated. Delete it, with the file that it links to,"
            " and fetch it again."
        )


def _kinds(error: BaseException) -> set[str]:
    """Return the names of an error's classes; the client's versions differ in where they are."""
    return {kind.__name__ for kind in type(error).__mro__}


def _is_offline(error: Exception) -> bool:
    return bool(
        _kinds(error) & {"OfflineModeIsEnabled", "ConnectionError", "ConnectError", "TimeoutException", "Timeout"}
    )


def _translate(error: Exception, address: str) -> LookalikeError:
    kinds = _kinds(error)
    if "GatedRepoError" in kinds:
        return UsageError(
            f"{address} is gated: its owner gives access only to those who accept its terms on its page on the hub.",
            "Accept them there, then set HF_TOKEN to your token, or run: hf auth login.",
        )
    if "RepositoryNotFoundError" in kinds:
        return NotFoundError(
            f"{address} cannot be fetched: the repository does not exist, or is private. Check the address.",
            "For a private one set HF_TOKEN to your token, or run: hf auth login.",
        )
    if "RevisionNotFoundError" in kinds:
        return NotFoundError(f"{address} cannot be fetched: it has no such revision. Name a branch, a tag or a commit.")
    if _is_offline(error) or kinds & {"LocalEntryNotFoundError", "IncompleteSnapshotError"}:
        return NotFoundError(
            f"{address} cannot be fetched: the hub cannot be reached, and the cache does not have all files.",
            "Check the network, and whether HF_HUB_OFFLINE is set.",
        )
    return NotFoundError(f"{address} cannot be fetched: {one_line(error)}")
