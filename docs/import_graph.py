"""The package's import graph: hold it to its layers, and draw it.

    python docs/import_graph.py            # draws docs/images/import_graph.svg from the code
    python docs/import_graph.py --check    # says what breaks the layers, and exits 1 if anything does

Every import statement counts, also one inside a function or under ``TYPE_CHECKING``: what a file must know to be
understood is what it depends on.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "paddle_warm_callbacks"
PICTURE = HERE / "images" / "import_graph.svg"

# From the ground up; rooms of one layer do not know each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("ground",),
    ("plan",),
    ("checkpoint",),
    ("hapi",),
    ("callbacks",),
    ("config", "cli"),
    ("public names",),
)
# The modules that lie beside the rooms, and the package itself, which only re-exports.
GROUND = frozenset({"errors", "progress", "arguments", "patterns"})
PUBLIC = "__init__"
ABOUT = {
    "ground": "exceptions, positions, checks of arguments; standard library only",
    "plan": "pure decisions over plain records; its subjects do not import each other",
    "checkpoint": "bytes: numpy and fsspec, no Paddle",
    "hapi": "the only room that knows Paddle's private names",
    "callbacks": "one class a file: ask a plan, delegate",
    "config": "configuration to callbacks",
    "cli": "commands",
    "public names": "import paddle_warm_callbacks: everything is imported when first touched",
}
MAY_IMPORT_PADDLE = frozenset({"hapi", "callbacks"})
MAY_KNOW_PRIVATE_NAMES = frozenset({"hapi"})
PRIVATE_NAMES = frozenset(
    {"_run_one_epoch", "_adapter", "_accumulators", "_learning_rate", "optimize_attr", "_use_global_stats"}
)
PURE = frozenset({"ground", "plan"})
# Nothing here reads a file, a clock, an environment or a random number.
PURE_IMPORTS = frozenset(
    {
        "__future__",
        "abc",
        "bisect",
        "collections",
        "dataclasses",
        "difflib",
        "enum",
        "functools",
        "html",
        "itertools",
    }
    | {"math", "operator", "re", "string", "textwrap", "types", "typing"}
)
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})
NEVER_IMPORTED = frozenset({"recipes", "tests", "docs", "benchmarks"})


@dataclass(frozen=True)
class Module:
    """One file of the package, as its syntax tells it.

    Attributes:
        name: Dotted name below the package, such as "plan.stages".
        imports: Names of the package's modules it imports.
        foreign: Top-level names of everything else it imports; "." for a relative import.
        names: Every identifier and whole string in it.
        calls: Names it calls as plain functions.
    """

    name: str
    imports: frozenset[str]
    foreign: frozenset[str]
    names: frozenset[str]
    calls: frozenset[str]

    @property
    def room(self) -> str:
        """The room it lies in, or its own name if it lies in none that is known."""
        if self.name in GROUND:
            return "ground"
        return "public names" if self.name == PUBLIC else self.name.split(".")[0]

    @property
    def subject(self) -> str:
        """Its room's part that may be split over several files: plan.transplant of plan.transplant.rows."""
        return ".".join(self.name.split(".")[:2])


def layer(room: str) -> int:
    """Return the room's layer, from 0; -1 for a room that is in none."""
    return next((number for number, rooms in enumerate(LAYERS) if room in rooms), -1)


