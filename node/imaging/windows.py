"""Windows that show one kind of tissue: grey levels of HU or any other values between black and white."""

from types import MappingProxyType

import numpy as np

from node.domain.volume import Pixels

__all__ = ["CT_WINDOWS", "window"]

# Centre and width in HU. No standard sets them; these are the presets that CT consoles are delivered with.
CT_WINDOWS = MappingProxyType(
    {
        "lung": (-600.0, 1500.0),
        "mediastinum": (40.0, 400.0),
        "abdomen": (50.0, 400.0),
        "liver": (70.0, 150.0),
        "brain": (40.0, 80.0),
        "subdural": (75.0, 215.0),
        "bone": (500.0, 2000.0),
    }
)


def window(values: Pixels, centre: float, width: float) -> Pixels:
    """Show values as a window does: 0 is black, 1 is white, linear between.

    Parameters
    ----------
    values
        Any shape; HU, or the unit of `centre` and `width`.
    width
        Above 0.

    References
    ----------
    PS3.3 C.11.2.1.3.2 (VOI LUT Function LINEAR_EXACT). How a header's own window is applied: node/dicom/pixels.py.
    """
    if not width > 0:
        raise ValueError(f"expected a window width above 0, found {width}")
    shown = (values - np.float32(centre)) / np.float32(width) + np.float32(0.5)
    return np.asarray(np.clip(shown, 0.0, 1.0), np.float32)
