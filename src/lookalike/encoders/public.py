"""Public encoders made into artefacts: found in a folder or on the hub, fetched, checked and written into the cache.

The artefact has the network with its weights inside, a card with the preprocessing that the encoder's configuration states, and
a record of what was fetched: commit and SHA-256 of each file. It is opened without a network connection.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np

from lookalike import atomic, state
from lookalike.encoders import graph, hub, layouts, licences, process, texts
from lookalike.encoders.artefact import Encoder
from lookalike.encoders.card import Card, Origin, Output
from lookalike.encoders.hub import Address
from lookalike.encoders.known import KNOWN, Known
from lookalike.encoders.layouts import Description, Layout
from lookalike.encoders.network import one_line
from lookalike.encoders.paths import own_file, read_file
from lookalike.encoders.preprocessing import ConfigurationError
from lookalike.encoders.texts import TOKENIZER, TextBranch
from lookalike.errors import (
    EncoderError,
    MismatchError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UsageError,
)
from lookalike.metric import Metric
from lookalike.untrusted import parsing
from lookalike.version import __version__

_README = "README.md"
_PURPOSE = "An encoder from a hub"

# Files of a repository that say what it is. An artefact of lookalike has the first.
ARTEFACT = "encoder.json"

_UNSAFE = re.compile(r"[^A-Za-z0-9._@-]+")


@dataclass(frozen=True)
class Found:
    """A public encoder that was found, and whose network may still be on the hub.

    Attributes:
        name: of the encoder.
        place: the folder of the artefact that is made of it.
        source: the address or the folder, for messages and for the record.
        folder: with its configuration.
        layout: of the folder.
        description: what its configuration says.
        licence: of its weights.
        known: what the registry says of it.
        commit: of the repository; none: it is a folder.
    """

    name: str
    place: Path
    source: str
    folder: Path
    layout: Layout
    description: Description
    licence: str
    known: Known | None = None
    commit: str | None = None


# ---- where artefacts are


def cached(source: str) -> Path | None:
    """Return the artefact that was made of a known encoder or of an address on the hub; none if it was not fetched."""
    place = _place(source)
    return place if (place / ARTEFACT).is_file() else None


def is_in_cache(folder: Path) -> bool:
    """Return whether a folder is an artefact that was made of a public encoder."""
    return folder.resolve().parent == _home().resolve()


def _home() -> Path:
    return state.cache_folder() / "encoders"


def _place(source: str) -> Path:
    known = KNOWN.get(source)
    # A new pin is a new encoder.
    text = f"{known.name}@{(known.revision or 'newest')[:12]}" if known else source.removeprefix(hub.SCHEME)
    return _home() / _UNSAFE.sub("--", text)


# ---- finding


def find_known(known: Known) -> Found:
    """Find a known encoder on the hub, or in the cache of the hub's client; its network is not fetched yet.

    Raises:
        UsageError: it is published in a form that lookalike does not read, or is gated.
        NotFoundError, MissingExtraError, EncoderError: as `hub.fetch`.
    """
    if known.network is None:
        raise UsageError(
            f"“{known.name}” is published only as TorchScript, which holds code, so lookalike does not load it. Export it once as"
            " docs/how-to/public-encoders.md says, and give the folder."
        )
    address = Address.parse(known.address)
    listing = hub.list_files(address, _PURPOSE)
    if known.network not in listing.names:
        raise NotFoundError(f"{known.address} has no file {known.network}. Its owner may have moved it.")
    pinned = replace(address, revision=listing.commit)
    if known.settings is not None:
        layout = Layout("lookalike.json", known.network, "")
        folder = hub.fetch(str(pinned), [_README], _PURPOSE)
        description = layouts.of_settings(known.settings)
    else:
        one_of_several = known.network if known.network.endswith(".onnx") else None
        layout = _require_layout(listing.names, one_of_several, known.address)
        text = texts.find(listing.names, known.network, known.text)
        layout = replace(layout, kind=known.layout or layout.kind, text=text)
        folder = _fetch_configuration(pinned, layout)
        description = layouts.describe(folder, layout)
    return Found(
        known.name, _place(known.name), known.address, folder, layout, description, known.licence, known, listing.commit
    )


def find_on_hub(address: Address) -> Found | Path:
    """Find an encoder at an address on the hub.

    Returns:
        The folder of an artefact of lookalike, or a public encoder, whose network is not fetched yet.

    Raises:
        UsageError: the address is invalid, or the repository is gated.
        NotFoundError, MissingExtraError, EncoderError: as `hub.fetch`; or the repository has no encoder.
    """
    listing = hub.list_files(address, _PURPOSE)
    pinned = replace(address, revision=listing.commit, file=None)
    if ARTEFACT in listing.names and address.file is None:
        files = [name for name in listing.names if "/" not in name and Path(name).suffix in (".onnx", ".json", ".md")]
        return hub.fetch(address.whole, files, _PURPOSE)  # so that the cache knows the revision by this name
    layout = _require_layout(listing.names, address.file, str(address))
    if address.file is not None:  # this network alone
        layout = replace(layout, text=None)
    folder = _fetch_configuration(pinned, layout)
    return _found(address.repository, str(address), folder, layout, listing.commit)


def find_in_folder(folder: Path) -> Found | None:
    """Find a public encoder in a folder; none if it holds none.

    Raises:
        EncoderError: its configuration is damaged, or asks for something that lookalike does not do.
    """
    names = _list(folder)
    layout = layouts.find(names)
    if layout is None:
        return None
    found = _found(folder.resolve().name or "encoder", str(folder), folder, layout, None)
    return replace(found, place=_home() / f"{_UNSAFE.sub('--', found.name)}-{_key(found)}")


def _found(name: str, source: str, folder: Path, layout: Layout, commit: str | None) -> Found:
    description = layouts.describe(folder, layout)
    settings = description.settings
    licence = (settings and settings.licence) or _licence_in(folder)
    return Found(
        (settings and settings.name) or name,
        _place(source),
        source,
        folder,
        layout,
        description,
        licence,
        commit=commit,
    )


def _key(found: Found) -> str:
    """Return a short name of the content of a folder, and of the lookalike that makes an artefact of it."""
    layout, text = found.layout, found.layout.text
    names = [layout.configuration, *layout.others, *_fetch_graph(found, found.description.network)[1]]
    if text:
        names += [*_fetch_graph(found, text.network)[1], text.tokenizer, text.configuration]
    parts = [__version__, found.name, found.licence, *_digests(found, found.folder, names).values()]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _require_layout(names: Sequence[str], network: str | None, source: str) -> Layout:
    if network is not None and network not in names:
        raise NotFoundError(f"{source} cannot be fetched: the repository has no file {network}.")
    layout = layouts.find(names, network)
    if layout is None:
        raise NotFoundError(
            f"{source} is not an encoder: it has neither {ARTEFACT}, nor a network with a configuration in a layout that"
            " lookalike reads. See docs/how-to/public-encoders.md."
        )
    return layout


def _fetch_configuration(pinned: Address, layout: Layout) -> Path:
    return hub.fetch(str(pinned), [layout.configuration, *layout.others, _README], _PURPOSE)


def _list(folder: Path) -> list[str]:
    """List the files that a layout may have: of the folder and of those of its folders that layouts name."""
    places = [folder, *(folder / name for name in ("onnx", "visual", "textual"))]
    try:
        return [
            path.relative_to(folder).as_posix()
            for place in places
            if place.is_dir()
            for path in sorted(place.iterdir())
        ]
    except OSError:
        return []


def _licence_in(folder: Path) -> str:
    try:
        text = parsing.read_bytes(own_file(folder, _README)).decode(errors="replace")
    except (OSError, parsing.ParseError):
        return licences.UNKNOWN
    return licences.of_readme(text)


# ---- licences


def check_licence(found: Found, *, accepted: bool) -> None:
    """Refuse a public encoder whose licence does not allow every use, unless the user accepts it.

    A folder is the user's own, so its licence is not asked for.

    Raises:
        UsageError: the licence is not accepted.
    """
    if question := licence_question(found):
        if accepted:
            return
        raise UsageError(
            f"{question} Read it on its page on the hub.",
            f"To accept it: lookalike encoders --fetch {found.known.name if found.known else found.source} --accept-licence",
        )


def licence_question(found: Found) -> str | None:
    """Describe a licence that the user must accept; none if it allows every use."""
    if found.commit is None or licences.is_permissive(found.licence):
        return None
    terms = f": {found.known.terms}" if found.known and found.known.terms else ", which may not allow every use"
    return f"“{found.name}” has the licence {one_line(found.licence)}{terms}."


# ---- making the artefact


def make(found: Found) -> Path:
    """Fetch the network of a public encoder, check it, and write the artefact.

    Returns:
        The artefact's folder.

    Raises:
        UsageError: its weights need `lookalike.learn`, or its output is not known.
        EncoderError: the network is damaged, refused, or contradicts its configuration.
        NotFoundError: the network cannot be fetched.
        StorageError: the cache cannot be written.
    """
    if found.layout.needs_learn:
        name = found.known.name if found.known else found.source
        raise UsageError(
            f"“{found.name}” has weights without a graph, which must be exported once.",
            f"Run: lookalike encoders --fetch {name}",
        )
    folder, files = fetch_network(found)
    path = own_file(folder, found.description.network)
    content = _read_network(path)
    model = found.description.model
    inputs, outputs = _describe(path, content)
    if len(inputs) != 1:
        names = one_line(", ".join(value.name for value in inputs))
        raise EncoderError(f"{path} takes {len(inputs)} inputs, not one: {names}. Use a network of images alone.")
    output = found.description.output
    chosen = next((value for value in outputs if output and value.name == output.name), None)
    if output is None or (output.name is None and output.pool is None):
        chosen, output = layouts.choose_output(outputs, model)
    elif chosen is None and (output.name is not None or len(outputs) != 1):
        listed = one_line(", ".join(value.name for value in outputs))
        raise UsageError(f"{path} has no output “{output.name}”, but: {listed}. Correct {layouts.SETTINGS}.")
    chosen = chosen or outputs[0]
    stated = layouts.dimension_of(chosen, output.pool if output else None, model)
    dimension = found.description.dimension or stated
    if dimension is None:
        raise UsageError(f"{path} does not state its dimension. State it as “dimension” in a {layouts.SETTINGS}.")
    text = None
    if found.layout.text:
        with _suggesting_images_alone(found):
            text, more = _make_text(found)
        files |= more
    return write(found, content, output, dimension, files, text)


@dataclass(frozen=True)
class _Text:
    """A text branch, and the content of its network."""

    branch: TextBranch
    network: bytes


def _make_text(found: Found) -> tuple[_Text, dict[str, str]]:
    """Fetch the text branch of a public encoder; return it, and the SHA-256 of each of its files by name."""
    about = found.layout.text
    assert about is not None  # noqa: S101 -- the caller checks it
    folder, graphs = _fetch_graph(found, about.network)
    names = [*graphs, about.tokenizer, about.configuration]
    folder = _fetch(found, names)
    files, path = _digests(found, folder, names), own_file(folder, about.network)
    content = _read_network(path)
    tokenizer = read_file(own_file(folder, about.tokenizer), process.MAX_TOKENIZER_BYTES)
    configuration = layouts.read_json(folder, about.configuration)
    try:
        branch = texts.describe(_describe(path, content), tokenizer, configuration, found.description.model)
    except ConfigurationError as e:
        raise EncoderError(f"{folder / about.configuration} {e}") from e
    return _Text(branch, content), files


@contextmanager
def _suggesting_images_alone(found: Found) -> Iterator[None]:
    """Add to the error of a text branch how to use the encoder without it."""
    try:
        yield
    except EncoderError as e:
        alone = found.commit and replace(Address.parse(found.source), file=found.description.network)
        raise EncoderError(
            e.message, f"To use it for images alone, name their network: {alone}" if alone else e.owner_hint
        ) from e


def fetch_network(found: Found) -> tuple[Path, dict[str, str]]:
    """Fetch the network of a public encoder, or find it in its folder.

    Returns:
        The folder, and the SHA-256 of each file by name.

    Raises:
        EncoderError: a file is missing, a link out of the folder, or not the one that is pinned.
        NotFoundError: it cannot be fetched.
    """
    network, layout = found.description.network, found.layout
    folder, wanted = _fetch_graph(found, network)
    files = _digests(found, folder, [*filter(None, (layout.configuration, *layout.others)), *wanted])
    pinned = found.known.sha256 if found.known else None
    if pinned is not None and files[network] != pinned:
        raise EncoderError(
            f"{network} of {found.source} is not the file that this lookalike knows: its SHA-256 is {files[network]}, not"
            f" {pinned}. Update lookalike, or fetch hf://{found.known.repository if found.known else ''} instead."
        )
    return folder, files


def _fetch_graph(found: Found, network: str) -> tuple[Path, list[str]]:
    """Fetch a network and the weights beside it; return the folder and the names of the files."""
    wanted, folder = [network], _fetch(found, [network])
    path = own_file(folder, network)
    if path.is_file() and not found.layout.needs_learn:
        wanted += [(PurePosixPath(network).parent / name).as_posix() for name in _weights_beside(path)]
        if wanted[1:]:
            folder = _fetch(found, wanted)
    return folder, wanted


def _digests(found: Found, folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of files by name."""
    files = {}
    for name in names:
        path = own_file(folder, name)
        if not path.is_file():
            raise EncoderError(f"{found.source} is incomplete: {one_line(name)} is missing.")
        try:
            files[name] = hub.digest(path)
        except OSError as e:
            raise EncoderError(f"{path} cannot be read: {e.strerror}.") from e
    return files


