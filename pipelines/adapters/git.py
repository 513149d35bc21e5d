"""The environment of git, and of what runs git, so that it works for the folder it is started in."""

import os

KEPT = (
    "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM", "GIT_HTTP_", "GIT_PROXY_",
    "GIT_SSH", "GIT_SSL_", "GIT_TERMINAL_PROMPT",
)  # fmt: skip
"""How a remote is reached, and where the user's settings are. The other variables of git, which it sets for its hooks,
are about one repository, author or push (GIT_DIR, GIT_AUTHOR_DATE): with them we would write into the wrong one."""


def environment() -> dict[str, str]:
    """Our environment without what would make git work elsewhere than in its folder."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(KEPT)}
