"""Model folders for other backends than onnx."""

import hashlib
from pathlib import Path

__all__ = ["write_torch_model"]

MANIFEST = """
name = "tiny"
version = "1.0"
manufacturer = "Physics"
backend = "torch"
file = "{file}"
sha256 = "{sha256}"
licence = "MIT"
purpose = "doubles what it is given"
population = "phantoms"
limits = ["knows phantoms only"]
not_for = ["patients"]
threshold = 0.5
{more}
[[inputs]]
name = "x"
shape = {input}

[[outputs]]
name = "y"
shape = {output}
"""


def write_torch_model(
    site: Path,
    content: bytes,
    *,
    file: str = "model.pt",
    more: str = "",
    shapes: tuple[list[int], list[int]] = ([-1, 2], [-1, 2]),
) -> Path:
    folder = site / "models" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    text = MANIFEST.format(file=file, sha256=sha256, more=more, input=shapes[0], output=shapes[1])
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder
