"""Writes kernels/quant/grid_points.inc: the grids of the IQ tensor types as bit sets.

Each grid is a set of points of a small lattice ({0,1,2}^8 or {0..7}^4), listed in ascending order when a point is
read as a number whose first coordinate is the lowest digit. So one bit for each lattice point holds it all.

Needs the packages of scripts/golden/requirements.txt. Usage: python scripts/generate/iq_grids.py
"""

from pathlib import Path

import gguf.quants as quants
import numpy as np

GRIDS = [
    ("iq2_xxs", quants.IQ2_XXS),
    ("iq2_xs", quants.IQ2_XS),
    ("iq2_s", quants.IQ2_S),
    ("iq3_xxs", quants.IQ3_XXS),
    ("iq3_s", quants.IQ3_S),
    ("iq1", quants.IQ1_S),
]


def main():
    lines = ["// Made by scripts/generate/iq_grids.py: which lattice points belong to each grid, 64 to a word."]
    for name, kind in GRIDS:
        kind.init_grid()
        values = list(kind.grid_map)
        base = len(values)
        digits = np.vectorize(values.index)(kind.grid.reshape(kind.grid_shape))
        points = (digits * base ** np.arange(kind.grid_shape[1])).sum(axis=1)
        assert (np.diff(points) > 0).all(), f"{name} is not in ascending order"
        words = [0] * ((base ** kind.grid_shape[1] + 63) // 64)
        for point in points:
            words[point // 64] |= 1 << (int(point) % 64)
        lines.append(f"constexpr uint64_t {name}_points[] = {{")
        for i in range(0, len(words), 5):
            lines.append("    " + " ".join(f"{word:#x}," for word in words[i : i + 5]))
        lines.append("};")
    path = Path(__file__).parents[2] / "kernels/quant/grid_points.inc"
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
