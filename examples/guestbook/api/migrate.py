"""Brings the database to the newest schema; running it again changes nothing."""

import os
import sqlite3

DATABASE = "/data/guestbook.db"
OWNER = 65534  # the user of the API
STEPS = (
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT NOT NULL, text TEXT NOT NULL)",
    "ALTER TABLE entry ADD COLUMN words INTEGER",
    "INSERT INTO entry (name, text, words) VALUES ('pycompose', 'Welcome! Sign below.', 3)",
)

database = sqlite3.connect(DATABASE)
done = database.execute("PRAGMA user_version").fetchone()[0]
for number, step in enumerate(STEPS[done:], done + 1):
    database.execute(step)
    database.execute(f"PRAGMA user_version = {number}")
    database.commit()
    print(f"migrate: step {number}: {step.split('(')[0].strip()}")
database.close()
for path in ("/data", DATABASE):
    os.chown(path, OWNER, OWNER)
print(f"migrate: the schema is at version {len(STEPS)}")
