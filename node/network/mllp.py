"""The frame around an HL7 message on a connection; no sockets, so that who sends and who listens share it.

References
----------
HL7 v2 Implementation Guide, Transport Specification: MLLP, Release 1.
"""

from node.errors import MessageError

__all__ = ["FrameDecoder", "frame"]

START_BLOCK = b"\x0b"
END_BLOCK = b"\x1c"
CARRIAGE_RETURN = b"\r"


def frame(message: bytes) -> bytes:
    """Put a message between MLLP's start and end block."""
    return START_BLOCK + message + END_BLOCK + CARRIAGE_RETURN


class FrameDecoder:
    """Find messages in bytes as they come.

    Bytes between two frames are skipped, and a start block inside a frame starts it afresh. A frame
    ends at 0x1C, because some senders forget the carriage return behind it.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start outside any frame; a message may have at most `max_bytes`."""
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._is_inside = False
        self._searched = 0

    @property
    def is_inside(self) -> bool:
        """True if a message has begun and has not ended."""
        return self._is_inside

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the messages they complete, in order.

        Raises
        ------
        MessageError
            If a message grows beyond the limit; the connection cannot be used any more.
        """
        self._buffer += data
        messages = []
        while self._is_inside or self._enter():
            end = self._buffer.find(END_BLOCK, self._searched)
            length = end if end >= 0 else len(self._buffer)
            if length > self._max_bytes:
                raise MessageError(f"a message may have {self._max_bytes} bytes, the peer sends more")
            if end < 0:
                self._searched = length
                break
            messages.append(bytes(self._buffer[:end]).rpartition(START_BLOCK)[2])
            del self._buffer[: end + 1]
            self._is_inside = False
        return messages

    def _enter(self) -> bool:
        start = self._buffer.find(START_BLOCK)
        del self._buffer[: start + 1 if start >= 0 else len(self._buffer)]
        self._is_inside = start >= 0
        self._searched = 0
        return self._is_inside
