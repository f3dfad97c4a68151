"""Replicas share a published port: visitors are spread over those that are healthy."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.scenarios.project import Project
from tests.scenarios.test_commands import await_line

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

STACK = """\
services:
  web:
    image: rootfs:/
    command: [python3, /server.py]
    stop_signal: SIGKILL
    ports: ["127.0.0.1:8079:80"]
    configs: [{source: server, target: /server.py}]
    scale: 3
    healthcheck:
      test: test -e /listens && test ! -e /sick
      interval: 200ms
      retries: 1
      start_period: 20s
configs:
  server:
    content: |
      import http.server, socket
      class Handler(http.server.BaseHTTPRequestHandler):
          def do_GET(self):
              self.send_response(200)
              self.end_headers()
              self.wfile.write(socket.gethostname().encode())
          def log_message(self, *args): pass
      server = http.server.ThreadingHTTPServer(("", 80), Handler)
      open("/listens", "w")
      server.serve_forever()
"""


def visits(stack: Project, count: int = 40) -> Counter[str]:
    return Counter(stack.host.fetch("127.0.0.1", 8079).decode() for _ in range(count))


def host_name(stack: Project, number: int) -> str:
    return stack.ids()[f"{stack.folder.name}-web-{number}"][:12]


def test_visitors_come_to_each_that_is_healthy(stack: Project) -> None:
    stack("up", "--detach", "--wait")
    hosts = {host_name(stack, number) for number in (1, 2, 3)}
    # Each is missed by 40 visits once in 10^7 tries.
    assert visits(stack).keys() == hosts

    events = stack.start("events")
    stack("exec", "-T", "--index", "2", "web", "touch", "/sick")
    await_line(events.stdout, "health_status: unhealthy")
    assert visits(stack).keys() == hosts - {host_name(stack, 2)}
    stack("exec", "-T", "--index", "2", "web", "rm", "/sick")
    await_line(events.stdout, "health_status: healthy")
    assert visits(stack).keys() == hosts

    stack("up", "--detach", "--wait", "--scale", "web=2")
    assert visits(stack).keys() == {host_name(stack, number) for number in (1, 2)}
