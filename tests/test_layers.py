"""Who may import whom, over every import, the lazy ones too: laziness is where circles hide."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from conftest import HEAVY

import mlctl

ROOT: Final = Path(mlctl.__file__).parent
GROUND: Final = "ground"
LOW: Final = {GROUND, "recipe"}
BELOW_TRAINING: Final = LOW | {"data", "models", "tasks", "metrics"}
COMPUTE: Final = {"data", "models", "tasks", "metrics", "training", "graphs", "runtime", "compression"}
MAY_IMPORT: Final[dict[str, set[str]]] = {
    GROUND: set(),
    "recipe": {GROUND},
    "engine": {GROUND},
    "data": LOW,
    "models": LOW,
    "metrics": LOW,
    "tasks": LOW | {"data", "metrics"},
    "training": BELOW_TRAINING,
    "runtime": LOW,
    "graphs": LOW | {"runtime"},
    "compression": BELOW_TRAINING | {"training", "runtime", "graphs"},
    "serving": LOW | COMPUTE | {"engine"},
    "stages": LOW | COMPUTE | {"engine", "serving"},
    "cli": LOW | {"engine", "stages"},
}
"""Every room, and the rooms that it may import beside itself."""

TERMINAL: Final = {"typer", "rich", "click"}


@dataclass(frozen=True)
class Import:
    """One import of one module in one file."""

    file: Path
    line: int
    module: str
    is_at_import_time: bool
    """At module level, and not only for type checkers."""

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT.parent)}:{self.line}: imports {self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    """Every import in the file, wherever it stands."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    at_import_time = set(_run_by_import(tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, node in at_import_time)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            assert node.module
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                module = submodule if submodule in MODULES else node.module
                yield Import(file, node.lineno, module, node in at_import_time)


def _run_by_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported: not those of functions or for type checkers."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef | ast.For | ast.While):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            yield from _run_by_import(inner)


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`engine` for `mlctl.engine.store`; the files beside the rooms are the ground."""
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "cli"
    return parts[1] if len(parts) > 1 and (ROOT / parts[1]).is_dir() else GROUND


FILES: Final = tuple(sorted(ROOT.rglob("*.py")))
MODULES: Final = {module_name(file): file for file in FILES}
IMPORTS: Final = tuple(each for file in FILES for each in imports_of(file))
OURS: Final = tuple(each for each in IMPORTS if each.module.split(".")[0] == "mlctl")


def test_every_room_has_its_rule() -> None:
    assert {room_of(module) for module in MODULES} <= set(MAY_IMPORT)


def test_no_room_imports_a_room_that_it_may_not() -> None:
    broken = []
    for each in OURS:
        room, other = room_of(module_name(each.file)), room_of(each.module)
        if other != room and other not in MAY_IMPORT[room] and each.module != "mlctl":
            broken.append(f"{each}: {room} may not import {other}")
    assert broken == []


def test_every_import_of_ours_names_a_file() -> None:
    """One way to spell an import: the file that defines the name. Only `mlctl` itself gives a name, its version."""
    unknown = [str(each) for each in OURS if each.module not in MODULES]
    of_rooms = [str(each) for each in OURS if each.module != "mlctl" and MODULES[each.module].name == "__init__.py"]
    assert (unknown, of_rooms) == ([], [])


def test_the_rooms_themselves_are_empty() -> None:
    filled = [str(file) for file in FILES if file.name == "__init__.py" and file.parent != ROOT and file.stat().st_size]
    assert filled == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for each in OURS:
        graph[module_name(each.file)].add(each.module)
    assert circle_in(graph) is None


def circle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """Some circle as its modules in order, or None."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack = [(start, iter(sorted(graph[start])))] if start not in done else []
        while stack:
            module, rest = stack[-1]
            if len(path) < len(stack):
                path.append(module)
            following = next(rest, None)
            if following is None:
                done.add(module)
                path.pop()
                stack.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                stack.append((following, iter(sorted(graph[following]))))
    return None


def test_a_circle_is_found_where_there_is_one() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"a"}}) == ["a", "a"]


def test_heavy_libraries_load_at_import_time_only_in_compute_rooms() -> None:
    light = [each for each in IMPORTS if room_of(module_name(each.file)) not in COMPUTE | {"serving"}]
    assert [str(each) for each in light if each.is_at_import_time and is_heavy(each)] == []


def test_nothing_that_plans_or_parses_reaches_a_heavy_library() -> None:
    """Commands, recipes, the engine and the table of stages, with all that their import imports."""
    seen = {module for module in MODULES if room_of(module) in {"cli", "recipe", "engine"}} | {"mlctl.stages.table"}
    waiting = list(seen)
    while waiting:
        module = waiting.pop()
        further = {each.module for each in OURS if each.is_at_import_time and module_name(each.file) == module} - seen
        seen |= further
        waiting += further
    reached = [each for each in IMPORTS if module_name(each.file) in seen]
    assert [str(each) for each in reached if each.is_at_import_time and is_heavy(each)] == []


def is_heavy(each: Import) -> bool:
    return each.module.split(".")[0] in HEAVY


def test_compute_knows_no_terminal_and_the_engine_no_yaml() -> None:
    wrong = [
        str(each)
        for each in IMPORTS
        if (each.module.split(".")[0] in TERMINAL and room_of(module_name(each.file)) != "cli")
        or (each.module.split(".")[0] in {"yaml", "pydantic"} and room_of(module_name(each.file)) in {GROUND, "engine"})
    ]
    assert wrong == []


def test_the_ground_and_the_engine_stand_on_the_standard_library_alone() -> None:
    wrong = [
        str(each)
        for each in IMPORTS
        if room_of(module_name(each.file)) in {GROUND, "engine"}
        and each.module.split(".")[0] not in sys.stdlib_module_names | {"mlctl"}
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import torch", True),
        ("if True:\n    import torch", True),
        ("class A:\n    import torch", True),
        ("def f():\n    import torch", False),
        ("if TYPE_CHECKING:\n    import torch", False),
        ("try:\n    import torch\nexcept ImportError:\n    pass", True),
    ],
)
def test_what_runs_at_import_time_is_told_from_what_does_not(text: str, expected: bool, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(text)
    assert [(each.module, each.is_at_import_time) for each in imports_of(file)] == [("torch", expected)]
