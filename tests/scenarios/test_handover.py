"""`order: start-first`: a published port answers throughout an update."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.host import Host
from tests.scenarios.project import project

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

# Slow to listen, and slow to answer: a refused or a cut request would show.
SERVER = """\
import os, socket, threading, time
body = os.environ["GENERATION"].encode()
def serve():
    while True:
        visitor, _ = listening.accept()
        with visitor:
            visitor.recv(4096)
            time.sleep(0.03)
            visitor.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body)
time.sleep(0.3)
listening = socket.create_server(("", 80), backlog=100)
for _ in range(12): threading.Thread(target=serve).start()
"""
STACK = """\
services:
  web:
    image: rootfs:/
    command: [python3, /server.py]
    environment: {GENERATION: "0"}
    ports: ["127.0.0.1:8000:80"]
    configs: [{source: server, target: /server.py}]
CHECK    stop_signal: SIGKILL
    deploy:
      update_config: {order: start-first, failure_action: rollback, monitor: MONITOR}
configs:
  server: {file: ./server.py}
"""
CHECK = """\
    healthcheck:
      test: [CMD, python3, -c, "import socket as s; s.create_connection(('127.0.0.1', 80))"]
      interval: 200ms
      retries: 2
      start_period: 2s
      start_interval: 100ms
"""
EACH = 300  # requests a redeploy, at least
# Asks again and again from several threads, each request on a connection of its own; a line for
# every EACH answers. Answers that take their time keep all threads in a request at any moment, and
# leave the processors to what makes the update.
VISITORS = f"""\
EACH = {EACH}
import json, signal, socket, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
done, lock, answers, failures = threading.Event(), threading.Lock(), [], []
def visit():
    while not done.is_set():
        try:
            with socket.create_connection(("127.0.0.1", 8000), timeout=10) as connection:
                connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                with connection.makefile("rb") as reading:
                    head, _, answer = reading.read().decode().partition("\\r\\n\\r\\n")
            assert head == "HTTP/1.0 200 OK" and answer, (head, answer)
            with lock:
                answers.append(answer)
                if len(answers) % EACH == 0:
                    print(flush=True)
        except Exception as error:
            failures.append(repr(error))
threads = [threading.Thread(target=visit) for _ in range(12)]
[thread.start() for thread in threads]
signal.sigwait([signal.SIGTERM])
done.set()
[thread.join() for thread in threads]
print(json.dumps([answers, failures]))
"""


@pytest.mark.parametrize(
    ("check", "monitor", "redeploys"),
    [("", "1s", 2), (CHECK, "100ms", 10)],
    ids=["by age", "by check"],
)
def test_no_request_is_refused_or_cut_while_containers_are_replaced(
    host: Host, check: str, monitor: str, redeploys: int
) -> None:
    web = project(host, STACK.replace("CHECK", check).replace("MONITOR", monitor))
    web.write(SERVER, "server.py")
    web("up", "--detach", "--wait")
    visitors = subprocess.Popen(
        host.command([sys.executable, "-c", VISITORS]), stdout=subprocess.PIPE, text=True
    )
    host.processes.append(visitors)
    assert visitors.stdout is not None
    for generation in range(redeploys):
        web.replace(f'GENERATION: "{generation}"', f'GENERATION: "{generation + 1}"')
        web("up", "--detach")
        visitors.stdout.readline()
    newest = host.fetch("127.0.0.1", 8000).decode()
    visitors.terminate()
    answers, failures = json.loads(visitors.communicate(timeout=30)[0].strip())
    assert failures == []
    assert len(answers) >= redeploys * EACH
    assert newest == str(redeploys)
    assert {str(each) for each in range(redeploys)} <= set(answers)
    assert list(web.containers()) == ["shop-web-1"]


def test_what_does_not_get_healthy_is_taken_back_by_itself(host: Host) -> None:
    web = project(host, STACK.replace("CHECK", CHECK).replace("MONITOR", "1s"))
    web.write(SERVER, "server.py")
    web("up", "--detach", "--wait")
    before = web.ids()
    web.replace("s.create_connection(('127.0.0.1', 80))", "print('no good'); raise SystemExit(1)")
    web.replace('GENERATION: "0"', 'GENERATION: "1"')
    failed = web("up", "--detach", check=False)
    assert failed.returncode == 1
    assert "shop-web-1 is unhealthy" in failed.stderr
    assert "no good" in failed.stderr
    assert "revision 1 runs on as before" in failed.stderr
    assert web.ids() == before
    assert host.fetch("127.0.0.1", 8000) == b"0"
