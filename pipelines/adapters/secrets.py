"""The secrets of this process: what its environment holds that no log, message or alert may show."""

import os
import re
from pathlib import Path

from pipelines.core.text.secrets import credentials

SECRET_NAMES = (
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "API_KEY",
    "ACCESS_KEY",
    "STORAGE_KEY",
    "ACCOUNT_KEY",
    "CREDENTIAL",
    "AUTH_STRING",
)
ADDRESS = "MOTEUR_ALERTS_URL"
"""The variable for the address of a sink that our documentation names; alerts.sinks may name others."""
SHORTEST_PIECE = 8
"""Of an address, where it is covered in every text; shorter ones, and hosts, are ordinary words too."""


def environment_secrets() -> set[str]:
    """Values of environment variables whose names say that they are secret, addresses of sinks, passwords of others."""
    addresses = {ADDRESS, *_variables(Path("params.yaml"))}
    found: set[str] = set()
    for name, value in os.environ.items():
        if name in addresses:
            found |= {piece for piece in pieces(value.strip()) if len(piece) >= SHORTEST_PIECE and "." not in piece}
            found |= {value.strip()}
        elif any(word in name.upper() for word in SECRET_NAMES):
            found |= {value}
        elif "://" in value:
            found |= credentials(value)
        if name.endswith("AUTH_STRING"):  # user:password
            found |= {value.partition(":")[2]}
    return found - {""}


def _variables(params: Path) -> set[str]:
    """Variables that alerts.sinks names; none when params cannot be read, which others report."""
    import yaml

    try:
        listed = yaml.safe_load(params.read_text(encoding="utf-8"))["alerts"]["sinks"]
        return {str(one["environment"]) for one in listed if one.get("environment")}
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return set()


def pieces(url: str) -> set[str]:
    """A URL, and everything in it that is not for other eyes."""
    rest = url.partition("://")[2]
    return {url, rest, *re.split(r"[/?&@=:]", rest)} - {""}
