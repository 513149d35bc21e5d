"""A webhook on this machine that takes alerts, and settings of sinks."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipelines import params as schema

SECRET = "s3cr3t-Qx7Lp9"  # noqa: S105  planted


def settings(*names: str, **changed: Any) -> schema.Alerts:
    values: dict[str, Any] = {
        "sinks": [{"name": name, "environment": f"URL_{name.upper()}"} for name in names],
        "timeout_seconds": 5.0, "first_retry_seconds": 5.0, "longest_retry_seconds": 60.0, "give_up_hours": 1.0,
    }  # fmt: skip
    return schema.Alerts.model_validate(values | changed)


class Webhook:
    """A real server on loopback; `answers` are the status codes of its next answers, then 200 for ever."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.arrived = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.let_go.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.arrived.release()
                outer.let_go.wait(30)
                code = outer.answers.pop(0) if outer.answers else 200
                if code == 200:
                    outer.received.append(json.loads(body))
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.received]
