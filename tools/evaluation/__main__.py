"""Make a labelled data set: ``python -m tools.evaluation DATASET FOLDER``.

Into the folder go ``studies/``, ``labels.csv`` with the masks beside it, and ``others/``, which must be refused.
Everything is drawn from fixed seeds: the same call writes the same images.
"""

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tools.evaluation import brain, calcium, chest_ct, chest_xray, head_ct
from tools.evaluation.labels import Row, write_labels

__all__ = ["DATASETS", "make_dataset"]

DATASETS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    "brain": brain.make,
    "calcium": calcium.make,
    "chest_ct": chest_ct.make,
    "chest_xray": chest_xray.make,
    "head_ct": head_ct.make,
}


def make_dataset(name: str, folder: Path, films: Sequence[Path] = ()) -> None:
    """Write one data set anew, `chest_xray` on given films; a folder that holds anything else is refused."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "labels.csv").exists():
        raise SystemExit(f"{folder} holds something else")
    for part in ("studies", "others"):
        shutil.rmtree(folder / part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    rows = chest_xray.make(folder, films) if name == "chest_xray" else DATASETS[name](folder)
    write_labels(list(rows), folder / "labels.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.evaluation", description=__doc__)
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=Path, nargs="+", default=(), help="normal films for chest_xray, DICOM or JPEG")
    asked = parser.parse_args()
    make_dataset(asked.dataset, asked.folder, asked.films)
