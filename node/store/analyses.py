"""Analyses on disk: words and numbers in ``analysis.json``, pictures in ``arrays.npz``, whole or not at all.

The JSON names the SHA-256 of the arrays, so its own SHA-256 stands for the whole Analysis. Nothing
is pickled. The same Analysis always gives the same bytes.
"""

import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from node.domain.findings import Analysis
from node.errors import StoreError
from node.paths import sync_folder
from node.store.records import Array, Plain, from_plain, to_plain

__all__ = ["DOCUMENT", "discard_partial", "load_analysis", "save_analysis"]

SCHEMA_VERSION = 1
DOCUMENT = "analysis.json"
ARRAYS = "arrays.npz"
PARTIAL_SUFFIX = ".part"
COMPRESSION = 1  # fastest: backgrounds are noise, masks are small at any level


def save_analysis(analysis: Analysis, folder: Path) -> str:
    """Keep an Analysis as the folder `folder`, durably; one already there is replaced.

    Returns
    -------
    SHA-256 of ``analysis.json``, which names that of ``arrays.npz``.

    Raises
    ------
    StoreError
        If a value cannot be kept, or `folder` holds something that is no Analysis.
    """
    document, packed = _encode(analysis)
    sha256 = hashlib.sha256(document).hexdigest()
    if folder.exists():
        if _is_same(folder, document, packed):
            return sha256
        if not (folder / DOCUMENT).is_file():
            raise StoreError(f"{folder} holds no {DOCUMENT}: it is not an Analysis and is left as it is")
    folder.parent.mkdir(parents=True, exist_ok=True)
    discard_partial(folder)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PARTIAL_SUFFIX, dir=folder.parent))
    try:
        _write_durably(partial / DOCUMENT, document)
        _write_durably(partial / ARRAYS, packed)
        sync_folder(partial)
        if folder.exists():  # rename(2) replaces no folder that holds files; a cut here is mended by the next attempt
            folder.replace(partial.with_name(f".{folder.name}.old{PARTIAL_SUFFIX}"))
        partial.replace(folder)
    finally:
        discard_partial(folder)
    sync_folder(folder.parent)
    return sha256


def load_analysis(folder: Path) -> Analysis:
    """Read an Analysis back, after its arrays were checked against their SHA-256.

    Raises
    ------
    StoreError
        If a file is missing, was changed, or does not hold an Analysis of this schema.
    """
    try:
        document = json.loads((folder / DOCUMENT).read_bytes())
        packed = (folder / ARRAYS).read_bytes()
    except OSError as error:
        raise StoreError(f"{folder}: no whole Analysis: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{folder / DOCUMENT} is not JSON: it was changed after it was written") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(f"{folder / DOCUMENT}: expected schema_version {SCHEMA_VERSION}")
    found = hashlib.sha256(packed).hexdigest()
    if found != document.get("arrays_sha256"):
        raise StoreError(f"{folder / ARRAYS}: expected sha256 {document.get('arrays_sha256')}, found {found}")
    try:
        arrays = _unpack(packed, cast("Mapping[str, list[int]]", document["masks"]))
        return from_plain(Analysis, document["analysis"], arrays)
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{folder / DOCUMENT} does not fit its arrays: {type(error).__name__}") from error


def discard_partial(folder: Path) -> None:
    """Remove what a save of `folder` that was cut short left beside it."""
    for path in folder.parent.glob(f".{_literal(folder.name)}.*{PARTIAL_SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _encode(analysis: Analysis) -> tuple[bytes, bytes]:
    arrays: dict[str, Array] = {}
    plain = to_plain(analysis, arrays)
    masks: dict[str, Plain] = {key: list(array.shape) for key, array in arrays.items() if array.dtype == np.bool_}
    packed = _pack(arrays)
    document = {
        "schema_version": SCHEMA_VERSION,
        "arrays_sha256": hashlib.sha256(packed).hexdigest(),
        "masks": masks,
        "analysis": plain,
    }
    try:
        return json.dumps(document, allow_nan=False, indent=1).encode("ascii"), packed
    except ValueError as error:
        raise StoreError("an Analysis with a number that is not finite cannot be kept") from error


def _pack(arrays: Mapping[str, Array]) -> bytes:
    """Arrays as numpy's npz, masks as packed bits; without times, so that equal arrays are equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as archive:
        for key, array in arrays.items():
            stored: Array = np.packbits(array.astype(np.bool_)) if array.dtype == np.bool_ else array
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                try:
                    np.lib.format.write_array(file, stored, allow_pickle=False)
                except ValueError as error:
                    raise StoreError(f"{key} cannot be kept: expected numbers, found dtype {array.dtype}") from error
    return buffer.getvalue()


def _unpack(packed: bytes, masks: Mapping[str, list[int]]) -> dict[str, Array]:
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        arrays: dict[str, Array] = {key: stored[key] for key in stored.files}
    for key, shape in masks.items():
        bits, count = arrays[key], math.prod(shape)
        if bits.dtype != np.uint8 or bits.size != -(-count // 8):
            raise ValueError(f"{key} does not hold {count} bits")
        arrays[key] = np.unpackbits(bits.astype(np.uint8), count=count).astype(np.bool_).reshape(shape)
    return arrays


def _is_same(folder: Path, document: bytes, packed: bytes) -> bool:
    pair = ((folder / DOCUMENT, document), (folder / ARRAYS, packed))
    return all(path.is_file() and path.read_bytes() == content for path, content in pair)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
