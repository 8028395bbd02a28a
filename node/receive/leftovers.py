"""Where each receiver process keeps what is not complete yet, and what becomes of it when a process died.

Process 1 writes into ``incoming/`` itself, the others into ``incoming/2`` and so on. Nothing there was acknowledged,
so what is found at a start goes; but never what a living process is just writing.
"""

from pathlib import Path

from node.process import read_ready, receiver_role

__all__ = ["leave_folder", "own_folder", "sweep_leftovers"]


def own_folder(root: Path, number: int) -> Path:
    """The folder that process `number` alone writes to; made if it is not there."""
    folder = root / "incoming" if number == 1 else root / "incoming" / str(number)
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    return folder


def sweep_leftovers(root: Path, number: int, processes: int) -> int:
    """Remove what an interrupted receive left behind; the number of files.

    Each process sweeps its own folder; the first also those of numbers that this node has no process for any more.
    """
    count = _sweep(own_folder(root, number))
    for folder in (root / "incoming").iterdir() if number == 1 else ():
        is_known = not folder.is_dir() or not folder.name.isdigit() or int(folder.name) <= processes
        if not is_known and not read_ready(root / "run", receiver_role(int(folder.name))):
            count += _sweep(folder)
            folder.rmdir()
    return count


def leave_folder(root: Path, number: int) -> None:
    """Remove the folder of a process that has ended as it should."""
    if number > 1:
        folder = own_folder(root, number)
        _sweep(folder)
        folder.rmdir()


def _sweep(folder: Path) -> int:
    files = [path for path in folder.iterdir() if not path.is_dir()]
    for path in files:
        path.unlink(missing_ok=True)
    return len(files)
