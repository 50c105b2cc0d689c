"""Draw the architecture from the imports: `python scripts/draw_architecture.py`.

Floors are the layers that import-linter checks (pyproject.toml); rooms are packages and modules. An
arrow is an import of one room by another; arrows that follow from others through a third room are
left out. The picture is docs/architecture.svg. With `--check` nothing is written, and an outdated
picture is an error.
"""

from __future__ import annotations

import itertools
import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import grimp
import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "seqcells"}
WIDTH, HEIGHT = 2.2, 0.55  # size of a room
ACROSS, DOWN = 2.5, 1.15  # from one room to the next
COLOURS = ("#2f6690", "#b5651d", "#3a7d44", "#7b4b94", "#a23b3b", "#5c6b73")


class House(NamedTuple):
    """The rooms of each floor, the highest floor first, and the imports between rooms."""

    floors: list[list[str]]
    arrows: set[tuple[str, str]]  # (the room that imports, the room that is imported)


def read() -> House:
    """Read the floors from pyproject.toml and the arrows from the imports."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    contract = next(c for c in settings["contracts"] if c["type"] == "layers")
    floors = [[room.strip() for room in floor.split("|")] for floor in contract["layers"]]
    graph = grimp.build_graph(
        *settings["root_packages"], exclude_type_checking_imports=True, cache_dir=None
    )
    within = {room: {room} | graph.find_descendants(room) for floor in floors for room in floor}
    imports = {
        (a, b)
        for a, b in itertools.permutations(within, 2)
        if any(graph.find_modules_directly_imported_by(m) & within[b] for m in within[a])
    }
    return House(floors, without_implied(imports))


def without_implied(imports: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Leave out each import that follows from a chain of two others."""
    reach = set(imports)
    while (
        longer := {(a, d) for (a, b), (c, d) in itertools.product(reach, reach) if b == c} - reach
    ):
        reach |= longer
    rooms = {room for pair in imports for room in pair}
    return {
        (a, b) for a, b in imports if not any((a, c) in reach and (c, b) in reach for c in rooms)
    }


def places(house: House) -> dict[str, tuple[float, float]]:
    """Place each floor in a row, its rooms below those that import them."""
    widest = max(map(len, house.floors))
    found: dict[str, tuple[float, float]] = {}
    for row, floor in enumerate(house.floors):

        def above(room: str) -> float:
            xs = [found[a][0] for a, b in house.arrows if b == room and a in found]
            return sum(xs) / len(xs) if xs else ACROSS * widest / 2

        for column, room in enumerate(sorted(floor, key=above)):
            found[room] = ((column + (widest - len(floor)) / 2) * ACROSS, -row * DOWN)
    return found


def draw(house: House, path: Path) -> None:
    """Draw the floors as rows of rooms, and the arrows behind them."""
    at = places(house)
    widest = max(map(len, house.floors))
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(widest * ACROSS, len(house.floors) * DOWN))
        for room, (x, y) in at.items():
            box = FancyBboxPatch(
                (x, y), WIDTH, HEIGHT, "round,pad=0.04", fc="#f4f7fa", ec="#4a6a8a"
            )
            axes.add_patch(box)
            name = room.removeprefix("seqcells.")
            axes.text(x + WIDTH / 2, y + HEIGHT / 2, name, ha="center", va="center", fontsize=11)
        rooms = list(at)
        for a, b in sorted(house.arrows):
            start = (at[a][0] + WIDTH / 2, at[a][1])
            end = (at[b][0] + WIDTH / 2, at[b][1] + HEIGHT + 0.05)
            colour = COLOURS[rooms.index(a) % len(COLOURS)]
            arrow = FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=10, color=colour, zorder=0.5
            )
            arrow.set_gid(f"{a}->{b}")
            axes.add_patch(arrow)
        axes.set_xlim(-0.2, widest * ACROSS)
        axes.set_ylim(-len(house.floors) * DOWN + 0.9, DOWN)
        axes.set_axis_off()
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)


def drawn(path: Path) -> House:
    """Read back what a picture shows: its arrows, and its rooms as one floor."""
    text = path.read_text("utf-8") if path.exists() else ""
    arrows = re.findall(r'id="([\w.]+)-&gt;([\w.]+)"', text)
    return House([re.findall(r">([\w.]+)</text>", text)], set(arrows))


def main(arguments: list[str]) -> int:
    """Draw the picture, or check the existing one; return the exit code."""
    house = read()
    if arguments != ["--check"]:
        draw(house, PICTURE)
        return 0
    there = drawn(PICTURE)
    rooms = {room.removeprefix("seqcells.") for floor in house.floors for room in floor}
    if there.arrows == house.arrows and set(there.floors[0]) == rooms:
        return 0
    print(f"{PICTURE.name}: expected today's imports; draw it again: python {sys.argv[0]}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
