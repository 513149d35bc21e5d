"""YAML as people write it: 1e-5 is a number, as in YAML 1.2, and a key that is there twice is an error."""

import re
from typing import Any

import yaml

NUMBER = re.compile(
    r"[-+]?[0-9]+[eE][-+]?[0-9]+$|[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?$|[-+]?[0-9]+\.([eE][-+]?[0-9]+)?$"
)
"""With a point or an exponent. YAML 1.1, hence PyYAML, takes 1e-5, 1.0e5 and -.5 for text."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; of two values under one key the library would take the last in silence."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def load(text: str) -> Any:
    """What a text says.

    Raises:
        yaml.YAMLError: it is not YAML, or holds a key twice; says in which line.
    """
    return yaml.load(text, _Loader)  # noqa: S506  made of SafeLoader
