"""Notes in PostgreSQL, and how often they were read in Redis."""

import os
from pathlib import Path

import psycopg
import redis
from flask import Flask, jsonify, request

app = Flask(__name__)
cache = redis.Redis.from_url(os.environ["CACHE"])


def connect():
    password = Path(os.environ["PASSWORD_FILE"]).read_text().strip()
    return psycopg.connect(os.environ["DATABASE"], password=password)


with connect() as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text)")


@app.get("/health")
def health():
    cache.ping()
    with connect() as connection:
        connection.execute("SELECT 1")
    return "ok"


@app.get("/")
def notes():
    reads = cache.incr("reads")
    with connect() as connection:
        rows = connection.execute("SELECT text FROM notes ORDER BY id").fetchall()
    return jsonify(notes=[text for (text,) in rows], reads=reads)


@app.post("/")
def add():
    with connect() as connection:
        connection.execute(
            "INSERT INTO notes (text) VALUES (%s)", (request.get_data(as_text=True),)
        )
    return "noted\n", 201