def _fetch(found: Found, names: Sequence[str]) -> Path:
    """Fetch files of a public encoder, and return their folder."""
    if found.commit is None:
        return found.folder
    address = replace(Address.parse(found.source), revision=found.commit, file=None)
    return hub.fetch(str(address), names, _PURPOSE)


def _weights_beside(path: Path) -> list[str]:
    """Return the names of the files beside a network that hold its weights."""
    try:
        return sorted(graph.external_files(read_file(path, process.MAX_BYTES)))
    except graph.GraphError as e:
        raise EncoderError(f"{path} {e}") from e


def _describe(path: Path, content: bytes) -> tuple[tuple[graph.Value, ...], tuple[graph.Value, ...]]:
    try:
        graph.check(content)
        return graph.describe(content)
    except graph.GraphError as e:
        raise EncoderError(f"{path} {e}") from e


def _read_network(path: Path) -> bytes:
    """Read a network, with the weights that lie in other files of its folder inside."""

    def read(external: graph.External) -> bytes:
        file = own_file(path.parent, external.location)
        size = file.stat().st_size
        length = size - external.offset if external.length is None else external.length
        if not file.is_file() or length < 0 or external.offset + length > size or length > process.MAX_BYTES:
            raise graph.GraphError(
                f"has weights in {external.location}, which is shorter than it states. Fetch or export the encoder again."
            )
        with file.open("rb") as opened:
            opened.seek(external.offset)
            return opened.read(length)

    try:
        return graph.embed_weights(read_file(path, process.MAX_BYTES), read)
    except graph.GraphError as e:
        raise EncoderError(f"{path} {e}") from e
    except OSError as e:
        raise EncoderError(f"The weights of {path} cannot be read: {e.strerror}.") from e


