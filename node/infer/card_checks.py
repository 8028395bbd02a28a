"""What a card may say: every key within its range, and what belongs together is there together."""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

from node.domain.models import Calibration, ModelCard, Network, Preparation
from node.settings.reader import Reader

__all__ = ["check_card", "expect", "expect_sha256"]

SHA256 = re.compile(r"[0-9a-f]{64}")
KEY = re.compile(r"[a-z][a-z0-9_]{0,47}")
CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")  # PS3.5 6.2, VR CS
ADDRESS = re.compile(r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}")
REQUIRED_TEXTS = ("version", "manufacturer", "licence", "purpose", "population")
FILES = {"onnx": (".onnx",), "torch": (".pt", ".safetensors"), "kserve": ()}
ARCHITECTURES = ("unet",)
NORMALISATIONS = ("batch", "instance", "none")
SERVED = re.compile(r"[A-Za-z0-9._-]{1,64}")
MOST_LEVELS, MOST_FEATURES, MOST_CONVOLUTIONS = 8, 2048, 4
DEVICES = ("auto", "cpu", "cuda")
TASKS = ("classification", "segmentation", "detection")
ACTIVATIONS = ("none", "sigmoid", "softmax")
HEAT_MAP_METHODS = ("grad_cam", "score_cam")
KINDS = ("hu", "display", "percentile", "range")
LAYOUTS = {"NCHW": 2, "NHWC": 2, "NCDHW": 3, "NDHWC": 3}
FITS = ("stretch", "pad", "tiles")
OPPOSITE = {"H": "F", "F": "H", "A": "P", "P": "A", "L": "R", "R": "L"}  # PS3.3 C.7.6.1.1.1
METHODS = ("temperature", "isotonic")
LONGEST_SIDE = 4096
MOST_CHANNELS = 64
MOST_LABELS = 256
FINEST_MM, COARSEST_MM = 0.01, 50.0
MOST_OVERLAP = 0.9  # each tile is then seen a thousand times in three dimensions
LONGEST_WAIT_MS = 1000.0


def check_card(reader: Reader, card: ModelCard, name: str) -> None:
    """Refuse a card that lacks something, or says what cannot be; the message names file, line and key.

    Raises
    ------
    ConfigError
        See above.
    """
    expect(reader, card.name == name, "name", f"must be the folder's name {name!r}, found {card.name!r}")
    for key in REQUIRED_TEXTS:
        expect(reader, bool(getattr(card, key).strip()), key, "must not be empty")
    for key in ("limits", "not_for"):
        sentences = getattr(card, key)
        is_said = bool(sentences) and all(sentence.strip() for sentence in sentences)
        expect(reader, is_said, key, "must say at least one thing: a model without limits does not load")
    expect(reader, math.isfinite(card.threshold), "threshold", "must be a finite number")
    for key, tensors in (("inputs", card.inputs), ("outputs", card.outputs)):
        expect(reader, bool(tensors), key, "must name at least one tensor")
        for tensor in tensors:
            is_shape = bool(tensor.shape) and all(size == -1 or size > 0 for size in tensor.shape)
            expect(reader, is_shape, key, f"{tensor.name}: shape must be sizes over 0, or -1 for any size")
    _check_backend(reader, card)
    if card.calibration is not None:
        _check_calibration(reader, card.calibration)
    if card.preparation is not None:
        _check_preparation(reader, card.preparation)
    _expect_one_of(reader, "task", card.task, ("", *TASKS))
    if card.task:
        _check_task(reader, card)
    _check_heat_map(reader, card)


def _check_backend(reader: Reader, card: ModelCard) -> None:
    _expect_one_of(reader, "backend", card.backend, tuple(FILES))
    _expect_one_of(reader, "device", card.device, DEVICES)
    batches = card.preferred_batches
    is_rising = list(batches) == sorted(set(batches)) and all(size >= 1 for size in batches)
    expect(reader, is_rising, "preferred_batches", "must be sizes of 1 and more, each larger than the last")
    is_wait = 0.0 <= card.latest_start_ms <= LONGEST_WAIT_MS
    expect(reader, is_wait, "latest_start_ms", f"must be 0 to {LONGEST_WAIT_MS:g}")
    if card.backend == "kserve":
        is_address = ADDRESS.fullmatch(card.url) is not None
        expect(reader, is_address, "url", f"must be host and port of the server, found {card.url!r}")
        expect(
            reader, not card.file and not card.sha256, "file", "and sha256 must be empty: the server has the weights"
        )
        _check_served(reader, card)
        return
    for key in ("url", "served_name", "served_version", "is_unverified"):
        expect(reader, not getattr(card, key), key, "is for the backend kserve only")
    endings = FILES[card.backend]
    is_plain = Path(card.file).name == card.file and card.file.endswith(endings)
    kinds = " or ".join(endings)
    expect(reader, is_plain, "file", f"must be the name of an {kinds} file in the model's folder, found {card.file!r}")
    expect_sha256(reader, "sha256", card.sha256)
    needs_architecture = card.file.endswith(".safetensors")
    expect(
        reader,
        bool(card.architecture) == needs_architecture,
        "architecture",
        "must be named for a .safetensors file, and for nothing else",
    )
    expect(reader, card.network is None or needs_architecture, "network", "is for a .safetensors file only")
    if needs_architecture:
        _expect_one_of(reader, "architecture", card.architecture, ARCHITECTURES)
        _check_network(reader, card.network or Network())


