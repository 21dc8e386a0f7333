"""torch's kernels for tensors without values: loaded when something traces, not whenever torch is.

They are written in Python and take a quarter of the time that importing torch takes. What computes on values never asks
for them; `torch.export`, `torch.compile` and the device `meta` do.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

NAME = "torch._meta_registrations"


def defer_meta_kernels() -> None:
    """Let the next import of torch leave them out; a torch that is loaded stays as it is."""
    sys.meta_path.insert(0, _Finder)


def load_meta_kernels() -> None:
    """Load them if they were left out. Whatever traces with torch calls this before."""
    loader = getattr(sys.modules.get(NAME), "__loader__", None)
    if isinstance(loader, _DeferringLoader):
        loader.load(sys.modules[NAME])


# Neither class derives from its kind in `importlib.abc`, whose import takes as long as all of `--help`'s parsing.
class _DeferringLoader:
    """Makes an empty module, which is filled at the first look for a name that it lacks."""

    def __init__(self, loader: "Loader") -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """A module as any other."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty for now."""

        def missing(name: str) -> Any:
            # Whoever walks through all modules, as `inspect` does, asks for names like `__path__`.
            if not name.startswith("__"):
                self.load(module)
            return object.__getattribute__(module, name)

        vars(module)["__getattr__"] = missing

    def load(self, module: ModuleType) -> None:
        """Fill the module, once."""
        if vars(module).pop("__getattr__", None):
            self._loader.exec_module(module)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The kernels' module, with a loader that waits."""
        if name != NAME:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = _DeferringLoader(spec.loader)  # type: ignore[assignment]
        return spec
