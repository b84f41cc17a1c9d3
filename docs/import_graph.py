"""Draw the package's import graph from its code, or check it against the layers.

python docs/import_graph.py            # draws docs/images/import_graph.svg
python docs/import_graph.py --check    # says what breaks the layers, and exits 1 if anything does
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a script: let the import below find its neighbour
    sys.path.insert(0, str(HERE.parent))

from docs.import_layers import (  # noqa: E402
    GROUND,
    LAYERS,
    PUBLIC,
    RUN,
    Module,
    arrow_problems,
    layer,
    problems,
    read_package,
)

PACKAGE = HERE.parent / "paddle_warm_callbacks"
PICTURE = HERE / "images" / "import_graph.svg"

ABOUT = {
    "ground": "exceptions, positions, checks of arguments and patterns; standard library only",
    "plan": "pure decisions over plain records; its subjects do not import each other",
    "checkpoint": "bytes: numpy and fsspec, no Paddle",
    "hapi": "the only room that knows Paddle's private names",
    "callbacks": "one class a file: ask a plan, delegate",
    "config": "from configuration to callbacks",
    "cli": "commands",
    "public names": "import paddle_warm_callbacks: each name is imported when it is first touched",
}
COLOURS = {
    "ground": "#64748b",
    "plan": "#0f766e",
    "checkpoint": "#1d4ed8",
    "hapi": "#b45309",
    "callbacks": "#9d174d",
    "config": "#6d28d9",
    "cli": "#6d28d9",
    "public names": "#334155",
}
WRONG = "#dc2626"

# The picture: a band for each room, the highest layer on top. In a band importers stand above what they import, and
# thin threads join them; the rows step to the right so that a long thread passes beside the rows between. Arrows from
# band to band run in lanes of their own on the right, so that none crosses a name.
_WIDTH, _LEFT, _LANE = 1010, 20, 30
_CHIP, _ROW, _TITLE, _GAP, _STEP, _BETWEEN = 24, 44, 44, 20, 84, 14


@dataclass(frozen=True)
class Chip:
    """A module's place in the picture, in pixels from the upper left corner."""

    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        """The middle from left to right."""
        return self.x + self.width / 2


def draw(modules: Mapping[str, Module]) -> str:
    """Return the graph as an SVG of text, boxes and arrows; what breaks a rule is red."""
    rooms = [room for rooms in reversed(LAYERS) for room in rooms]
    rooms += sorted({module.room for module in modules.values()} - set(rooms))
    rooms = [room for room in rooms if any(module.room == room for module in modules.values())]
    chips: dict[str, Chip] = {}
    bands: dict[str, tuple[float, float]] = {}
    top = 74.0
    for room in rooms:
        rows = _rows(room, modules)
        for number, row in enumerate(rows):
            chips.update(_placed(row, top + _TITLE + number * _ROW, number, len(rows), chips, modules))
        height = _TITLE + len(rows) * _ROW
        bands[room] = (top, height)
        top += height + _GAP
    lanes = _lanes(rooms, modules)
    body = [*_heading(modules), *(_band(room, *bands[room]) for room in rooms)]
    for name in chips:
        inside = sorted(
            other for other in modules[name].imports & chips.keys() if _same_room(name, other, modules)
        )
        body += [_thread(name, other, chips, modules) for other in inside]
    body += [_box(name, chip, modules) for name, chip in chips.items()]
    body += _arrows(lanes, bands)
    return _svg(_LEFT + _WIDTH + 50 + _LANE * len(lanes), top + 4, body)


def _same_room(name: str, other: str, modules: Mapping[str, Module]) -> bool:
    return modules[name].room == modules[other].room


def _label(name: str) -> str:
    if name == PUBLIC:
        return "paddle_warm_callbacks"
    return name if name in (*GROUND, RUN) else name.partition(".")[2] or f"{name}/__init__"


def _width(name: str) -> float:
    return 18 + 7.0 * len(_label(name))


def _colour(room: str) -> str:
    return COLOURS.get(room, WRONG)


