"""A queue over TCP, one line a request: `PUSH job`, `POP seconds`, `SIZE`."""

import queue
import socket
import socketserver
import sys

PORT = 7000
JOBS: "queue.Queue[str]" = queue.Queue()


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            self.wfile.write(self.answer(verb, rest).encode() + b"\n")

    def answer(self, verb: str, rest: str) -> str:
        if verb == "PUSH":
            JOBS.put(rest)
            return "OK"
        if verb == "POP":
            try:
                return f"JOB {JOBS.get(timeout=float(rest or 0) or 0.001)}"
            except queue.Empty:
                return "EMPTY"
        if verb == "SIZE":
            return f"SIZE {JOBS.qsize()}"
        return f"ERROR unknown request {verb}"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        with socket.create_connection(("127.0.0.1", PORT), timeout=3) as connection:
            connection.sendall(b"SIZE\n")
            sys.exit(not connection.makefile("rb").readline().startswith(b"SIZE"))
    print(f"queue: listening on port {PORT}", flush=True)
    Server(("", PORT), Handler).serve_forever()
