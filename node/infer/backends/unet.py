"""A plain U-Net in two or three dimensions, as a function of its weights: no code comes with the file.

Ronneberger et al., MICCAI 2015; Çiçek et al., MICCAI 2016. Every level has convolutions of 3 with padding, each
followed by a normalisation and a rectifier; a pooling of 2 leads down, a transposed convolution of 2 leads up, where
the features of the same level are put before those from below; a convolution of 1 makes the output.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from node.domain.models import ModelCard, Network
from node.errors import ModelError

torch: Any = importlib.import_module("torch")

__all__ = ["shapes_of", "unet"]

EPSILON = 1e-5  # what PyTorch adds to a variance, Ioffe and Szegedy 2015
COUNTER = "num_batches_tracked"  # of training, of no use here


def unet(card: ModelCard, weights: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Make a U-Net of the size in a card.

    Parameters
    ----------
    weights
        Tensors by name, as in `shapes_of`; half precision becomes single.

    Raises
    ------
    ModelError
        If a tensor is missing, too many or of another shape, or the card is of another kind of network.
    """
    sizes = _channels(card)
    network = card.network or Network()
    wanted = shapes_of(network, *sizes)
    found = {name: tensor for name, tensor in weights.items() if not name.endswith(COUNTER)}
    for name, shape in wanted.items():
        if name not in found:
            raise ModelError(f"{card.name}: the file has no {name}")
        if tuple(found[name].shape) != shape:
            raise ModelError(f"{card.name}: {name}: expected {list(shape)}, found {list(found[name].shape)}")
        if not torch.is_floating_point(found[name]) or not bool(torch.isfinite(found[name]).all()):
            raise ModelError(f"{card.name}: {name}: expected finite numbers with a fraction")
    if len(found) > len(wanted):
        raise ModelError(f"{card.name}: the file has tensors that are not in this network: {len(found) - len(wanted)}")
    return _Net(card.name, network, sizes[0], {name: found[name].float() for name in wanted})


def shapes_of(network: Network, dimensions: int, channels: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a U-Net, in the order in which they are used.

    Parameters
    ----------
    dimensions
        2 or 3.
    channels, outputs
        Channels of the input and of the output.
    """
    features, last = network.features, len(network.features) - 1
    found: dict[str, tuple[int, ...]] = {}
    before = channels
    for level, count in enumerate(features):
        found |= _block(f"down.{level}", before, count, network, dimensions)
        before = count
    for level in range(last - 1, -1, -1):
        found[f"rise.{level}.weight"] = (features[level + 1], features[level], *[2] * dimensions)
        found[f"rise.{level}.bias"] = (features[level],)
        found |= _block(f"up.{level}", 2 * features[level], features[level], network, dimensions)
    found["head.weight"] = (outputs, features[0], *[1] * dimensions)
    found["head.bias"] = (outputs,)
    return found


def _block(prefix: str, before: int, count: int, network: Network, dimensions: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for index, taken in enumerate([before, *[count] * (network.convolutions - 1)]):
        found[f"{prefix}.{index}.conv.weight"] = (count, taken, *[3] * dimensions)
        found[f"{prefix}.{index}.conv.bias"] = (count,)
        for name in _norm_names(network.normalisation):
            found[f"{prefix}.{index}.norm.{name}"] = (count,)
    return found


def _norm_names(normalisation: str) -> Iterator[str]:
    if normalisation != "none":
        yield from ("weight", "bias")
    if normalisation == "batch":
        yield from ("running_mean", "running_var")


def _channels(card: ModelCard) -> tuple[int, int, int]:
    """Dimensions, channels of the input and channels of the output, as the card's tensors say."""
    if len(card.inputs) != 1 or len(card.outputs) != 1:
        raise ModelError(f"{card.name}: a unet has one input and one output")
    shape, made = card.inputs[0].shape, card.outputs[0].shape
    if len(shape) not in (4, 5) or len(made) != len(shape) or shape[1] < 1 or made[1] < 1:
        raise ModelError(
            f"{card.name}: a unet takes [batch, channel, row, column] or [batch, channel, slice, row, column] and "
            f"gives the same, channels in numbers; found {list(shape)} and {list(made)}"
        )
    return len(shape) - 2, shape[1], made[1]


class _Net:
    """Weights and how to go through them."""

    def __init__(self, name: str, network: Network, dimensions: int, weights: Mapping[str, Any]) -> None:
        functional = torch.nn.functional
        self._name = name
        self._network = network
        self._weights = weights
        self._convolve = functional.conv2d if dimensions == 2 else functional.conv3d
        self._rise = functional.conv_transpose2d if dimensions == 2 else functional.conv_transpose3d
        self._pool = functional.max_pool2d if dimensions == 2 else functional.max_pool3d

    def __call__(self, tensor: Any) -> Any:
        last = len(self._network.features) - 1
        sides = list(tensor.shape[2:])
        if any(side == 0 or side % 2**last for side in sides):
            raise ModelError(f"{self._name}: every side of the input must be a multiple of {2**last}, found {sides}")
        kept = []
        for level in range(last):
            tensor = self._through(f"down.{level}", tensor)
            kept.append(tensor)
            tensor = self._pool(tensor, 2)
        tensor = self._through(f"down.{last}", tensor)
        for level in range(last - 1, -1, -1):
            risen = self._rise(tensor, *self._pair(f"rise.{level}"), stride=2)
            tensor = self._through(f"up.{level}", torch.cat([kept.pop(), risen], dim=1))
        return self._convolve(tensor, *self._pair("head"))

    def _through(self, prefix: str, tensor: Any) -> Any:
        for index in range(self._network.convolutions):
            tensor = self._convolve(tensor, *self._pair(f"{prefix}.{index}.conv"), padding=1)
            tensor = torch.relu(self._normalised(f"{prefix}.{index}.norm", tensor))
        return tensor

    def _normalised(self, prefix: str, tensor: Any) -> Any:
        functional = torch.nn.functional
        if self._network.normalisation == "none":
            return tensor
        weight, bias = self._pair(prefix)
        if self._network.normalisation == "instance":
            return functional.instance_norm(tensor, weight=weight, bias=bias, eps=EPSILON)
        mean, variance = self._weights[f"{prefix}.running_mean"], self._weights[f"{prefix}.running_var"]
        return functional.batch_norm(tensor, mean, variance, weight, bias, eps=EPSILON)

    def _pair(self, prefix: str) -> tuple[Any, Any]:
        return self._weights[f"{prefix}.weight"], self._weights[f"{prefix}.bias"]