def _rows(room: str, modules: Mapping[str, Module]) -> list[list[str]]:
    """Divide a room's modules into rows, each importing from rows below it; long rows are folded."""
    # A room's own __init__ that imports nothing only holds the room's docstring.
    inside = [
        name for name, module in modules.items() if module.room == room and (name != room or module.imports)
    ]
    height: dict[str, int] = {}

    def measure(name: str, path: tuple[str, ...]) -> int:
        if name not in height:
            below = [other for other in modules[name].imports if other in inside and other not in path]
            height[name] = max((measure(other, (*path, other)) + 1 for other in below), default=0)
        return height[name]

    for name in inside:
        measure(name, (name,))
    rows: list[list[str]] = []
    for level in range(max(height.values(), default=0), -1, -1):
        rows.append([])
        used = 0.0
        for name in (name for name in inside if height[name] == level):
            used += _width(name) + _BETWEEN
            if used > _WIDTH - 36:
                rows.append([])
                used = _width(name) + _BETWEEN
            rows[-1].append(name)
    return rows


def _placed(
    row: Sequence[str],
    y: float,
    number: int,
    rows: int,
    chips: Mapping[str, Chip],
    modules: Mapping[str, Module],
) -> dict[str, Chip]:
    """Place a row: each module below its importers and a step to the right, but for the last row, which spreads out."""
    last = number == rows - 1

    def wanted(name: str) -> float:
        above = [chip.middle for user, chip in chips.items()
                 if name in modules[user].imports and _same_room(user, name, modules)]  # fmt: skip
        return sum(above) / len(above) + (0 if last else _STEP) if above else float("inf")

    order = sorted(row, key=lambda name: (wanted(name), name))
    left, right = _LEFT + 18.0, _LEFT + _WIDTH - 18.0
    spare = right - left - sum(map(_width, row))
    between = min(spare / max(len(row) - 1, 1), 44.0) if last and rows > 1 else float(_BETWEEN)
    xs: list[float] = []
    for name in order:
        first_free = xs[-1] + _width(order[len(xs) - 1]) + between if xs else left
        middle = left if last or wanted(name) == float("inf") else wanted(name)
        xs.append(max(first_free, middle - _width(name) / 2))
    over = max(xs[-1] + _width(order[-1]) - right, 0.0)
    return {name: Chip(max(x - over, left), y, _width(name)) for name, x in zip(order, xs)}


def _lanes(rooms: Sequence[str], modules: Mapping[str, Module]) -> list[tuple[str, str, list[str]]]:
    """List (from room, to room, the imports between them), the shortest ways nearest to the rooms."""
    between: dict[tuple[str, str], list[str]] = {}
    for name, module in modules.items():
        for other in sorted(module.imports & modules.keys()):
            if modules[other].room != module.room:
                between.setdefault((module.room, modules[other].room), []).append(f"{name} -> {other}")
    place = {room: number for number, room in enumerate(rooms)}
    order = sorted(between, key=lambda pair: (abs(place[pair[1]] - place[pair[0]]), place[pair[0]]))
    return [(start, end, between[start, end]) for start, end in order]


def _heading(modules: Mapping[str, Module]) -> list[str]:
    wrong = problems(modules)
    arrows = sum(len(module.imports & modules.keys()) for module in modules.values())
    verdict = f"{len(wrong)} problems" if wrong else "no cycle, no arrow upward or sideways"
    about = (
        f"{len(modules)} modules, {arrows} imports, drawn from the code: {verdict}. "
        "The number on an arrow counts imports; point at a name or an arrow to read them."
    )
    title = f'<text x="{_LEFT}" y="32" class="h">Who imports whom in paddle_warm_callbacks</text>'
    return [title, f'<text x="{_LEFT}" y="54" class="s">{about}</text>']


def _band(room: str, top: float, height: float) -> str:
    title = room if room in ("ground", "public names") else f"{room}/"
    return (
        f'<rect x="{_LEFT}" y="{top:.0f}" width="{_WIDTH}" height="{height:.0f}" rx="8" fill="{_colour(room)}" '
        f'fill-opacity="0.07" stroke="{_colour(room)}" stroke-opacity="0.5"/>'
        f'<text x="{_LEFT + 18}" y="{top + 26:.0f}" class="r" fill="{_colour(room)}">{layer(room)}</text>'
        f'<text x="{_LEFT + 40}" y="{top + 26:.0f}" class="r" fill="{_colour(room)}">{escape(title)}</text>'
        f'<text x="{_LEFT + 170}" y="{top + 26:.0f}" class="s">{escape(ABOUT.get(room, "in no layer"))}</text>'
    )


