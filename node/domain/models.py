"""What a model says of itself."""

from dataclasses import dataclass

__all__ = ["Calibration", "ModelCard", "Network", "Preparation", "Tensor"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a model: its name in the file and its shape, -1 where any size is taken."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How an image becomes the input of a model that runs without a handler of its own.

    Parameters
    ----------
    kind
        What numbers it takes, before `mean` and `std`: ``hu`` (CT values), ``display`` (0 to 1, as a viewer shows the
        image), ``percentile`` (0 to 1 between two percentiles of the image), ``range`` (0 to 1 between its least and
        greatest value).
    window
        For ``hu`` centre and width (PS3.3 C.11.2.1.2), which become 0 to 1; None to leave HU. For ``percentile`` the
        two percentiles.
    mean, std
        Taken off, and divided by, last.
    size
        Rows and columns, or slices, rows and columns.
    spacing_mm
        The grid it was made for, in the order of `size`; None if it takes the image whole whatever its spacing.
    channels
        How often the image is given side by side: 1 for grey, 3 for a network made for colour.
    channel_means, channel_stds
        In place of `mean` and `std` where they differ from channel to channel; else empty.
    layout
        Order of the axes: ``NCHW``, ``NHWC``, ``NCDHW`` or ``NDHWC``.
    fit
        How an image of another size is made to fit: ``stretch``, ``pad`` (its proportions are kept) or ``tiles`` (a
        window slides over it).
    overlap
        Share of a tile that its neighbour sees as well.
    axes
        Where slices, rows and columns of a volume run to, such as ``HPL`` (head, posterior, left); "" as stored.
    """

    kind: str
    size: tuple[int, ...]
    window: tuple[float, float] | None = None
    mean: float = 0.0
    std: float = 1.0
    spacing_mm: tuple[float, ...] | None = None
    channels: int = 1
    channel_means: tuple[float, ...] = ()
    channel_stds: tuple[float, ...] = ()
    layout: str = "NCHW"
    fit: str = "stretch"
    overlap: float = 0.5
    axes: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a model's score becomes a probability; without one no probability is ever printed.

    Parameters
    ----------
    method
        ``temperature`` (Guo et al., ICML 2017) or ``isotonic`` (Zadrozny and Elkan, KDD 2002).
    temperature
        The logit of the score is divided by it.
    points
        (score, probability), both rising; straight lines between them.
    high_at, medium_at
        Least probabilities of the tiers high and medium; below is review.
    source
        On which cases, and on how many, it was fitted.
    """

    method: str
    source: str
    temperature: float = 1.0
    points: tuple[tuple[float, float], ...] = ()
    high_at: float = 0.9
    medium_at: float = 0.5


@dataclass(frozen=True, slots=True)
class Network:
    """How large a network is whose file holds weights only; inputs and outputs of the card say the rest.

    Parameters
    ----------
    features
        Feature maps of each level, from the full grid down.
    convolutions
        How many in a row on each level.
    normalisation
        After each convolution: ``batch``, ``instance`` (with its own weights) or ``none``.
    """

    features: tuple[int, ...] = (16, 32, 64, 128)
    convolutions: int = 2
    normalisation: str = "batch"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The manifest of a model, ``models/<name>/model.toml``; a card without limits does not load.

    `sha256` is of the weights file; `threshold` the operating point on the output.

    Parameters
    ----------
    backend
        What runs it: ``onnx``, ``torch`` or ``kserve`` (a server, at `url`, host and port).
    device
        ``auto``, ``cpu`` or ``cuda``; cuda that is not there is an error.
    architecture
        Which network the weights of a ``.safetensors`` file belong to, and `network` how large it is; torch only.
    served_name, served_version
        What the server calls the model (its own name if empty), and which version of it is asked for; kserve only.
    is_unverified
        True must be said for kserve: nobody can compare the weights of a server with a hash.
    preferred_batches, latest_start_ms
        Sizes in which requests are put together, and how long the first may wait for others; empty and 0: not at all.
    task
        ``classification``, ``segmentation`` or ``detection`` if the engine runs it without a handler of its own; then
        `labels`, `preparation` and `modalities` are needed.
    labels
        What its outputs stand for, in order: keys of the report template's findings.
    ignored_labels
        Those that are nothing to report, such as ``background``.
    anatomy_labels
        Those that are normal anatomy, measured and never called abnormal.
    activation
        What makes scores from 0 to 1 of its output: ``none``, ``sigmoid`` or ``softmax``.
    heat_map_output, heat_map_method
        A second output that shows where a class was seen, and what it is: ``grad_cam`` (one map for each label) or
        ``score_cam`` (features that are tried one by one).
    modalities, body_parts
        Values of Modality and Body Part Examined it was made for; "" among the latter takes a silent header too, and
        none at all takes every part of the body.
    template
        Its report template; its own name if empty. `not_looked_at` are keys of that template's limits.
    """

    name: str
    version: str
    manufacturer: str
    file: str
    sha256: str
    licence: str
    purpose: str
    population: str
    limits: tuple[str, ...]
    not_for: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    threshold: float
    backend: str = "onnx"
    device: str = "auto"
    url: str = ""
    architecture: str = ""
    network: Network | None = None
    served_name: str = ""
    served_version: str = ""
    is_unverified: bool = False
    preferred_batches: tuple[int, ...] = ()
    latest_start_ms: float = 0.0
    task: str = ""
    labels: tuple[str, ...] = ()
    ignored_labels: tuple[str, ...] = ()
    anatomy_labels: tuple[str, ...] = ()
    activation: str = "none"
    heat_map_output: str = ""
    heat_map_method: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    template: str = ""
    not_looked_at: tuple[str, ...] = ()
    preparation: Preparation | None = None
    calibration: Calibration | None = None
