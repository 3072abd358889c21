"""Texts of public encoders: the network and the tokenizer beside a network of images, and what their configuration says."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from lookalike.encoders.card import MAX_TOKENS, TextInput
from lookalike.encoders.graph import Value
from lookalike.encoders.network import one_line
from lookalike.encoders.preprocessing import ConfigurationError, Tree
from lookalike.encoders.process import MAX_TOKENIZER_BYTES
from lookalike.errors import plain_reason
from lookalike.untrusted import parsing

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"

# The parts of the names of a network of images → those of its network of texts.
_COUNTERPARTS = {"visual/model": "textual/model", "vision_model": "text_model"}

# Inputs for tokens, and outputs that are embeddings, by the names that exporters give them; the best first.
_IDS, _MASK = ("input_ids", "text"), "attention_mask"
_EMBEDDINGS = ("text_embeds", "text_embedding", "text_embeddings", "embedding", "embeddings", "pooler_output")

# Of OpenAI's CLIP, and of SigLIP.
_CLIP_TOKENS, _SIGLIP_TOKENS = 77, 64

_PUNCTUATION = r"[!-/:-@\[-`{-~]"


@dataclass(frozen=True)
class TextFiles:
    """The files of a text branch, with ``/`` between folders."""

    network: str
    tokenizer: str
    configuration: str


@dataclass(frozen=True)
class TextBranch:
    """The text branch of a public encoder: its input, for the card, and the content of its ``tokenizer.json``."""

    input: TextInput
    tokenizer: bytes


def find(names: Collection[str], network: str, text_network: str | None = None) -> TextFiles | None:
    """Find the text branch of a public encoder by the names of its files; none if it has no such branch.

    Args:
        names: of all files of the encoder.
        network: that of images: ``visual/model.onnx`` (Immich), ``onnx/vision_model.onnx`` (transformers.js) or the like.
        text_network: that of texts, if it is not the counterpart of ``network``.
    """
    texts = text_network or next((network.replace(a, b) for a, b in _COUNTERPARTS.items() if a in network), None)
    if texts is None or texts not in names:
        return None
    for folder in PurePosixPath(texts).parents:
        tokenizer, configuration = ((folder / name).as_posix() for name in (TOKENIZER, TOKENIZER_CONFIG))
        if tokenizer in names and configuration in names:
            return TextFiles(texts, tokenizer, configuration)
    return None


def describe(
    values: tuple[Sequence[Value], Sequence[Value]], tokenizer: bytes, configuration: Tree, model: Tree | None
) -> TextBranch:
    """Read what the configuration of a text branch says.

    SigLIP was trained on texts in lower case, without punctuation and without a mask, and Immich's configuration can ask for the
    same (``"clean": "canonicalize"``), which is not in their tokenizers: it is added.

    Args:
        values: inputs and outputs of the network.
        tokenizer: the content of ``tokenizer.json``.
        configuration: the content of ``tokenizer_config.json``.
        model: the content of ``config.json``, if there is one.

    Raises:
        ConfigurationError: it asks for something that lookalike does not do, or does not say enough.
    """
    inputs, outputs = ({value.name: value.shape for value in part} for part in values)
    ids = next((name for name in _IDS if name in inputs), None)
    if ids is None or not set(inputs) <= {ids, _MASK}:
        raise ConfigurationError(
            f"is of a network of texts that takes {one_line(', '.join(inputs))}, not {_IDS[0]} and perhaps {_MASK}. Use"
            " another encoder."
        )
    is_siglip = str((model or {}).get("model_type", "")).startswith("siglip")
    if is_siglip and _MASK in inputs:
        raise ConfigurationError(
            f"is of a SigLIP with an {_MASK}, which it was trained without. Export it without one."
        )
    tree = _parse(tokenizer)
    open_clip = _part(model, "text_cfg")
    cleaned = is_siglip or _part(open_clip, "tokenizer_kwargs").get("clean") == "canonicalize"
    lower = cleaned or configuration.get("do_lower_case") is True
    try:
        about = TextInput(
            tokens=_tokens(inputs[ids], configuration, model, siglip=is_siglip),
            padding=_padding(tree, configuration, model, siglip=is_siglip),
            ids=ids,
            mask=_MASK if _MASK in inputs else None,
            output=_output(outputs),
        )
    except ValidationError as e:
        first = e.errors()[0]
        raise ConfigurationError(f"is not valid; {first['loc'][0]}: {one_line(plain_reason(first['msg']))}.") from e
    return TextBranch(about, _normalised(tokenizer, tree, lower=lower, punctuation=not cleaned))


def _output(outputs: Mapping[str, object]) -> str | None:
    if len(outputs) == 1:
        return None
    chosen = next((name for name in _EMBEDDINGS if name in outputs), None)
    if chosen is None:
        raise ConfigurationError(
            f"is of a network of texts none of whose outputs is known as an embedding: {one_line(', '.join(outputs))}."
            " Use another encoder."
        )
    return chosen


def _tokens(shape: Sequence[int] | None, configuration: Tree, model: Tree | None, *, siglip: bool) -> int:
    """Return the tokens of each text: as the network, its configuration or the tokenizer's says, else as CLIP or SigLIP."""
    fixed = shape[1] if shape and len(shape) == 2 else 0  # noqa: PLR2004 -- n, tokens
    stated = (
        fixed,
        _part(model, "text_cfg").get("context_length"),
        _part(model, "text_config").get("max_position_embeddings"),
        configuration.get("model_max_length"),
    )
    usable = (n for n in stated if isinstance(n, int) and not isinstance(n, bool) and 0 < n <= MAX_TOKENS)
    return next(usable, _SIGLIP_TOKENS if siglip else _CLIP_TOKENS)


