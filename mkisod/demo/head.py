"""The pixels of the phantom: a head made of ellipsoids, cut into axial slices. Computed, so there is nobody whose head it is."""

from __future__ import annotations

import sys
from array import array
from math import sqrt

from attrs import frozen


@frozen
class _Ellipsoid:
    """Centre and half axes in units of half the field of view: x to the patient's left, y to the back, z to the top."""

    x: float
    y: float
    z: float
    half_x: float
    half_y: float
    half_z: float
    tissue: str


# Drawn in this order, each over those before it.
_HEAD = (
    _Ellipsoid(0, 0, 0, 0.72, 0.90, 0.95, "scalp"),
    _Ellipsoid(0, 0, 0, 0.68, 0.86, 0.91, "bone"),
    _Ellipsoid(0, 0, 0, 0.63, 0.80, 0.85, "brain"),
    _Ellipsoid(-0.12, -0.05, 0.1, 0.07, 0.30, 0.22, "fluid"),
    _Ellipsoid(0.12, -0.05, 0.1, 0.07, 0.30, 0.22, "fluid"),
    _Ellipsoid(-0.30, -0.72, -0.35, 0.16, 0.15, 0.14, "fluid"),
    _Ellipsoid(0.30, -0.72, -0.35, 0.16, 0.15, 0.14, "fluid"),
    _Ellipsoid(0, -0.80, -0.45, 0.10, 0.12, 0.12, "air"),
    _Ellipsoid(0.30, 0.30, 0.25, 0.10, 0.09, 0.12, "lesion"),
)

# Stored values. CT: Hounsfield units plus 1,024. MR: a T2-weighted impression, in arbitrary units.
CT_VALUES = {"air": 24, "scalp": 1074, "bone": 1924, "brain": 1059, "fluid": 1029, "lesion": 1084}
MR_VALUES = {"air": 8, "scalp": 420, "bone": 40, "brain": 300, "fluid": 900, "lesion": 640}


def draw_slice(rows: int, columns: int, z: float, values: dict[str, int]) -> bytes:
    """The slice at `z` (-1 bottom, 1 top) as rows x columns unsigned values of 16 bits, little endian."""
    pixels = array("H", [values["air"]]) * (rows * columns)
    for part in _HEAD:
        height = 1 - ((z - part.z) / part.half_z) ** 2
        if height <= 0:
            continue
        value = array("H", [values[part.tissue]])
        for row in range(rows):
            y = (2 * row + 1) / rows - 1
            width = height - ((y - part.y) / part.half_y) ** 2
            if width <= 0:
                continue
            reach = part.half_x * sqrt(width)
            first = max(round((part.x - reach + 1) / 2 * columns), 0)
            last = min(round((part.x + reach + 1) / 2 * columns), columns)
            if last > first:
                pixels[row * columns + first : row * columns + last] = value * (last - first)
    if sys.byteorder == "big":
        pixels.byteswap()
    return pixels.tobytes()
