"""Commands and datasets, put together from fragments and kept to one operation at a time.

The node negotiates one outstanding operation (PS3.7 D.3.3.3), so a peer that sends a second request before it
has its answer, mixes the fragments of two messages, or sends a dataset nobody announced breaks the rules.
Only a command set is ever collected, and only up to a limit; a dataset passes through.

References
----------
PS3.7 6.3, PS3.8 Annex E.
"""

from collections.abc import Iterator

from node.errors import ProtocolError
from node.network.dimse import LONGEST_COMMAND_BYTES, PENDING, Command, Kind, decode_command
from node.network.events import CommandReceived, DataFragment, OperationComplete
from node.network.stream import Piece

__all__ = ["Exchange"]


class Exchange:
    """The messages of one Association, in both directions.

    `unanswered` is the peer's request that is whole and waits for our answer, with its Presentation Context;
    `invoked` is the Message ID of our own request that waits for the peer's.
    """

    def __init__(self) -> None:
        """Start with nothing under way; no context is accepted yet."""
        self.context_ids: frozenset[int] = frozenset()
        self.unanswered: tuple[int, Command] | None = None
        self.invoked: int | None = None
        self._set = bytearray()  # fragments of a command set that is not whole
        self._context_id: int | None = None  # of the message under way
        self._command: Command | None = None  # the command whose dataset is under way

    @property
    def is_idle(self) -> bool:
        """True when no message is under way and none waits for our answer."""
        return self._context_id is None and self.unanswered is None

    def take(self, piece: Piece) -> Iterator[CommandReceived | DataFragment | OperationComplete]:
        """What a stretch of a fragment brings.

        Raises
        ------
        ProtocolError
            If it is not what may come next.
        """
        self._check(piece)
        self._context_id = piece.context_id
        if not piece.is_command:
            if len(piece.data):
                yield DataFragment(piece.data)
            if piece.is_last and self._command is not None:
                yield self._complete(piece.context_id, self._command)
            return
        if len(self._set) + len(piece.data) > LONGEST_COMMAND_BYTES:
            raise ProtocolError(f"a command set is longer than {LONGEST_COMMAND_BYTES} bytes")
        self._set += piece.data
        if piece.is_last:
            command = decode_command(bytes(self._set))
            self._set.clear()
            self._check_turn(command)
            self._command = command
            yield CommandReceived(piece.context_id, command)
            if not command.has_dataset:
                yield self._complete(piece.context_id, command)

    def _check(self, piece: Piece) -> None:
        if piece.context_id not in self.context_ids:
            raise ProtocolError(f"Presentation Context {piece.context_id} was not accepted")
        if self._context_id is None and self.unanswered is not None and self.invoked is None:
            raise ProtocolError("another message came before the answer to the one before")
        if self._context_id not in (None, piece.context_id):
            raise ProtocolError("fragments of two Presentation Contexts are mixed")
        if piece.is_command and self._command is not None:
            raise ProtocolError("a command came before the end of the dataset before it")
        if not piece.is_command and self._command is None:
            raise ProtocolError("a dataset came without its command")

    def _check_turn(self, command: Command) -> None:
        if command.is_response and command.message_id != self.invoked:
            raise ProtocolError("an answer came to a request that was not made")
        if not command.is_response and self.unanswered is not None:
            raise ProtocolError("another request came before the answer to the one before")

    def _complete(self, context_id: int, command: Command) -> OperationComplete:
        self._context_id = self._command = None
        if command.is_response:
            if command.kind != Kind.FIND_RESPONSE or command.status not in PENDING:
                self.invoked = None
        elif command.kind != Kind.CANCEL_REQUEST:  # PS3.7 9.3.2.3: a C-CANCEL has no answer
            self.unanswered = (context_id, command)
        return OperationComplete(context_id, command)
