"""`python -m compose.client.revive DATA_ROOT EXEC_ROOT`: start a built-in engine that was killed.

Its own last process runs it. Containers went on meanwhile; their names, probes and restart policies
are the engine's work, and nobody may come along with a command that starts it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from compose.client.errors import ClientError
from compose.client.locate import Places, connect_built_in

SHORTEST_LIFE = 3.0  # seconds: an engine that is killed again and again is not to be all that runs


def main() -> None:
    places = Places(*map(Path, sys.argv[1:3]))
    try:
        record = json.loads((places.exec_root / "engine.json").read_text())
    except FileNotFoundError:
        return  # stopped, or its folder was taken away
    print(f"the engine was killed (pid {record['pid']}); starting it again", flush=True)
    lived = max(0.0, time.time() - record["started"])  # below: the clock was set back
    time.sleep(max(0.0, SHORTEST_LIFE - lived))
    try:
        asyncio.run(connect_built_in(places, os.environ))
    except ClientError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
