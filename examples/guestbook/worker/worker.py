"""Takes jobs from the queue and tells the API what it found out."""

import json
import socket
import time
import urllib.request

API = "http://api:8000"


def work(job: int) -> int:
    with urllib.request.urlopen(f"{API}/entries/{job}", timeout=5) as answer:
        words = len(json.load(answer)["text"].split())
    body = json.dumps({"words": words}).encode()
    request = urllib.request.Request(f"{API}/entries/{job}", body, method="PUT")
    urllib.request.urlopen(request, timeout=5).close()
    return words


def serve() -> None:
    with socket.create_connection(("queue", 7000), timeout=60) as connection:
        lines = connection.makefile("rb")
        print("worker: waiting for jobs", flush=True)
        while True:
            connection.sendall(b"POP 30\n")
            verb, _, job = lines.readline().decode().strip().partition(" ")
            if not verb:
                raise ConnectionError("the queue closed the connection")
            if verb == "JOB":
                print(f"worker: entry {job} has {work(int(job))} words", flush=True)


while True:
    try:
        serve()
    except OSError as error:
        print(f"worker: {error}; trying again in a second", flush=True)
        time.sleep(1)
