"""Small numbers packed into bytes: the first number is in the highest bits of the first byte, as in ``numpy.packbits``."""

import numpy as np

from lookalike.shapes import UInt8


def columns(count: int, bits: int) -> int:
    """Return the bytes of ``count`` numbers of ``bits`` bits."""
    return -(-count * bits // 8)


def pack(numbers: UInt8[np.ndarray, "n d"], bits: int) -> UInt8[np.ndarray, "n b"]:
    """Pack numbers of 1 to 8 bits; the last byte is filled with zeros."""
    planes = (numbers[:, :, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
    return np.packbits(planes.reshape(len(numbers), numbers.shape[1] * bits), axis=1)


def unpack(packed: UInt8[np.ndarray, "n b"], bits: int, count: int) -> UInt8[np.ndarray, "n d"]:
    """Return the numbers that `pack` packed; ``count`` is their number in a row."""
    planes = np.unpackbits(packed, axis=1, count=count * bits).reshape(len(packed), count, bits)
    return np.asarray((planes << np.arange(bits - 1, -1, -1, dtype=np.uint8)).sum(axis=2, dtype=np.uint8))
