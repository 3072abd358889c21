"""Small numbers packed into bytes: the first number is in the highest bits of the first byte, as in ``numpy.packbits``."""

from functools import cache

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
    if bits == 1:
        return np.unpackbits(packed, axis=1, count=count)
    if 8 % bits == 0:  # no number lies in two bytes, and a table of bytes is several times as fast
        numbers = _numbers_by_byte(bits).take(packed, axis=0).reshape(len(packed), packed.shape[1] * 8 // bits)
        return np.ascontiguousarray(numbers[:, :count])
    return _unpack_bits(packed, bits, count)


@cache
def _numbers_by_byte(bits: int) -> UInt8[np.ndarray, "256 m"]:
    """Return the numbers in each byte."""
    return _unpack_bits(np.arange(256, dtype=np.uint8)[:, None], bits, 8 // bits)


def _unpack_bits(packed: UInt8[np.ndarray, "n b"], bits: int, count: int) -> UInt8[np.ndarray, "n d"]:
    planes = np.unpackbits(packed, axis=1, count=count * bits).reshape(len(packed), count, bits)
    return np.asarray((planes << np.arange(bits - 1, -1, -1, dtype=np.uint8)).sum(axis=2, dtype=np.uint8))
