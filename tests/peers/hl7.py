"""HL7 peers of other makers: node-hl7-server and simple-hl7 as receivers, node-hl7-client and simple-hl7 as senders."""

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.peers.senders import NPM_PACKAGES, program, run

__all__ = ["NpmRis", "npm_ris", "send_with_npm"]

FOLDER = Path(__file__).parent / "js"
LIMIT_S = 30.0


@dataclass
class NpmRis:
    """A receiver that runs; `messages` gets what it received, as text, in the order it came."""

    port: int
    messages: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)

    def next(self) -> str:
        """The next message that it received."""
        return self.messages.get(timeout=LIMIT_S)


@contextlib.contextmanager
def npm_ris(library: str, *, key: str = "", certificate: str = "") -> Iterator[NpmRis]:
    """Run a receiver from npm as long as the ``with`` block lasts; with TLS if it gets a key and a certificate."""
    process = subprocess.Popen(
        [program("node"), str(FOLDER / "hl7_server.js"), _there(library), *filter(None, (key, certificate))],
        stdout=subprocess.PIPE, env=_environment(), encoding="utf-8",
    )  # fmt: skip
    assert process.stdout is not None
    lines = process.stdout
    try:
        ris = NpmRis(json.loads(lines.readline()))
        reader = threading.Thread(target=lambda: [ris.messages.put(json.loads(line)) for line in lines], daemon=True)
        reader.start()
        yield ris
    finally:
        process.terminate()
        process.wait(LIMIT_S)
        reader.join(LIMIT_S)
        lines.close()


def send_with_npm(library: str, port: int, messages: Sequence[bytes], folder: Path, *, version: str) -> list[list[str]]:
    """Send messages; MSA-1 and MSA-2 of each answer."""
    files = [folder / f"{number}.hl7" for number in range(len(messages))]
    for path, message in zip(files, messages, strict=True):
        path.write_bytes(message)
    node, driver = program("node"), FOLDER / "hl7_client.js"
    said = run(node, driver, _there(library), port, version, *files, environment={"NODE_PATH": str(NPM_PACKAGES)})
    answers: list[list[str]] = json.loads(next(line for line in said.splitlines() if line.startswith("[[")))
    return answers


def _there(library: str) -> str:
    if not (NPM_PACKAGES / library).is_dir():
        pytest.skip(f"{library} is not installed (tools/npm_packages.sh)")
    return library


def _environment() -> dict[str, str]:
    return {**os.environ, "NODE_PATH": str(NPM_PACKAGES)}
