"""A check of ONNX files, which refuses parts that encoders do not need and that a stranger can abuse.

The files are read as protocol buffers, without the package ``onnx``, which only training needs.
"""

from collections.abc import Iterator

from lookalike.encoders.network import one_line

MAX_FIELDS = 2_000_000
"""The limit of fields in a file: about two seconds of reading. A large network has 100,000."""

_DOMAINS = ("", "ai.onnx")

# Numbers of fields in the messages of onnx.proto.
_GRAPH, _TRAINING, _FUNCTION = 7, 20, 25
_NODE, _TENSOR, _SPARSE_TENSOR = 1, 5, 15
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_EXTERNAL, _LOCATION = 13, 14

# Kinds of encoding of a field.
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5

_MAX_VARINT_BYTES = 10

# A tag has 32 bits. ONNX Runtime cuts off the rest, and so reads a longer one as another field.
_MAX_TAG = 2**32 - 1


class GraphError(ValueError):
    """An ONNX file is refused. The text continues a sentence that begins with the name of the file."""


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
        position, end = 0, len(data)
        while position < end:
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
            yield number, value


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
