"""A small RIS that takes every message and keeps it: ``python -m node.demo.ris --port 2575 --folder ris``.

It listens with python-hl7's MLLP server, so that the node's own client meets code that others wrote.
Nothing is recognised as a duplicate: every receipt is a file, so that a message sent twice is seen twice.
"""

import argparse
import asyncio
import sys
import threading
from asyncio import IncompleteReadError
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from hl7.mllp import HL7StreamReader, HL7StreamWriter, InvalidBlockError, start_hl7_server

__all__ = ["DemoRis", "acknowledge", "main"]

LONGEST_MESSAGE_BYTES = 16 << 20
START_LIMIT_S = 10.0


def acknowledge(message: bytes, code: str = "AA", *, control_id: bytes | None = None, error: str = "") -> bytes:
    """Answer a message as a RIS does.

    Parameters
    ----------
    code
        MSA-1.
    control_id
        MSA-2, if it is not to be MSH-10 of the message.
    error
        HL7 error code for an ERR segment.
    """
    fields = message.split(b"\r", 1)[0].split(b"|")
    answered = control_id if control_id is not None else (fields[9] if len(fields) > 9 else b"")
    time = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")
    lines = [f"MSH|^~\\&|RIS||WETREAD||{time}||ACK^R01^ACK|{time}|P|2.5.1".encode()]
    lines.append(b"MSA|" + code.encode() + b"|" + answered)
    if error:
        lines.append(f"ERR|||{error}^demonstration^HL70357|E".encode())
    return b"".join(line + b"\r" for line in lines)


class DemoRis:
    """An MLLP listener in a thread; use it in a ``with`` block.

    `folder` gets one file for each receipt, ``000001.hl7`` and so on, with the bytes exactly as they came.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        """Remember where to write and where to listen; port 0 takes a free one."""
        self.folder = folder
        self.port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: OSError | None = None
        self._stopping = asyncio.Event()

    def __enter__(self) -> Self:
        """Start to listen."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self.stop()

    def start(self) -> None:
        """Start to listen, after `stop` on the same port again.

        Raises
        ------
        OSError
            If the port is taken.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._started.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="demo-ris", daemon=True)
        self._thread.start()
        self._started.wait(START_LIMIT_S)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop listening and close every connection; what was received stays."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(START_LIMIT_S)
        self._thread = None

    def receipts(self) -> list[bytes]:
        """Every message that came, in order, as it came."""
        return [path.read_bytes() for path in sorted(self.folder.glob("*.hl7"))]

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await start_hl7_server(self._converse, "127.0.0.1", self.port, limit=LONGEST_MESSAGE_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()  # asyncio.run ends the conversations

    async def _converse(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        try:
            while True:
                message = await reader.readblock()
                self._keep(message)
                writer.writeblock(acknowledge(message))
                await writer.drain()
        except (IncompleteReadError, InvalidBlockError, ConnectionError, ValueError):
            return  # the sender has gone, or does not speak MLLP
        finally:
            writer.close()

    def _keep(self, message: bytes) -> None:
        number = sum(1 for _ in self.folder.glob("*.hl7")) + 1
        (self.folder / f"{number:06d}.hl7").write_bytes(message)


def main(arguments: list[str] | None = None) -> int:
    """Listen until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m node.demo.ris", description="A RIS that keeps every message.")
    parser.add_argument("--port", type=int, default=2575, help="port on the loopback address")
    parser.add_argument("--folder", type=Path, default=Path("ris"), help="where each message becomes a file")
    chosen = parser.parse_args(arguments)
    with DemoRis(chosen.folder, port=chosen.port) as ris:
        sys.stdout.write(f"RIS listens on 127.0.0.1 port {ris.port}, writes to {ris.folder}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
