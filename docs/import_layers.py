"""What the package's layers allow: who may import whom, read from the code and never executed.

Every import statement counts, also one inside a function or under ``TYPE_CHECKING``: what a file must know to be
understood is what it depends on.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# From the ground up; rooms of one layer do not know each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("ground",),
    ("plan",),
    ("checkpoint", "logs"),
    ("hapi",),
    ("callbacks",),
    ("config",),
    ("cli",),
    ("public names",),
)
# The modules that lie beside the rooms; the package itself, which only re-exports; and what `python -m` runs.
GROUND = frozenset({"arguments", "errors", "patterns", "progress", "secrets", "version"})
PUBLIC = "__init__"
RUN = "__main__"
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
        return "public names" if self.name in (PUBLIC, RUN) else self.name.split(".")[0]

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
        origins: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            origins = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origins = [(node.module or "" if not node.level else "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            calls.add(node.func.id)
        for origin, member in origins:
            top, _, below = origin.partition(".")
            if top == package:
                imports.add(_imported(below, member, known))
            else:
                foreign.add(top or ".")
    return Module(name, frozenset(imports - {name}), frozenset(foreign), frozenset(names), frozenset(calls))


def _imported(origin: str, member: str, known: frozenset[str]) -> str:
    """Return the module that "from origin import member" needs: the member if it is one, or where it comes from."""
    whole = ".".join(part for part in (origin, member) if part)
    return whole if whole in known else origin or PUBLIC


def problems(modules: Mapping[str, Module]) -> list[str]:
    """Return a sentence for everything that breaks the layers; none if the house stands as designed."""
    found = []
    for name, module in modules.items():
        if layer(module.room) < 0:
            found.append(f"{name}: its room {module.room!r} is in no layer")
        for other in sorted(module.imports):
            if other in modules:
                found += arrow_problems(module, modules[other])
            else:
                found.append(f"{name} imports {other}, which is not there")
        found += _foreign_problems(module)
    return found + [f"a cycle: {' -> '.join([*loop, loop[0]])}" for loop in cycles(modules)]


def arrow_problems(module: Module, other: Module) -> list[str]:
    """Return what is wrong with one module importing another, if anything."""
    arrow = f"{module.name} -> {other.name}"
    below, above = layer(module.room), layer(other.room)
    if below < above:
        return [f"an arrow upward: {arrow} (layer {below} to {above})"]
    if below == above and module.room != other.room:
        return [f"an arrow sideways: {arrow} (both in layer {below})"]
    if module.room == other.room == "plan" and module.subject != other.subject:
        return [f"an arrow sideways: {arrow} (subjects of plan do not import each other)"]
    return []


def _foreign_problems(module: Module) -> list[str]:
    name = module.name
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
            loop = path[path.index(name) :]
            first = loop.index(min(loop))
            found.append([*loop[first:], *loop[:first]])
        elif name not in done:
            for other in sorted(modules[name].imports & modules.keys()):
                visit(other, [*path, name])
            done.add(name)

    for name in modules:
        visit(name, [])
    return found
