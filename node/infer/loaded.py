"""A model ready to run, whatever runs it: nothing goes in or comes out but what its card says."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from node.domain.models import ModelCard, Tensor
from node.errors import ModelError, ModelOutputError

__all__ = ["LoadedModel", "Run", "Tensors", "check_tensors"]

Tensors = Mapping[str, npt.NDArray[np.float32]]
Run = Callable[[Tensors, Sequence[str]], Sequence[object]]
"""What a backend gives: inputs and names of outputs in, those outputs back; `MemoryError` if there is no room."""


class LoadedModel:
    """A `node.api.Model`.

    Parameters
    ----------
    run
        The backend's way to run it.
    device
        Tells what it ran on, such as "CPU" or "CUDA", for the results.
    """

    __slots__ = ("_device", "_run", "card")

    def __init__(self, card: ModelCard, run: Run, device: Callable[[], str] = lambda: "CPU") -> None:
        self.card = card
        self._run = run
        self._device = device

    @property
    def device(self) -> str:
        """What it runs on; two names if a run had to go elsewhere."""
        return self._device()

    def run(self, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the model once: its first input in, its first output back.

        Raises
        ------
        ModelError
            If the input is not ``float32`` of the shape in the card.
        ModelOutputError
            If the output is empty, not finite or not of the shape in the card.
        MemoryError
            If the limit of the process is reached.
        """
        expected = self.card.inputs[0]
        (output,) = self._outputs({expected.name: _given(self.card, expected, tensor)}, self.card.outputs[:1])
        return output

    def run_all(self, inputs: Tensors) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once: every input of the card in, every output of the card back, by name.

        Raises
        ------
        ModelError
            If an input is missing, unknown, or not ``float32`` of the shape in the card.
        ModelOutputError, MemoryError
            As `run`.
        """
        names = [tensor.name for tensor in self.card.inputs]
        if set(inputs) != set(names):
            raise ModelError(f"{self.card.name}: expected the inputs {', '.join(names)}, found {', '.join(inputs)}")
        given = {tensor.name: _given(self.card, tensor, inputs[tensor.name]) for tensor in self.card.inputs}
        outputs = self._outputs(given, self.card.outputs)
        return {tensor.name: output for tensor, output in zip(self.card.outputs, outputs, strict=True)}

    def with_run(self, run: Run) -> "LoadedModel":
        """The same model, run in another way."""
        return LoadedModel(self.card, run, self._device)

    @property
    def takes_batches(self) -> bool:
        """True if the card leaves the first size of every input and output open: the rows of a batch."""
        return all(tensor.shape[0] == -1 for tensor in (*self.card.inputs, *self.card.outputs))

    def run_raw(self, inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        """Run it without looking at what comes out."""
        return self._run(inputs, names)

    def _outputs(self, inputs: Tensors, tensors: Sequence[Tensor]) -> list[npt.NDArray[np.float32]]:
        found = self._run(inputs, [tensor.name for tensor in tensors])
        return [_checked(self.card, tensor, output) for tensor, output in zip(tensors, found, strict=True)]


def check_tensors(
    card: ModelCard, role: str, expected: Sequence[Tensor], found: Mapping[str, Sequence[object]], *, source: str
) -> None:
    """Compare the tensors of a card with those that a model says it has.

    Parameters
    ----------
    role
        ``input`` or ``output``; outputs that the card does not name are left alone.
    found
        Shapes by name; a size that is open is -1, a text or None.
    source
        Who says so, such as "the file".

    Raises
    ------
    ModelError
        If one is missing, or has another shape than in the card.
    """
    for tensor in expected:
        if tensor.name not in found:
            known = ", ".join(found)
            raise ModelError(f"{card.name}: the card's {role} {tensor.name!r} is not in {source}: {known}")
        sizes = list(found[tensor.name])
        fixed = [size if isinstance(size, int) and size >= 0 else None for size in sizes]
        pairs = zip(tensor.shape, fixed, strict=False)
        if len(sizes) != len(tensor.shape) or any(real is not None and size not in (-1, real) for size, real in pairs):
            raise ModelError(f"{card.name}: {role} {tensor.name}: the card says {list(tensor.shape)}, {source} {sizes}")
    if role == "input" and len(found) != len(expected):
        raise ModelError(f"{card.name}: the card names {len(expected)} inputs, {source} has {len(found)}")


def _given(card: ModelCard, expected: Tensor, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if tensor.dtype != np.float32 or not _fits(tensor.shape, expected.shape):
        raise ModelError(
            f"{card.name}: input {expected.name}: expected float32{list(expected.shape)}, "
            f"found {tensor.dtype}{list(tensor.shape)}"
        )
    return np.ascontiguousarray(tensor)


def _checked(card: ModelCard, expected: Tensor, output: object) -> npt.NDArray[np.float32]:
    where = f"{card.name}: output {expected.name}"
    if not isinstance(output, np.ndarray) or output.dtype != np.float32:
        raise ModelOutputError(f"{where}: expected float32, found {getattr(output, 'dtype', type(output).__name__)}")
    if output.size == 0:
        raise ModelOutputError(f"{where} is empty")
    if not _fits(output.shape, expected.shape):
        raise ModelOutputError(f"{where}: expected shape {list(expected.shape)}, found {list(output.shape)}")
    if not np.isfinite(output).all():
        raise ModelOutputError(f"{where}: {int((~np.isfinite(output)).sum())} of {output.size} are not finite")
    return output


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(want in (-1, size) for size, want in zip(shape, expected, strict=True))
