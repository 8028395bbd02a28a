"""A log that grows long is begun anew while its processes go on writing to it."""

import subprocess
import sys
from pathlib import Path

from node.log import turn_log

WRITER = """
import os, sys
from pathlib import Path
from node.log import turn_log
path = Path(sys.argv[1])
child = os.dup(1)  # as another process of the node has it
os.write(1, b"x" * 999 + b"\\n")
assert not turn_log(path, longest_bytes=1000)
os.write(child, b"one more\\n")
assert turn_log(path, longest_bytes=1000)
assert not turn_log(path, longest_bytes=1000)
os.write(child, b"after it\\n")
"""


def test_what_was_written_is_kept_beside_it_and_later_lines_begin_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    with path.open("ab") as log:
        subprocess.run([sys.executable, "-c", WRITER, str(path)], stdout=log, check=True, cwd=Path(__file__).parents[2])
    assert path.read_bytes() == b"after it\n"
    assert (tmp_path / "node.log.1").read_bytes() == b"x" * 999 + b"\none more\n"


def test_a_file_that_is_not_our_own_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    path.write_bytes(b"x" * 2000)
    assert not turn_log(path, longest_bytes=1000)
    assert not turn_log(tmp_path / "none.log", longest_bytes=1000)
    assert path.stat().st_size == 2000
