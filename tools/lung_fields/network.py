"""The lung fields network: a small U-Net, 451 k parameters, 128 x 128 pixels in, two probabilities for each out.

Ronneberger et al., MICCAI 2015:234. Channel 0 is the lung at the image's left, channel 1 the one at its right.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Network", "loss"]

CHANNELS = (10, 20, 40, 80, 96)
SMOOTHING_PX = 8.0  # keeps Dice defined for a picture without lungs


class Network(nn.Module):
    """Logits ``float32[picture, 2, row, column]`` for pictures ``float32[picture, 1, row, column]``."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, *CHANNELS)
        self.down = nn.ModuleList(
            nn.Sequential(*_convolution(before, after), *_convolution(after, after))
            for before, after in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.Sequential(*_convolution(below + beside, beside))
            for below, beside in zip(CHANNELS[::-1], CHANNELS[-2::-1], strict=False)
        )
        self.last = nn.Conv2d(CHANNELS[0], 2, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Run the network; rows and columns must be multiples of 16."""
        kept: list[Tensor] = []
        for number, block in enumerate(self.down):
            pictures = block(functional.max_pool2d(pictures, 2) if number else pictures)
            kept.append(pictures)
        kept.pop()
        for block in self.up:
            finer = functional.interpolate(pictures, scale_factor=2.0, mode="nearest")
            pictures = block(torch.cat([finer, kept.pop()], dim=1))
        logits: Tensor = self.last(pictures)
        return logits


def loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy plus one minus Dice, the mean over pictures and sides."""
    found = logits.sigmoid()
    both = (found * truth).sum((2, 3))
    dice = (2 * both + SMOOTHING_PX) / (found.sum((2, 3)) + truth.sum((2, 3)) + SMOOTHING_PX)
    return functional.binary_cross_entropy_with_logits(logits, truth) + (1.0 - dice).mean()


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
