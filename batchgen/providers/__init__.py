"""The services that make clips, by name; each is imported when it is first asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import cast

from batchgen.domain.errors import UsageError
from batchgen.providers.interface import Provider

_FACTORIES = {
    "runcomfy": ("batchgen.providers.runcomfy", "RunComfy"),
}


def names() -> tuple[str, ...]:
    """Return the names of all providers."""
    return tuple(_FACTORIES)


def factory(name: str) -> Callable[..., Provider]:
    """Return what makes a provider; every one takes `base=` and `token=`.

    Raises:
        UsageError: If there is no provider of that name.
    """
    if name not in _FACTORIES:
        raise UsageError(f"there is no provider {name!r}; known: {', '.join(_FACTORIES)}")
    module, attribute = _FACTORIES[name]
    return cast(Callable[..., Provider], getattr(import_module(module), attribute))