def _padding(tree: Tree, configuration: Tree, model: Tree | None, *, siglip: bool) -> int:
    """Return the number of the token that pads a text.

    A CLIP takes the value at its end token. Where that pads, too, an exported network may take the last one instead of the
    first, so texts are padded with 0, as OpenAI's CLIP and OpenCLIP do: what follows the end token does not matter to a CLIP.
    """
    token, end = _token(configuration, "pad_token"), _token(configuration, "eos_token")
    if token is not None and token == end and not siglip:
        return 0
    if token is None:
        stated = _part(model, "text_config").get("pad_token_id", 0)
        return stated if isinstance(stated, int) else 0
    vocabulary = _part(tree, "model").get("vocab")
    if isinstance(vocabulary, Mapping) and isinstance(number := vocabulary.get(token), int):
        return number
    if isinstance(vocabulary, list):
        for number, entry in enumerate(vocabulary):
            if isinstance(entry, list) and entry[:1] == [token]:
                return number
    for added in tree.get("added_tokens") or []:
        if isinstance(added, Mapping) and added.get("content") == token and isinstance(added.get("id"), int):
            return int(added["id"])
    raise ConfigurationError(f"pads with {one_line(token)}, which is not a token of {TOKENIZER}. Use another encoder.")


def _token(configuration: Tree, name: str) -> object:
    token = configuration.get(name)
    return token.get("content") if isinstance(token, Mapping) else token


def _normalised(content: bytes, tree: dict[str, Any], *, lower: bool, punctuation: bool) -> bytes:
    """Return a tokenizer that converts texts to lower case and removes punctuation, if it does not do so already."""
    given = tree.get("normalizer")
    given = given if isinstance(given, Mapping) else {}
    parts = given.get("normalizers") if given.get("type") == "Sequence" else [given] if given else []
    parts = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
    has_lower = any(part.get("type") == "Lowercase" or part.get("lowercase") is True for part in parts)
    added: list[Tree] = [] if has_lower or not lower else [{"type": "Lowercase"}]
    if not punctuation:
        added.append({"type": "Replace", "pattern": {"Regex": _PUNCTUATION}, "content": ""})
    if not added:
        return content
    whole = tree | {"normalizer": {"type": "Sequence", "normalizers": [*added, *parts]}}
    return json.dumps(whole, ensure_ascii=False).encode()


def _parse(tokenizer: bytes) -> dict[str, Any]:
    try:
        tree = parsing.parse_json(tokenizer, MAX_TOKENIZER_BYTES)
    except parsing.ParseError as e:
        raise ConfigurationError(f"has a {TOKENIZER} beside it that cannot be read: {e}.") from e
    if not isinstance(tree, dict):
        raise ConfigurationError(f"has a {TOKENIZER} beside it that is not a JSON object. Fetch it again.")
    return tree


def _part(tree: Tree | None, name: str) -> Tree:
    part = (tree or {}).get(name)
    return part if isinstance(part, Mapping) else {}
