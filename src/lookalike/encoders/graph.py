"""ONNX files as protocol buffers: their inputs and outputs, weights in other files, and a check for abuse.

The package ``onnx`` is not used; only training needs it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lookalike.encoders.network import one_line

MAX_FIELDS = 2_000_000
"""The limit of fields in a file: about two seconds of reading. A large network has 100,000."""

_DOMAINS = ("", "ai.onnx")

# Numbers of fields in the messages of onnx.proto.
_GRAPH, _TRAINING, _FUNCTION = 7, 20, 25
_NODE, _TENSOR, _SPARSE_TENSOR = 1, 5, 15
_INPUT, _OUTPUT = 11, 12
_NAME, _TYPE, _TENSOR_TYPE, _SHAPE, _DIMENSION, _DIMENSION_VALUE = 1, 2, 1, 2, 1, 1
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_NAME, _RAW, _EXTERNAL, _LOCATION = 8, 9, 13, 14
_KEY, _VALUE = 1, 2

# Kinds of encoding of a field.
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5

_MAX_VARINT_BYTES = 10

# Of an offset; sizes of files have fewer.
_MAX_DIGITS = 19

# A tag has 32 bits. ONNX Runtime cuts off the rest, and so reads a longer one as another field.
_MAX_TAG = 2**32 - 1


# A protocol buffer holds at most 2 GiB; lookalike reads networks of up to half of it.
_MAX_BYTES = 1 << 30


class GraphError(ValueError):
    """An ONNX file is refused. The text continues a sentence that begins with the name of the file."""


@dataclass(frozen=True)
class Value:
    """An input or an output of a network.

    Attributes:
        name: its name.
        shape: its sides; 0 is a side that is not known in advance. None: the file does not say.
    """

    name: str
    shape: tuple[int, ...] | None


def describe(content: bytes) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """Return the inputs and the outputs of a network, without its weights.

    Raises:
        GraphError: it is not an ONNX file.
    """
    reader = _Reader()
    inputs: list[Value] = []
    outputs: list[Value] = []
    weights: set[str] = set()
    for number, graph in reader.messages(memoryview(content)):
        for kind, value in reader.messages(graph) if number == _GRAPH else ():
            if kind == _TENSOR:
                weights.update(
                    bytes(v).decode(errors="replace") for n, v in reader.messages(value) if n == _TENSOR_NAME
                )
            elif kind in (_INPUT, _OUTPUT):
                (inputs if kind == _INPUT else outputs).append(_describe_value(reader, value))
    # Early exporters list weights among the inputs.
    return tuple(value for value in inputs if value.name not in weights), tuple(outputs)


def _describe_value(reader: "_Reader", content: memoryview) -> Value:
    name, shape = "", None
    for number, value in reader.messages(content):
        if number == _NAME:
            name = bytes(value).decode(errors="replace")
        for kind, tensor in reader.messages(value) if number == _TYPE else ():
            for part, sides in reader.messages(tensor) if kind == _TENSOR_TYPE else ():
                if part == _SHAPE:
                    shape = tuple(_side(reader, side) for field, side in reader.messages(sides) if field == _DIMENSION)
    return Value(name, shape)


def _side(reader: "_Reader", content: memoryview) -> int:
    return next((v for n, v in reader.fields(content) if n == _DIMENSION_VALUE and isinstance(v, int)), 0)


# ---- weights in other files


@dataclass(frozen=True)
class External:
    """A tensor whose values are in another file.

    Attributes:
        location: name of the file, as the network states it.
        offset: of the first byte.
        length: bytes; none: up to the end of the file.
    """

    location: str
    offset: int = 0
    length: int | None = None


def external_files(content: bytes) -> frozenset[str]:
    """Return the names of the other files that hold weights of a network.

    Raises:
        GraphError: it is not an ONNX file, or a name leads out of the network's folder.
    """
    names: set[str] = set()

    def note(external: External) -> bytes:
        names.add(external.location)
        return b""

    embed_weights(content, note)
    return frozenset(names)


def embed_weights(content: bytes, read: Callable[[External], bytes]) -> bytes:
    """Write a network with the weights that lie in other files inside.

    Args:
        content: of an ONNX file.
        read: returns the bytes of a tensor.

    Returns:
        The content of an ONNX file that needs no other one; unchanged if it needs none already.

    Raises:
        GraphError: it is not an ONNX file, a name leads out of the network's folder, or the result is too large.
    """
    reader = _Reader()
    parts: list[bytes] = []
    left = _MAX_BYTES - len(content)
    changed = False
    for number, graph, raw in reader.encoded(memoryview(content)):
        if number != _GRAPH or graph is None:
            parts.append(bytes(raw))
            continue
        fields = []
        for kind, tensor, encoded in reader.encoded(graph):
            embedded = _embed_tensor(reader, tensor, read) if kind == _TENSOR and tensor is not None else None
            if embedded is None:
                fields.append(bytes(encoded))
                continue
            changed = True
            left -= len(embedded)
            if left < 0:
                raise GraphError("has more than 1 GiB of weights. Use an encoder with a smaller network.")
            fields.append(_message(_TENSOR, embedded))
        parts.append(_message(_GRAPH, b"".join(fields)))
    return b"".join(parts) if changed else content


def _embed_tensor(reader: "_Reader", tensor: memoryview, read: Callable[[External], bytes]) -> bytes | None:
    """Return a tensor with its values inside, or none if they are inside already."""
    kept: list[bytes] = []
    entries: dict[str, str] = {}
    for number, value, raw in reader.encoded(tensor):
        if number == _EXTERNAL and value is not None:
            entry = {n: bytes(v).decode(errors="replace") for n, v in reader.messages(value)}
            entries[entry.get(_KEY, "")] = entry.get(_VALUE, "")
        elif number != _LOCATION:
            kept.append(bytes(raw))
    if not entries:
        return None
    return b"".join(kept) + _message(_RAW, read(_external(entries)))


def _external(entries: dict[str, str]) -> External:
    name = entries.get("location", "")
    if not _is_plain(name):
        raise GraphError(
            f"has weights in “{one_line(name)}”, which is not a file beside it. Export the encoder with its weights inside."
        )
    numbers = [entries.get(key, "0") for key in ("offset", "length")]
    if not all(number.isascii() and number.isdigit() and len(number) < _MAX_DIGITS for number in numbers):
        raise GraphError("states the place of its weights by something other than numbers. Export the encoder again.")
    return External(name, int(numbers[0]), int(numbers[1]) if "length" in entries else None)


def _is_plain(name: str) -> bool:
    """Return whether a name is that of a file in the same folder."""
    return name not in ("", ".", "..") and name.isprintable() and not set(name) & set('/\\:"<>|?*')


def _message(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(content)) + content


def _encode(value: int) -> bytes:
    """Write a number of variable length."""
    digits = bytearray()
    while value > 0x7F:  # noqa: PLR2004 -- seven bits a byte
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


# ---- the check


def check(content: bytes) -> None:
    """Check the content of an ONNX file.

    It refuses loops and branches (``Loop``, ``Scan``, ``If``), operators that are not of ONNX, functions, weights in other
    files, and content that is not ONNX.

    Raises:
        GraphError: the file is refused.
    """
    if content[4:8] == b"ORTM":
        raise GraphError("is in ONNX Runtime's own format. Export the encoder as ONNX.")
    reader = _Reader()
    has_graph = False
    for number, value in reader.messages(memoryview(content)):
        if number in (_FUNCTION, _TRAINING):
            raise GraphError(
                "has functions or training steps, which encoders do not need. Export the encoder without them."
            )
        if number == _GRAPH:
            has_graph = True
            _check_graph(reader, value)
    if not has_graph:
        raise GraphError("is not an ONNX network: it has no graph. Export the encoder again.")


def _check_graph(reader: "_Reader", graph: memoryview) -> None:
    for number, value in reader.messages(graph):
        if number == _NODE:
            _check_node(reader, value)
        elif number == _TENSOR:
            _check_tensor(reader, value)
        elif number == _SPARSE_TENSOR:
            _check_sparse_tensor(reader, value)


def _check_node(reader: "_Reader", node: memoryview) -> None:
    operator, attributes = "", []
    for number, value in reader.messages(node):
        if number == _OPERATOR:
            operator = _text(value)
        elif number == _DOMAIN and _text(value) not in _DOMAINS:
            raise GraphError(
                f"uses an operator of “{_text(value)}”, not of ONNX. Export the encoder with ONNX's operators."
            )
        elif number == _ATTRIBUTE:
            attributes.append(value)
    for attribute in attributes:
        for number, value in reader.messages(attribute):
            if number in _ATTRIBUTE_GRAPHS:
                raise GraphError(f"has a loop or a branch ({operator}). Export the encoder without Loop, Scan and If.")
            if number in _ATTRIBUTE_TENSORS:
                _check_tensor(reader, value)
            elif number in _ATTRIBUTE_SPARSE_TENSORS:
                _check_sparse_tensor(reader, value)


def _check_sparse_tensor(reader: "_Reader", tensor: memoryview) -> None:
    for number, value in reader.messages(tensor):
        if number in (_SPARSE_VALUES, _SPARSE_INDICES):
            _check_tensor(reader, value)


def _check_tensor(reader: "_Reader", tensor: memoryview) -> None:
    for number, value in reader.fields(tensor):
        if number == _EXTERNAL or (number == _LOCATION and value != 0):
            raise GraphError("has weights in another file. Export the encoder with its weights inside.")


def _text(value: memoryview) -> str:
    return one_line(bytes(value[:100]).decode(errors="replace"))


class _Reader:
    """A reader of protocol buffers that stops after a number of fields."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def messages(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield number and content of each field that is a message or a text."""
        for number, value in self.fields(data):
            if isinstance(value, memoryview):
                yield number, value

    def fields(self, data: memoryview) -> Iterator[tuple[int, "memoryview | int"]]:
        """Yield number and content of each field of a message; a number of fixed length counts as 0.

        Raises:
            GraphError: it is not a message, or the limit of fields is reached.
        """
        for number, value, _ in self._parse(data):
            yield number, value

    def encoded(self, data: memoryview) -> Iterator[tuple[int, memoryview | None, memoryview]]:
        """Yield number, content if it is a message or a text, and encoded form of each field; errors as for `fields`."""
        for number, value, raw in self._parse(data):
            yield number, value if isinstance(value, memoryview) else None, raw

    def _parse(self, data: memoryview) -> Iterator[tuple[int, "memoryview | int", memoryview]]:
        position, end = 0, len(data)
        while position < end:
            begin = position
            self._left -= 1
            if self._left < 0:
                raise GraphError(f"has more than {MAX_FIELDS:,} fields. Use an encoder with a smaller network.")
            tag, position = _varint(data, position)
            if tag > _MAX_TAG:
                raise GraphError("is not an ONNX network, or is damaged. Export the encoder again.")
            number, kind = tag >> 3, tag & 7
            value: memoryview | int = 0
            if kind == _VARINT:
                value, position = _varint(data, position)
            elif kind == _BYTES:
                length, start = _varint(data, position)
                position = start + length
                value = data[start:position]
            elif kind in (_FIXED_64, _FIXED_32):
                position += 8 if kind == _FIXED_64 else 4
            else:
                number = 0
            if number == 0 or position > end:
                raise GraphError("is not an ONNX network, or is damaged. Export the encoder again.")
            yield number, value, data[begin:position]


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read a number of variable length; return it and the position behind it.

    Exporters write the shortest form. Another one is refused: ONNX Runtime may read it as another number.
    """
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 -- the highest bit says that another byte follows
            if index and not byte:
                break
            return value, position + index + 1
    raise GraphError("is not an ONNX network, or is damaged. Export the encoder again.")