def _box(name: str, chip: Chip, modules: Mapping[str, Module]) -> str:
    tip = "\n".join([name, *(f"  imports {other}" for other in sorted(modules[name].imports))])
    return (
        f'<g><title>{escape(tip)}</title><rect x="{chip.x:.0f}" y="{chip.y:.0f}" width="{chip.width:.0f}" '
        f'height="{_CHIP}" rx="5" fill="#ffffff" stroke="{_colour(modules[name].room)}"/>'
        f'<text x="{chip.middle:.0f}" y="{chip.y + 16:.0f}" class="m">{escape(_label(name))}</text></g>'
    )


def _thread(name: str, other: str, chips: Mapping[str, Chip], modules: Mapping[str, Module]) -> str:
    start, end = chips[name], chips[other]
    wrong = bool(arrow_problems(modules[name], modules[other])) or start.y >= end.y
    x1, y1, x2, y2 = start.middle, start.y + _CHIP, end.middle, end.y - 2
    bend = max((y2 - y1) / 2, 14)
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}" '
        f'fill="none" stroke="{WRONG if wrong else _colour(modules[name].room)}" stroke-opacity="0.6" '
        f'marker-end="url(#{"bad" if wrong else "tip"})"><title>{escape(f"{name} -> {other}")}</title></path>'
    )


def _arrows(
    lanes: Sequence[tuple[str, str, list[str]]], bands: Mapping[str, tuple[float, float]]
) -> list[str]:
    """Draw each lane's arrow; arrows arrive in a band's upper half and leave from its lower half."""
    drawn = []
    edge = _LEFT + _WIDTH
    for number, (start, end, imports) in enumerate(lanes):
        leaving = [pair for pair in lanes if pair[0] == start]
        arriving = [pair for pair in lanes if pair[1] == end]
        # Farther lanes leave higher and arrive lower than nearer ones, which keeps them from crossing.
        leave = (len(leaving) - leaving.index(lanes[number])) / (len(leaving) + 1)
        arrive = (arriving.index(lanes[number]) + 1) / (len(arriving) + 1)
        y1 = bands[start][0] + bands[start][1] * (0.5 + 0.5 * leave)
        y2 = bands[end][0] + bands[end][1] * 0.5 * arrive
        wrong = layer(start) <= layer(end)
        colour = WRONG if wrong else _colour(start)
        x = edge + 30 + number * _LANE
        turn = 6 if y2 > y1 else -6
        drawn.append(
            f'<g><title>{escape(chr(10).join(imports))}</title><path d="M{edge} {y1:.0f} H{x - 6} '
            f"Q{x} {y1:.0f} {x} {y1 + turn:.0f} V{y2 - turn:.0f} Q{x} {y2:.0f} {x - 6} {y2:.0f} "
            f'H{edge + 4}" fill="none" stroke="{colour}" stroke-width="1.6" '
            f'marker-end="url(#{"bad" if wrong else "tip"})"/>'
            f'<rect x="{x - 12}" y="{y1 + 2.4 * turn - 8:.0f}" width="24" height="16" rx="8" fill="#ffffff" '
            f'stroke="{colour}"/><text x="{x}" y="{y1 + 2.4 * turn + 4:.0f}" class="n" fill="{colour}">'
            f"{len(imports)}</text></g>"
        )
    return drawn


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    style = (
        "text{font-family:Helvetica,Arial,sans-serif}.h{font-size:20px;font-weight:bold}"
        ".s{font-size:12px;fill:#475569}.r{font-size:15px;font-weight:bold}"
        ".m{font-family:Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11.5px;text-anchor:middle}"
        ".n{font-size:10.5px;text-anchor:middle;font-weight:bold}"
    )
    markers = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
        for name, colour in (("tip", "#475569"), ("bad", WRONG))
    )
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{style}</style><defs>{markers}</defs>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *body,
            "</svg>\n",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the graph, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description="Draw or check the package's import graph.")
    parser.add_argument("--check", action="store_true", help="draw nothing; exit 1 if the layers are broken")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="folder of the package to read")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where to draw")
    options = parser.parse_args(arguments)
    modules = read_package(options.package)
    if options.check:
        wrong = problems(modules)
        sys.stdout.write(
            "".join(f"{line}\n" for line in wrong or [f"{len(modules)} modules: the layers hold"])
        )
        return 1 if wrong else 0
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(draw(modules), encoding="utf-8")
    sys.stdout.write(f"{options.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
