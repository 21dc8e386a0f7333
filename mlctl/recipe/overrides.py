"""`--set train.epochs=3`: one value of the recipe, replaced before anything is checked."""

from collections.abc import Mapping, Sequence

from mlctl.errors import Problem, RecipeError
from mlctl.recipe.annotations import keys_of
from mlctl.recipe.tree import Entry, Node, Place, collection, refuse
from mlctl.recipe.vocabulary import STAGE_SETTINGS
from mlctl.recipe.wording import closest, found, shown
from mlctl.recipe.yaml_reader import MAX_DEPTH, MAX_NODES, read_tree


def overridden(tree: Node, overrides: Sequence[str]) -> Node:
    """The tree with every override in it, in their order; `tree` itself stays as it is.

    An override is PATH=VALUE. The path's first part is the longest key of the file that fits, so that the name of
    a step may hold a dot; the value is YAML. Raises RecipeError with the problems of all overrides.
    """
    problems: list[Problem] = []
    for text in overrides:
        try:
            tree = _with_override(tree, text)
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(tuple(problems))
    return tree


def _with_override(tree: Node, text: str) -> Node:
    path_text, equals, value = text.partition("=")
    place = Place(0, 0, f"--set {shown(text)}")
    if not equals or not all(path_text.strip().split(".")):
        refuse(place, "write it as PATH=VALUE, such as train.epochs=3")
    node = read_tree(value, place) or Node(place, None)
    path = _path(tree, path_text.strip(), node)
    if len(path) + node.height > MAX_DEPTH:
        refuse(place, f"nested more than {MAX_DEPTH} levels deep")
    changed = _replaced(tree, path, 0, Entry(place, node))
    if changed.size > MAX_NODES:
        refuse(place, f"makes the recipe larger than {MAX_NODES:,} values")
    return changed


def _path(tree: Node, path_text: str, node: Node) -> tuple[str, ...]:
    known = tree.value if isinstance(tree.value, Mapping) else {}
    first, _, rest = path_text.partition(".")
    fitting = [key for key in known if path_text == key or path_text.startswith(f"{key}.")]
    if fitting:
        first = max(fitting, key=len)
        rest = path_text[len(first) + 1 :]
    if _is_a_new_step(first, rest, node):
        return (path_text,)
    return (first, *rest.split(".")) if rest else (first,)


def _is_a_new_step(first: str, rest: str, node: Node) -> bool:
    """Whether `quantize.half={}` adds a step; a key of the stage, or nearly one, is meant as that key."""
    if first not in STAGE_SETTINGS or not rest or "." in rest or not isinstance(node.value, Mapping):
        return False
    keys = keys_of(STAGE_SETTINGS[first])
    return rest not in keys and closest(rest, keys) is None


def _replaced(node: Node, path: tuple[str, ...], depth: int, entry: Entry) -> Node:
    """A copy of `node` in which `entry` stands at `path[depth:]`; mappings are made where nothing stands."""
    if depth == len(path):
        return entry.node
    key, value, place = path[depth], node.value, entry.key
    if isinstance(value, tuple):
        index = _index(key, value, place, path[:depth])
        return collection(
            node.place, (*value[:index], _replaced(value[index], path, depth + 1, entry), *value[index + 1 :])
        )
    if value is not None and not isinstance(value, Mapping):
        refuse(place, f"it is {found(value)}, so nothing in it can be set", path[:depth])
    entries = dict(value or {})
    below = entries[key].node if key in entries else Node(place, None)
    is_last = depth + 1 == len(path) or key not in entries
    entries[key] = Entry(place if is_last else entries[key].key, _replaced(below, path, depth + 1, entry))
    return collection(node.place, entries)


def _index(key: str, items: tuple[Node, ...], place: Place, path: tuple[str, ...]) -> int:
    if not key.isascii() or not key.isdigit() or len(key) > 6 or int(key) >= len(items):
        numbers = f"0 to {len(items) - 1}" if items else "none, for the list is empty"
        refuse(place, f"'{shown(key)}' is not an item of the list; there are {numbers}", path)
    return int(key)
