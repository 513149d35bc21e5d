"""What takes seconds to start, once."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API URL of a Prefect server that lives as long as the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patched.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patched.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "240")
        from prefect.server.api.server import SubprocessASGIServer

        one = SubprocessASGIServer()
        one.start(timeout=240)
    yield one.api_url
    one.stop()
    assert "PREFECT_API_URL" not in os.environ
