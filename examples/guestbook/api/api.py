"""The API: entries in a database file on the volume; one job a new entry into the queue."""

import hmac
import json
import os
import socket
import sqlite3
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = "/data/guestbook.db"
PORT = 8000
LONGEST = int(os.environ.get("GUESTBOOK_LONGEST", "280"))


def connect() -> sqlite3.Connection:
    database = sqlite3.connect(DATABASE, timeout=5)
    database.row_factory = sqlite3.Row
    return database


def push(job: int) -> None:
    with socket.create_connection(("queue", 7000), timeout=3) as queue:
        queue.sendall(b"PUSH %d\n" % job)
        queue.makefile("rb").readline()


def moderator_token() -> str:
    with open("/run/secrets/moderator_token", encoding="utf-8") as secret:
        return secret.read().strip()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            with connect() as database:
                database.execute("SELECT count(*) FROM entry").fetchone()
            return self.answer(200, {"status": "ok"})
        if self.path == "/entries":
            with connect() as database:
                rows = database.execute("SELECT * FROM entry ORDER BY id DESC LIMIT 100")
                return self.answer(200, [dict(row) for row in rows])
        if self.path.startswith("/entries/"):
            with connect() as database:
                found = database.execute("SELECT * FROM entry WHERE id = ?", (self.number(),))
                row = found.fetchone()
            return self.answer(200, dict(row)) if row else self.answer(404, {"error": "no entry"})
        return self.answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        entry = self.body()
        name, text = str(entry.get("name", ""))[:40], str(entry.get("text", ""))[:LONGEST]
        if not name or not text:
            return self.answer(400, {"error": "name and text are needed"})
        with connect() as database:
            done = database.execute("INSERT INTO entry (name, text) VALUES (?, ?)", (name, text))
            job = done.lastrowid
        push(job)
        return self.answer(201, {"id": job})

    def do_PUT(self) -> None:
        with connect() as database:
            database.execute(
                "UPDATE entry SET words = ? WHERE id = ?", (self.body()["words"], self.number())
            )
        return self.answer(200, {})

    def do_DELETE(self) -> None:
        if not hmac.compare_digest(self.headers.get("X-Moderator", ""), moderator_token()):
            return self.answer(403, {"error": "for moderators"})
        with connect() as database:
            database.execute("DELETE FROM entry WHERE id = ?", (self.number(),))
        return self.answer(200, {})

    def number(self) -> int:
        return int(self.path.rpartition("/")[2])

    def body(self) -> dict:
        return json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 65536)))

    def answer(self, status: int, document: object) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=3).close()
    else:
        print(f"api: listening on port {PORT}", flush=True)
        ThreadingHTTPServer(("", PORT), Handler).serve_forever()