def read_package(package: Path) -> dict[str, Module]:
    """Parse every file of a package; nothing of it is executed."""
    paths = {_name(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: _module(name, path, package.name, frozenset(paths)) for name, path in paths.items()}


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _module(name: str, path: Path, package: str, known: frozenset[str]) -> Module:
    imports: set[str] = set()
    foreign: set[str] = set()
    names: set[str] = set()
    calls: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            _sort((alias.name for alias in node.names), package, known, imports, foreign)
        elif isinstance(node, ast.ImportFrom):
            origins = ["." if node.level else f"{node.module}.{alias.name}" for alias in node.names]
            _sort(origins, package, known, imports, foreign)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            calls.add(node.func.id)
    return Module(name, frozenset(imports - {name}), frozenset(foreign), frozenset(names), frozenset(calls))


def _sort(
    origins: Iterable[str], package: str, known: frozenset[str], imports: set[str], foreign: set[str]
) -> None:
    for origin in origins:
        top, _, rest = origin.partition(".")
        if top != package:
            foreign.add(top or ".")
            continue
        # "from package.room import x": x is a module, or something in the module before it.
        parts = rest.split(".") if rest else []
        module = next(
            (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), PUBLIC
        )
        imports.add(module)


def problems(modules: Mapping[str, Module]) -> list[str]:
    """Return a sentence for everything that breaks the layers; none if the house stands as designed."""
    found = [f"{name}: its room {module.room!r} is in no layer" for name, module in modules.items()
             if layer(module.room) < 0]  # fmt: skip
    for name, module in modules.items():
        for other in sorted(module.imports & modules.keys()):
            found += _arrow_problems(module, modules[other])
        found += _foreign_problems(name, module)
    found += [f"a cycle: {' -> '.join([*loop, loop[0]])}" for loop in cycles(modules)]
    return found


def _arrow_problems(module: Module, other: Module) -> list[str]:
    arrow = f"{module.name} -> {other.name}"
    below, above = layer(module.room), layer(other.room)
    if below < above:
        return [f"an arrow upward: {arrow} (layer {below} to {above})"]
    if below == above and module.room != other.room:
        return [f"an arrow sideways: {arrow} (both in layer {below})"]
    if module.room == other.room == "plan" and "plan" != other.name and module.subject != other.subject:
        return [f"an arrow sideways: {arrow} (subjects of plan do not import each other)"]
    return []


def _foreign_problems(name: str, module: Module) -> list[str]:
    found = [
        f"{name} imports {top}, which is no part of the package"
        for top in sorted(module.foreign & NEVER_IMPORTED)
    ]
    if "." in module.foreign:
        found.append(f"{name} imports by a relative name")
    if "paddle" in module.foreign and module.room not in MAY_IMPORT_PADDLE:
        found.append(f"{name} imports paddle: only {', '.join(sorted(MAY_IMPORT_PADDLE))} may")
    if module.room not in MAY_KNOW_PRIVATE_NAMES:
        found += [f"{name} knows Paddle's private {word}" for word in sorted(module.names & PRIVATE_NAMES)]
    if module.room in PURE:
        impure = module.foreign - PURE_IMPORTS - {"paddle", "."} - NEVER_IMPORTED
        found += [f"{name} imports {top}: {module.room} is pure" for top in sorted(impure)]
        found += [
            f"{name} calls {call}(): {module.room} is pure" for call in sorted(module.calls & IMPURE_CALLS)
        ]
    return found


def cycles(modules: Mapping[str, Module]) -> list[list[str]]:
    """Return the modules of each cycle, in the order they import each other."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(path[path.index(name) :])
            return
        if name in done:
            return
        for other in sorted(modules[name].imports & modules.keys()):
            visit(other, [*path, name])
        done.add(name)

    for name in modules:
        visit(name, [])
    return found


# The picture: a band for each layer, highest on top; modules in it by how far they stand above the room's floor; arrows
# between rooms in lanes of their own on the right, so that none crosses a name.
_WIDTH, _LEFT, _LANE = 1010, 20, 30
_CHIP, _ROW, _TITLE, _GAP = 24, 46, 44, 22
_COLOURS = {
    "ground": "#64748b", "plan": "#0f766e", "checkpoint": "#1d4ed8", "hapi": "#b45309", "callbacks": "#9d174d",
    "config": "#6d28d9", "cli": "#6d28d9", "public names": "#334155",
}  # fmt: skip


@dataclass(frozen=True)
class _Chip:
    x: float
    y: float
    width: float


def draw(modules: Mapping[str, Module]) -> str:
    """Return the graph as an SVG: text, boxes and arrows only."""
    rooms = [
        room for rooms in reversed(LAYERS) for room in rooms if any(m.room == room for m in modules.values())
    ]
    chips: dict[str, _Chip] = {}
    bands: dict[str, tuple[float, float]] = {}
    y = 74.0
    for room in rooms:
        height = _TITLE
        for row in _rows(room, modules):
            x = float(_LEFT + 18)
            for name in row:
                width = 18 + 6.9 * len(_label(name))
                chips[name] = _Chip(x, y + height, width)
                x += width + 14
            height += _ROW
        bands[room] = (y, float(height))
        y += height + _GAP
    lanes = _lanes(rooms, modules)
    width = _LEFT + _WIDTH + 30 + _LANE * len(lanes) + 20
    body = [*_heading(modules), *(_band(room, *bands[room]) for room in rooms)]
    body += [_thread(chips, name, other, modules) for name in chips for other in sorted(modules[name].imports)
             if other in chips and modules[other].room == modules[name].room]  # fmt: skip
    body += [_chip(name, chip, modules) for name, chip in chips.items()]
    body += _arrows(lanes, bands)
    return _svg(width, y + 8, body)


def _label(name: str) -> str:
    return (
        "paddle_warm_callbacks"
        if name == PUBLIC
        else name
        if name in GROUND
        else name.partition(".")[2] or name
    )


def _rows(room: str, modules: Mapping[str, Module]) -> list[list[str]]:
    """Arrange a room's modules: importers above what they import, as many rows as the width asks for."""
    # A room's own __init__ says what the room is for, imports nothing and would be noise.
    inside = [
        name for name, module in modules.items() if module.room == room and (name != room or module.imports)
    ]
    height: dict[str, int] = {}

    def level(name: str, path: tuple[str, ...] = ()) -> int:
        if name not in height:
            below = [
                other for other in modules[name].imports if other in inside and other not in (*path, name)
            ]
            height[name] = max((level(other, (*path, name)) + 1 for other in below), default=0)
        return height[name]

    for name in inside:
        level(name)
    rows: list[list[str]] = []
    for number in range(max(height.values(), default=0), -1, -1):
        row: list[str] = []
        used = 0.0
        for name in sorted(
            (name for name in inside if height[name] == number), key=lambda n: _pull(n, rows, modules)
        ):
            used += 32 + 6.9 * len(_label(name))
            if row and used > _WIDTH - 30:
                rows.append(row)
                row, used = [], 32 + 6.9 * len(_label(name))
            row.append(name)
        if row:
            rows.append(row)
    return rows


def _pull(name: str, rows: Sequence[Sequence[str]], modules: Mapping[str, Module]) -> tuple[float, str]:
    """Place a module under those that import it, so that fewer threads cross."""
    above = [row.index(user) for row in rows for user in row if name in modules[user].imports]
    return (sum(above) / len(above) if above else 99.0, name)


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
    verdict = "no cycle, no arrow upward or sideways" if not wrong else f"{len(wrong)} problems, in red"
    return [
        f'<text x="{_LEFT}" y="32" class="h">Who imports whom in paddle_warm_callbacks</text>',
        f'<text x="{_LEFT}" y="54" class="s">{len(modules)} modules, {arrows} imports, drawn from the code: {verdict}. '
        "A number on an arrow counts imports; point at a name or an arrow to read them.</text>",
    ]


def _band(room: str, y: float, height: float) -> str:
    colour = _COLOURS.get(room, "#b91c1c")
    title = f"{layer(room)}  {room}{'' if room in ('ground', 'public names') else '/'}"
    return (
        f'<rect x="{_LEFT}" y="{y:.0f}" width="{_WIDTH}" height="{height:.0f}" rx="8" fill="{colour}" '
        f'fill-opacity="0.07" stroke="{colour}" stroke-opacity="0.5"/>'
        f'<text x="{_LEFT + 18}" y="{y + 26:.0f}" class="r" fill="{colour}">{escape(title)}</text>'
        f'<text x="{_LEFT + 160}" y="{y + 26:.0f}" class="s">{escape(ABOUT.get(room, "in no layer"))}</text>'
    )


def _chip(name: str, chip: _Chip, modules: Mapping[str, Module]) -> str:
    module = modules[name]
    colour = _COLOURS.get(module.room, "#b91c1c")
    tip = "\n".join([name, *(f"  imports {other}" for other in sorted(module.imports))])
    return (
        f'<g><title>{escape(tip)}</title><rect x="{chip.x:.0f}" y="{chip.y:.0f}" width="{chip.width:.0f}" '
        f'height="{_CHIP}" rx="5" fill="#ffffff" stroke="{colour}"/>'
        f'<text x="{chip.x + 9:.0f}" y="{chip.y + 16:.0f}" class="m">{escape(_label(name))}</text></g>'
    )


def _thread(chips: Mapping[str, _Chip], name: str, other: str, modules: Mapping[str, Module]) -> str:
    start, end = chips[name], chips[other]
    wrong = bool(_arrow_problems(modules[name], modules[other])) or start.y >= end.y
    colour = "#dc2626" if wrong else _COLOURS.get(modules[name].room, "#b91c1c")
    x1, y1 = start.x + start.width / 2, start.y + _CHIP
    x2, y2 = end.x + end.width / 2, end.y - 2
    bend = max((y2 - y1) / 2, 14)
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}" '
        f'fill="none" stroke="{colour}" stroke-opacity="0.55" marker-end="url(#{"bad" if wrong else "tip"})">'
        f"<title>{escape(name)} -&gt; {escape(other)}</title></path>"
    )