def _check_served(reader: Reader, card: ModelCard) -> None:
    is_name = SERVED.fullmatch(card.served_name or card.name) is not None
    expect(reader, is_name, "served_name", "must be the model's name on the server")
    is_version = SERVED.fullmatch(card.served_version) is not None
    expect(reader, is_version, "served_version", 'must name the version on the server, such as "1": no other is read')
    expect(
        reader, card.is_unverified, "is_unverified", "must be true: the weights of a server cannot be compared by hash"
    )
    for key in ("architecture", "network"):
        expect(reader, not getattr(card, key), key, "is for the backend torch only")


def _check_network(reader: Reader, network: Network) -> None:
    features = network.features
    is_size = 2 <= len(features) <= MOST_LEVELS and all(1 <= count <= MOST_FEATURES for count in features)
    expect(reader, is_size, "features", f"must be 2 to {MOST_LEVELS} numbers of 1 to {MOST_FEATURES}")
    is_count = 1 <= network.convolutions <= MOST_CONVOLUTIONS
    expect(reader, is_count, "convolutions", f"must be 1 to {MOST_CONVOLUTIONS}")
    _expect_one_of(reader, "normalisation", network.normalisation, NORMALISATIONS)


def _check_task(reader: Reader, card: ModelCard) -> None:
    labels = card.labels
    are_keys = 0 < len(labels) <= MOST_LABELS and all(KEY.fullmatch(label) for label in labels)
    expect(
        reader, are_keys, "labels", "must be 1 to 256 keys of small letters, digits and _, in the order of the output"
    )
    expect(reader, len(set(labels)) == len(labels), "labels", "must all differ")
    for key in ("ignored_labels", "anatomy_labels"):
        is_known = set(getattr(card, key)) <= set(labels)
        expect(reader, is_known, key, "must all be among labels")
    expect(reader, set(card.ignored_labels) < set(labels), "ignored_labels", "must leave something to report")
    _expect_one_of(reader, "activation", card.activation, ACTIVATIONS)
    is_score = 0.0 < card.threshold <= 1.0
    expect(reader, is_score, "threshold", f"must be over 0 and at most 1 for a task, found {card.threshold:g}")
    are_modalities = bool(card.modalities) and all(CODE_STRING.fullmatch(one) for one in card.modalities)
    expect(reader, are_modalities, "modalities", "must name at least one Modality, such as CR")
    are_parts = all(not one or CODE_STRING.fullmatch(one) for one in card.body_parts)
    expect(reader, are_parts, "body_parts", 'must be values of Body Part Examined, such as CHEST, or ""')
    expect(reader, bool(card.not_looked_at), "not_looked_at", "must name at least one limit of the report template")
    expect(reader, len(card.inputs) == 1, "inputs", "must be one for a task; several need a handler")
    expect(reader, card.preparation is not None, "preparation", "is needed for a task")
    if card.preparation is not None:
        _check_input(reader, card, card.preparation)


def _check_input(reader: Reader, card: ModelCard, preparation: Preparation) -> None:
    """Compare what the preparation makes with the input it is for."""
    size = list(preparation.size)
    is_last = preparation.layout.endswith("C")
    made = [1, *size, preparation.channels] if is_last else [1, preparation.channels, *size]
    shape = card.inputs[0].shape
    fits = len(shape) == len(made) and all(want in (-1, got) for want, got in zip(shape, made, strict=True))
    expect(
        reader,
        fits,
        "preparation",
        f"makes {preparation.layout} {made}, the input {card.inputs[0].name} is {list(shape)}",
    )
    is_flat = card.task != "detection" or len(size) == 2
    expect(reader, is_flat, "size", "must be rows and columns for detection")
    is_whole = card.task != "classification" or preparation.fit != "tiles"
    expect(reader, is_whole, "fit", "must be stretch or pad for classification: it sees the image whole")
    has_spacing = preparation.fit != "tiles" or len(size) == 2 or preparation.spacing_mm is not None
    expect(reader, has_spacing, "spacing_mm", "is needed for tiles of a volume")