def write(
    found: Found,
    content: bytes,
    output: Output | None,
    dimension: int,
    files: dict[str, str],
    text: _Text | None = None,
) -> Path:
    """Write the artefact of a public encoder, and try it on an image and a text.

    Args:
        found: the encoder.
        content: of its network, ONNX with the weights inside.
        output: the output that is the embedding; none: the only one.
        dimension: numbers an image.
        files: name and SHA-256 of each file that it was made of.
        text: its text branch, if it has one.

    Returns:
        The artefact's folder.

    Raises:
        EncoderError: the network is refused, or contradicts its configuration.
        StorageError: the cache cannot be written.
    """
    contents = {"photo.onnx": content}
    if text:
        contents |= {"text.onnx": text.network, TOKENIZER: text.branch.tokenizer}
    card = _card(found, contents, output, dimension, files)
    if text:
        card = card.model_copy(update={"branches": ("photo", "text"), "text": text.branch.input})
    place = found.place
    try:
        _home().mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=_home()))
        try:
            for name, each in contents.items():
                atomic.write_bytes(new / name, each)
            atomic.write_text(new / _README, _model_card(card))
            atomic.write_text(new / ARTEFACT, card.model_dump_json(indent=2) + "\n")
            encoder, side = Encoder.open(new), card.input.size
            encoder.embed(np.zeros((1, side, side, 3), np.uint8))
            if text:
                # A search by text reports that the extra is missing.
                with suppress(MissingExtraError), _suggesting_images_alone(found):
                    encoder.embed_texts(["a photo"])
            _put(new, place)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as e:
        raise StorageError(f"{place} cannot be written: {e.strerror}. Free some space in the cache.") from e
    return place


