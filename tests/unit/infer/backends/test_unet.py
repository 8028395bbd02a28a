"""Weights without code become the network that the card names, or an error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.errors import ModelError
from node.infer.loaded import LoadedModel
from node.infer.models import load_manifest
from node.infer.session import open_model
from tests.unit.infer.backends.cards import write_torch_model

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
files: Any = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
nn = torch.nn

FEATURES = (4, 6, 8)
LAYERS = {2: (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d), 3: (nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d)}
BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Step(nn.Module):
    def __init__(self, dimensions: int, before: int, count: int, normalisation: str) -> None:
        super().__init__()
        self.conv = LAYERS[dimensions][0](before, count, 3, padding=1)
        kinds = {"batch": BATCH[dimensions], "instance": INSTANCE[dimensions]}
        self.norm = kinds[normalisation](count, affine=True) if normalisation in kinds else nn.Identity()

    def forward(self, x: Any) -> Any:
        return nn.functional.relu(self.norm(self.conv(x)))


class Reference(nn.Module):
    """The same network, written as one trains it."""

    def __init__(self, dimensions: int, normalisation: str, convolutions: int) -> None:
        super().__init__()
        conv, rise, pool = LAYERS[dimensions]

        def block(before: int, count: int) -> Any:
            sizes = [before, *[count] * (convolutions - 1)]
            return nn.Sequential(*(Step(dimensions, size, count, normalisation) for size in sizes))

        a, b, c = FEATURES
        self.down = nn.ModuleList([block(1, a), block(a, b), block(b, c)])
        self.rise = nn.ModuleList([rise(b, a, 2, stride=2), rise(c, b, 2, stride=2)])
        self.up = nn.ModuleList([block(2 * a, a), block(2 * b, b)])
        self.head = conv(a, 2, 1)
        self.pool = pool(2)

    def forward(self, x: Any) -> Any:
        first = self.down[0](x)
        second = self.down[1](self.pool(first))
        third = self.down[2](self.pool(second))
        second = self.up[1](torch.cat([second, self.rise[1](third)], dim=1))
        return self.head(self.up[0](torch.cat([first, self.rise[0](second)], dim=1)))


def trained(dimensions: int, normalisation: str = "batch", convolutions: int = 2) -> Any:
    """A reference with weights and statistics as after training."""
    torch.manual_seed(7)
    network = Reference(dimensions, normalisation, convolutions)
    for _ in range(2):
        network(torch.rand(2, 1, *[8] * dimensions))
    return network.eval()


def opened(tmp_path: Path, weights: dict[str, Any], dimensions: int, more: str = "") -> LoadedModel:
    free = [-1] * dimensions
    network = f'architecture = "unet"\n[network]\nfeatures = {list(FEATURES)}\n{more}'
    content = files.save({name: tensor.contiguous() for name, tensor in weights.items()})
    shapes = ([-1, 1, *free], [-1, 2, *free])
    folder = write_torch_model(tmp_path, content, file="model.safetensors", more=network, shapes=shapes)
    return open_model(load_manifest(folder).card, folder, threads=1)


@pytest.mark.parametrize(
    ("dimensions", "normalisation", "convolutions"),
    [(2, "batch", 2), (2, "none", 1), (2, "instance", 3), (3, "batch", 2), (3, "instance", 1)],
)
def test_weights_give_what_the_trained_network_gives(
    tmp_path: Path, dimensions: int, normalisation: str, convolutions: int
) -> None:
    network = trained(dimensions, normalisation, convolutions)
    more = f'normalisation = "{normalisation}"\nconvolutions = {convolutions}'
    model = opened(tmp_path, network.state_dict(), dimensions, more)
    image = np.random.default_rng(1).random((2, 1, 8, 12, 16)[: dimensions + 2], np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(model.run(image), expected, rtol=1e-5, atol=1e-6)


def test_a_tensor_missing_too_many_of_another_shape_or_not_finite_is_refused(tmp_path: Path) -> None:
    weights = trained(2).state_dict()
    bad = weights["head.bias"].clone()
    bad[0] = float("nan")
    for changed, complaint in (
        ({name: tensor for name, tensor in weights.items() if name != "head.bias"}, "the file has no head.bias"),
        (weights | {"head.bias": torch.zeros(3)}, r"head.bias: expected \[2\], found \[3\]"),
        (weights | {"head.bias": bad}, "head.bias: expected finite numbers"),
        (weights | {"more": torch.zeros(1)}, "not in this network: 1"),
    ):
        with pytest.raises(ModelError, match=complaint):
            opened(tmp_path, changed, 2)


def test_half_precision_weights_run_in_single_precision(tmp_path: Path) -> None:
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in trained(2).state_dict().items()
    }
    assert opened(tmp_path, weights, 2).run(np.ones((1, 1, 8, 8), np.float32)).dtype == np.float32


def test_an_image_that_the_levels_do_not_divide_is_refused(tmp_path: Path) -> None:
    model = opened(tmp_path, trained(2).state_dict(), 2)
    with pytest.raises(ModelError, match=r"must be a multiple of 4, found \[8, 10\]"):
        model.run(np.ones((1, 1, 8, 10), np.float32))


def test_a_card_that_leaves_the_channels_open_is_refused(tmp_path: Path) -> None:
    content = files.save(trained(2).state_dict())
    more = 'architecture = "unet"'
    for shapes in (([-1, -1, -1, -1], [-1, 2, -1, -1]), ([-1, 1], [-1, 2])):
        folder = write_torch_model(tmp_path, content, file="model.safetensors", more=more, shapes=shapes)
        with pytest.raises(ModelError, match="channels in numbers"):
            open_model(load_manifest(folder).card, folder, threads=1)


def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = write_torch_model(tmp_path, b"", file="model.safetensors", more='architecture = "resnet"')
    with pytest.raises(ModelError, match="architecture must be one of unet"):
        load_manifest(folder)


def test_a_network_beyond_its_range_is_refused(tmp_path: Path) -> None:
    for table in ("features = [4]", "features = [4, 0]", "convolutions = 0", 'normalisation = "layer"'):
        more = f'architecture = "unet"\n[network]\n{table}'
        folder = write_torch_model(tmp_path, b"", file="model.safetensors", more=more)
        with pytest.raises(ModelError, match=table.split(maxsplit=1)[0]):
            load_manifest(folder)
