"""The front: one page and a form. It keeps nothing; the API does."""

import html
import json
import os
import socket
import sys
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from string import Template

API = "http://api:8000"
PORT = 8000


def entries() -> list[dict]:
    with urllib.request.urlopen(f"{API}/entries", timeout=5) as answer:
        return json.load(answer)


def words(number: int | None) -> str:
    return "counting" if number is None else f"{number} words"


def page() -> str:
    with open("/etc/guestbook/page.html", encoding="utf-8") as source:
        template = Template(source.read())
    rows = entries()
    lines = [
        f"    <li><b>{html.escape(row['name'])}</b>: {html.escape(row['text'])} "
        f"<small>{words(row['words'])}</small></li>"
        for row in rows
    ]
    return template.substitute(
        title=html.escape(os.environ.get("GUESTBOOK_TITLE", "Guestbook")),
        entries="\n".join(lines),
        count=len(rows),
        host=socket.gethostname(),
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            return self.answer(200, "ok\n", "text/plain")
        if self.path != "/":
            return self.answer(404, "no such page\n", "text/plain")
        try:
            return self.answer(200, page())
        except OSError as error:
            return self.answer(502, f"the API does not answer: {error}\n", "text/plain")

    def do_POST(self) -> None:
        length = min(int(self.headers.get("Content-Length", 0)), 4096)
        fields = urllib.parse.parse_qs(self.rfile.read(length).decode("utf-8", "replace"))
        entry = {key: fields.get(key, [""])[0] for key in ("name", "text")}
        request = urllib.request.Request(
            f"{API}/entries", json.dumps(entry).encode(), {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError as error:
            return self.answer(502, f"the API refused: {error}\n", "text/plain")
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def answer(self, status: int, body: str, kind: str = "text/html; charset=utf-8") -> None:
        raw = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def check() -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=3).close()


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        check()
    else:
        print(f"web: listening on port {PORT}", flush=True)
        ThreadingHTTPServer(("", PORT), Handler).serve_forever()
