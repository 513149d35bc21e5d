"""How many entries the vocabulary has, on which the size of a model depends, as well as it is known before a run."""

import json
from pathlib import Path
from typing import Any

from pipelines.adapters import tokens
from pipelines.artifacts import Artifact
from pipelines.core.text import chat
from pipelines.params import Params, Tokenization


def size(params: Params, root: Path = Path()) -> int:
    """Entries of the vocabulary that these params come to in the workspace `root`.

    They are counted where tokenization has run with these settings, and in a folder that `tokenization.init` names.
    Elsewhere, and where those cannot be read, they are `tokenization.vocab_size`: an upper bound, as text with fewer
    pairs to join has fewer entries.
    """
    settings = params.tokenization
    return _of_the_tokens(settings, root) or _of_the_initial(settings, root) or settings.vocab_size


def _of_the_tokens(settings: Tokenization, root: Path) -> int | None:
    """Those of the token shards; None when dvc.lock does not have them from these settings."""
    import yaml

    try:
        found = int(_read(root / Artifact.TOKENS / tokens.INDEX)["vocab_size"])
        if found == settings.vocab_size and settings.init is None:
            return found  # without the time that dvc.lock takes to read
        locked = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]["tokenization"]["params"]
        made_with = locked["params.yaml"]["tokenization"]
        is_ours = all(made_with[key] == getattr(settings, key) for key in ("init", "vocab_size"))
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        return None
    return found if is_ours else None


def _of_the_initial(settings: Tokenization, root: Path) -> int | None:
    """Those of the tokenizer that is taken over, with the tokens of our chat template that it lacks."""
    if settings.init is None:
        return None
    try:
        made = _read(root / settings.init / "tokenizer.json")
        entries = made["model"]["vocab"]  # token -> id, or pairs of token and score
        own = {entry if isinstance(entry, str) else entry[0] for entry in entries}
        added = {token["content"] for token in made["added_tokens"]}
    except (OSError, LookupError, TypeError, ValueError):
        return None
    return len(own | added | {*chat.SPECIAL_TOKENS} - {chat.END})


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
