"""YAML as users write it: a key that stands twice is a mistake, not an overwrite."""

from __future__ import annotations

from typing import Any


def single_keys() -> type[Any]:
    """A loader that refuses a key which stands twice: the second would silently win."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if str(key.value) in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key '{key.value}' stands twice", key.start_mark)
                seen.add(str(key.value))
            made: dict[Any, Any] = super().construct_mapping(node, deep)
            return made

    return Loader