def _check_preparation(reader: Reader, preparation: Preparation) -> None:
    _expect_one_of(reader, "kind", preparation.kind, KINDS)
    _expect_one_of(reader, "layout", preparation.layout, tuple(LAYOUTS))
    _expect_one_of(reader, "fit", preparation.fit, FITS)
    count = LAYOUTS[preparation.layout]
    is_size = len(preparation.size) == count and all(0 < side <= LONGEST_SIDE for side in preparation.size)
    expect(reader, is_size, "size", f"must be {count} sides of 1 to {LONGEST_SIDE} for {preparation.layout}")
    spacing = preparation.spacing_mm
    is_spacing = spacing is None or (len(spacing) == count and all(FINEST_MM <= mm <= COARSEST_MM for mm in spacing))
    expect(reader, is_spacing, "spacing_mm", f"must be {count} distances of {FINEST_MM:g} to {COARSEST_MM:g} mm")
    expect(reader, 1 <= preparation.channels <= MOST_CHANNELS, "channels", f"must be 1 to {MOST_CHANNELS}")
    expect(reader, 0.0 <= preparation.overlap <= MOST_OVERLAP, "overlap", f"must be 0 to {MOST_OVERLAP:g}")
    for key in ("channel_means", "channel_stds"):
        values = getattr(preparation, key)
        is_each = len(values) in (0, preparation.channels) and all(math.isfinite(value) for value in values)
        expect(reader, is_each, key, f"must be {preparation.channels} numbers, one for each channel")
    stds = (preparation.std, *preparation.channel_stds)
    is_divisor = math.isfinite(preparation.mean) and all(math.isfinite(std) and std > 0.0 for std in stds)
    expect(reader, is_divisor, "std", "must be over 0, and mean a finite number")
    _check_window(reader, preparation)
    axes = preparation.axes
    is_axes = not axes or (len(axes) == count == 3 and {*axes, *map(OPPOSITE.get, axes)} == set(OPPOSITE))
    expect(reader, is_axes, "axes", f'must be "" or three directions that cross, such as HPL, found {axes!r}')


def _check_window(reader: Reader, preparation: Preparation) -> None:
    window = preparation.window
    if window is None:
        expect(reader, preparation.kind != "percentile", "window", "must be two percentiles, such as [1.0, 99.0]")
        return
    is_finite = len(window) == 2 and all(math.isfinite(value) for value in window)
    expect(reader, is_finite, "window", "must be two numbers")
    if preparation.kind == "hu":
        expect(reader, window[1] > 0.0, "window", "must be centre and width, the width over 0")
    elif preparation.kind == "percentile":
        expect(reader, 0.0 <= window[0] < window[1] <= 100.0, "window", "must be two rising percentiles of 0 to 100")
    else:
        expect(reader, False, "window", f"is not for the kind {preparation.kind}")  # noqa: FBT003


def _check_heat_map(reader: Reader, card: ModelCard) -> None:
    if not card.heat_map_output:
        expect(reader, not card.heat_map_method, "heat_map_method", "needs a heat_map_output")
        return
    names = [tensor.name for tensor in card.outputs]
    is_output = card.heat_map_output in names[1:]
    expect(reader, is_output, "heat_map_output", f"must be a further output, found {card.heat_map_output!r}")
    _expect_one_of(reader, "heat_map_method", card.heat_map_method, HEAT_MAP_METHODS)


def _check_calibration(reader: Reader, calibration: Calibration) -> None:
    _expect_one_of(reader, "method", calibration.method, METHODS)
    expect(reader, bool(calibration.source.strip()), "source", "must say on which cases it was fitted, and on how many")
    expect(reader, 0.01 <= calibration.temperature <= 100.0, "temperature", "must be 0.01 to 100")
    points = calibration.points
    are_pairs = all(len(point) == 2 and all(0.0 <= value <= 1.0 for value in point) for point in points)
    expect(reader, are_pairs, "points", "must be pairs of score and probability, 0 to 1")
    if calibration.method == "isotonic":
        expect(reader, len(points) >= 2, "points", "must be at least two for isotonic")
        scores = [point[0] for point in points]
        is_rising = all(before < after for before, after in itertools.pairwise(scores))
        expect(reader, is_rising and _never_falls([point[1] for point in points]), "points", "must rise")
    is_order = 0.0 < calibration.medium_at < calibration.high_at <= 1.0
    expect(reader, is_order, "high_at", "must be over medium_at, both over 0 and at most 1")


def _never_falls(values: Sequence[float]) -> bool:
    return all(before <= after for before, after in itertools.pairwise(values))


def _expect_one_of(reader: Reader, key: str, value: str, known: tuple[str, ...]) -> None:
    listed = ", ".join(one or '""' for one in known)
    expect(reader, value in known, key, f"must be one of {listed}, found {value!r}")


def expect(reader: Reader, is_met: bool, key: str, expectation: str) -> None:  # noqa: FBT001
    """Raise an error that names file, line and key unless `is_met`."""
    if not is_met:
        raise reader.error(f"{key} {expectation}", key)


def expect_sha256(reader: Reader, key: str, value: str) -> None:
    """Refuse what is not the SHA-256 of a file."""
    expect(reader, SHA256.fullmatch(value) is not None, key, "must be 64 lower-case hexadecimal digits")
