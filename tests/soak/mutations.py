"""Honest bytes made dishonest, by a chance that is the same on every run."""

import random
import struct

__all__ = ["mutate"]

CHANGES = (1, 1, 1, 2, 4)
LENGTHS = (0, 1, 2, 0x7F, 0xFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def mutate(chance: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Flip, cut, double, splice, and change numbers that may be lengths; never the same bytes.

    `other` is what a stretch may be taken from; the same bytes when empty.
    """
    changed = bytearray(data)
    while bytes(changed) == data:
        for _ in range(chance.choice(CHANGES)):
            chance.choice((_flip, _cut, _double, _splice, _number))(chance, changed, other or data)
    return bytes(changed)


def _place(chance: random.Random, data: bytearray) -> int:
    """Most of what can be broken is near the start, where the heads are."""
    if not data:
        return 0
    return chance.randrange(min(len(data), 512) if chance.random() < 0.7 else len(data))


def _flip(chance: random.Random, data: bytearray, _other: bytes) -> None:
    if data:
        data[_place(chance, data)] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, data: bytearray, _other: bytes) -> None:
    start = _place(chance, data)
    if chance.random() < 0.3:
        del data[start:]
    else:
        del data[start : start + chance.randint(1, 32)]


def _double(chance: random.Random, data: bytearray, _other: bytes) -> None:
    start = _place(chance, data)
    data[start:start] = data[start : start + chance.randint(1, 200)]


def _splice(chance: random.Random, data: bytearray, other: bytes) -> None:
    start, source = _place(chance, data), chance.randrange(len(other))
    length = chance.randint(1, 64)
    data[start : start + length] = other[source : source + chance.randint(0, 64)]


def _number(chance: random.Random, data: bytearray, _other: bytes) -> None:
    layout = chance.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(layout)
    start = _place(chance, data)
    if start + size <= len(data):
        (was,) = struct.unpack_from(layout, data, start)
        found = chance.choice((*LENGTHS, was + 1, was - 1, was * 2))
        struct.pack_into(layout, data, start, found & ((1 << 8 * size) - 1))