def _put(new: Path, place: Path) -> None:
    """Put a new folder in the place of an old one; another process may do so at the same time."""
    new.chmod(0o755)
    for _ in range(3):
        with suppress(OSError):
            new.rename(place)
            return
        shutil.rmtree(place, ignore_errors=True)
    new.rename(place)


def _card(
    found: Found, contents: dict[str, bytes], output: Output | None, dimension: int, files: dict[str, str]
) -> Card:
    known, settings = found.known, found.description.settings
    source = found.source if found.commit else os.path.basename(os.path.normpath(found.source))  # noqa: PTH119 -- of “.” too
    about = f"{known.title}. Finds {known.purpose}." if known else f"The network of {one_line(source)}."
    return Card(
        name=one_line(found.name)[:200],
        description=(settings.description if settings and settings.description else about),
        scope=f"Trained on {known.data}." if known else None,
        licence=one_line(found.licence)[:200],
        dimension=dimension,
        output="float",
        metric=settings.metric if settings else Metric.COSINE,
        input=found.description.input,
        network_output=output,
        branches=("photo",),
        origin=Origin(
            source=one_line(source)[:200],
            commit=found.commit,
            layout=found.layout.kind,
            files={one_line(name): digest for name, digest in files.items()},
            networks={name: sha256(content).hexdigest() for name, content in contents.items()},
        ),
    )


def _model_card(card: Card) -> str:
    assert card.origin is not None  # noqa: S101 -- `_card` sets it
    files = "\n".join(f"| {name} | {digest} |" for name, digest in card.origin.files.items())
    commit = f", commit {card.origin.commit}" if card.origin.commit else ""
    return f"""# {card.name}

{card.description}

An image of {card.input.size} × {card.input.size} pixels becomes {card.dimension} numbers, compared by {card.metric} distance.
Licence of the weights: {card.licence}.

Made by lookalike of {card.origin.source}{commit}, in the layout of {card.origin.layout}:

| file | SHA-256 |
|---|---|
{files}
"""


# ---- opening


def open_artefact(folder: Path, source: str) -> Encoder:
    """Open the artefact of a public encoder, and check it against its record.

    Raises:
        EncoderError: it is damaged.
    """
    try:
        return Encoder.open(folder)
    except (EncoderError, NotFoundError, MismatchError) as e:
        raise EncoderError(f"{e} Fetch it again: lookalike encoders --fetch {source}") from e
