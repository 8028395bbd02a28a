"""Train the lung fields network and write ``model.onnx``: ``python -m tools.lung_fields.train FOLDER``.

Steps, seeds and threads are fixed, and every picture is made from (seed, index): on one processor type, with
the versions in requirements.txt, the same bytes come out again.
"""

import argparse
import copy
import hashlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tools.lung_fields.generate import SIZE_PX, example
from tools.lung_fields.network import Network, loss
from tools.lung_fields.outlines import Outlines, fetch_outlines, read_outlines, split

__all__ = ["train"]

SEED = 20261122
PICTURES, STEPS, BATCH = 6400, 1200, 16
PROCESSES = THREADS = 2
RATE, DECAY, LARGEST_GRADIENT = 3e-3, 1e-4, 5.0
AVERAGING = 0.99  # of the weights that are kept: a running mean over the last hundred steps
TESTED = 25 * BATCH  # pictures from outlines that training never saw
OPSET = 17


class Pool:
    """Pictures made beforehand; number n of a seed is always the same one."""

    def __init__(self, outlines: Outlines, seed: int, count: int) -> None:
        self.pictures = np.empty((count, 1, SIZE_PX, SIZE_PX), dtype=np.float16)
        self.truth = np.empty((count, 2, SIZE_PX, SIZE_PX), dtype=np.bool_)
        with ProcessPoolExecutor(PROCESSES) as processes:
            made = processes.map(partial(example, outlines, seed), range(count), chunksize=50)
            for index, (picture, truth) in enumerate(made):
                self.pictures[index, 0], self.truth[index] = picture, truth > 0.5
                if index % 1000 == 0:
                    _say(f"picture {index} of {count}")

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Pictures and truth as they were made."""
        pictures, truth = self.pictures[indices].astype(np.float32), self.truth[indices].astype(np.float32)
        return torch.from_numpy(pictures), torch.from_numpy(truth)

    def varied(self, indices: npt.NDArray[np.intp], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """As `batch`, each mirrored or not, with another level, contrast and noise every time."""
        pictures, truth = self.pictures[indices].astype(np.float32), self.truth[indices].astype(np.float32)
        for picture, sides in zip(pictures, truth, strict=True):
            if rng.random() < 0.5:
                picture[:], sides[:] = picture[:, :, ::-1].copy(), sides[::-1, :, ::-1].copy()
            noise = rng.normal(size=(SIZE_PX, SIZE_PX)).astype(np.float32) * rng.uniform(0.0, 0.06)
            picture[:] = picture * rng.uniform(0.85, 1.15) + 0.1 * rng.normal() + noise
        return torch.from_numpy(pictures), torch.from_numpy(truth)


class Exported(nn.Module):
    """The network as it is shipped: probabilities, not logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Probabilities for both lungs."""
        found: Tensor = self.network(pictures).sigmoid()
        return found


def train(outlines: Outlines, steps: int, count: int) -> Network:
    """Train on the outlines given; the mean of the last weights is returned."""
    pool, rng = Pool(outlines, SEED, count), np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)
    network = Network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    started, running = time.monotonic(), 0.0
    waiting = np.empty(0, dtype=np.intp)
    for step in range(steps):
        if len(waiting) < BATCH:
            waiting = rng.permutation(count)
        pictures, truth = pool.varied(waiting[:BATCH], rng)
        waiting = waiting[BATCH:]
        network.train()
        value = loss(network(pictures.contiguous(memory_format=torch.channels_last)), truth)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        _average(mean, network, min(AVERAGING, (step + 1) / (step + 10)))
        running = 0.98 * running + 0.02 * value.item() if step else value.item()
        if step % 50 == 0:
            _say(f"step {step} of {steps}, loss {running:.3f}, {time.monotonic() - started:.0f} s")
    return mean


def export(network: Network, path: Path) -> None:
    """Write the network as ONNX; any number of pictures may be run at once."""
    exported = Exported(network).eval()
    exported.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    torch.onnx.export(
        exported,
        (torch.zeros(1, 1, SIZE_PX, SIZE_PX),),
        str(path),
        input_names=["picture"],
        output_names=["lungs"],
        dynamic_axes={"picture": {0: "pictures"}, "lungs": {0: "pictures"}},
        opset_version=OPSET,
        dynamo=False,
    )


def tested(network: Network, outlines: Outlines) -> str:
    """Dice on pictures from held-out outlines, and how often lungs are seen where there are none."""
    dice, seen = [], []
    pool = Pool(outlines, SEED + 1, TESTED)
    for start in range(0, TESTED, BATCH):
        pictures, truth = pool.batch(np.arange(start, start + BATCH))
        with torch.no_grad():
            found = network(pictures).amax(1) > 0
        for one, other in zip(found, truth.amax(1) > 0.5, strict=True):
            if other.any():
                dice.append(2.0 * float((one & other).sum()) / float(one.sum() + other.sum()))
            else:
                seen.append(float(one.float().mean()))
    low, middle = np.percentile(dice, [5, 50])
    return (
        f"held-out outlines: Dice mean {np.mean(dice):.4f}, median {middle:.4f}, 5th percentile {low:.4f}, "
        f"n {len(dice)}; without lungs: more than 5 % of the picture seen as lung in "
        f"{int(np.sum(np.array(seen) > 0.05))} of {len(seen)}"
    )


def _average(mean: nn.Module, network: nn.Module, share: float) -> None:
    with torch.no_grad():
        for kept, new in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.mul_(share).add_(new, alpha=1.0 - share)
            else:
                kept.copy_(new)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fetch the outlines, train, write the model, say its hash and what it reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="where model.onnx is written")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"{STEPS} for the model that is shipped")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"{PICTURES} for the model that is shipped")
    parser.add_argument("--outlines", type=Path, help="the zip of masks, if it is there already")
    asked = parser.parse_args()
    outlines = read_outlines(asked.outlines.read_bytes()) if asked.outlines else fetch_outlines()
    seen, held_out = split(outlines, SEED)
    _say(f"{len(seen)} outlines for training, {len(held_out)} held out")
    network = train(seen, asked.steps, asked.pictures)
    path = asked.folder / "model.onnx"
    export(network, path)
    _say(tested(network, held_out))
    _say(f"{path.name}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