def _arrows(
    lanes: Sequence[tuple[str, str, list[str]]], bands: Mapping[str, tuple[float, float]]
) -> list[str]:
    drawn = []
    leaving = {room: [lane for lane in lanes if lane[0] == room] for room in bands}
    arriving = {room: [lane for lane in lanes if lane[1] == room] for room in bands}
    edge = _LEFT + _WIDTH
    for number, lane in enumerate(lanes):
        start, end, imports = lane
        wrong = layer(start) <= layer(end)
        colour = "#dc2626" if wrong else _COLOURS.get(start, "#b91c1c")
        x = edge + 30 + number * _LANE
        # Arrows leave a band in its lower part and arrive in its upper part.
        y1 = bands[start][0] + bands[start][1] * (
            0.55 + 0.4 * (leaving[start].index(lane) + 1) / (len(leaving[start]) + 1)
        )
        y2 = bands[end][0] + bands[end][1] * (
            0.05 + 0.45 * (arriving[end].index(lane) + 1) / (len(arriving[end]) + 1)
        )
        tip = "\n".join(imports)
        drawn.append(
            f'<g><title>{escape(tip)}</title><path d="M{edge} {y1:.0f} H{x - 6} Q{x} {y1:.0f} {x} {y1 + 6:.0f} '
            f'V{y2 - 6:.0f} Q{x} {y2:.0f} {x - 6} {y2:.0f} H{edge + 4}" fill="none" stroke="{colour}" '
            f'stroke-width="1.6" marker-end="url(#{"bad" if wrong else "tip"})"/>'
            f'<rect x="{x - 12}" y="{y1 + 8:.0f}" width="24" height="16" rx="8" fill="#ffffff" stroke="{colour}"/>'
            f'<text x="{x}" y="{y1 + 20:.0f}" class="n" fill="{colour}">{len(imports)}</text></g>'
        )
    return drawn


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    style = (
        "text{font-family:Helvetica,Arial,sans-serif;fill:#0f172a}.h{font-size:20px;font-weight:bold}"
        ".s{font-size:12px;fill:#475569}.r{font-size:15px;font-weight:bold}"
        ".m{font-family:Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11.5px}"
        ".n{font-size:10.5px;text-anchor:middle;font-weight:bold}"
    )
    markers = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
        for name, colour in (("tip", "#475569"), ("bad", "#dc2626"))
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
    lines = [
        head,
        f"<style>{style}</style><defs>{markers}</defs>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    return "\n".join([*lines, *body, "</svg>", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the graph, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description="Check or draw the package's import graph.")
    parser.add_argument("--check", action="store_true", help="draw nothing; exit 1 if the layers are broken")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="folder of the package to read")
    parser.add_argument("--output", type=Path, default=PICTURE, help="where to draw")
    options = parser.parse_args(arguments)
    modules = read_package(options.package)
    if options.check:
        wrong = problems(modules)
        sys.stdout.write("".join(f"{line}\n" for line in wrong or [f"{len(modules)} modules, layers hold"]))
        return 1 if wrong else 0
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(draw(modules), encoding="utf-8")
    sys.stdout.write(f"{options.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
