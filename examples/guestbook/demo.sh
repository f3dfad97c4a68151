#!/bin/sh
# Runs the guestbook, asks it for its page and says what to try next. `make demo` calls it.
set -eu
cd "$(dirname "$0")"
port=${GUESTBOOK_PORT:-8080}

if [ "$(id -u)" != 0 ]; then
    echo "the demo runs containers, which needs root: sudo make demo" >&2
    exit 1
fi
# The built-in engine and this project, whatever the shell is set up for.
unset DOCKER_HOST COMPOSE_FILE COMPOSE_PROJECT_NAME COMPOSE_PROFILES

echo "\$ pycompose up --detach --wait"
pycompose up --detach --wait || {
    echo "the demo didn't start; is it the port? another one: GUESTBOOK_PORT=8081 make demo" >&2
    exit 1
}
echo
echo "\$ GET http://127.0.0.1:$port/"
python3 - "$port" <<'PYTHON'
import sys, urllib.request
page = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/", timeout=10).read().decode()
body = page[page.index("<h1>"):page.index("</body>")]
print("\n".join("    " + line for line in body.splitlines() if line.strip()))
PYTHON
echo
echo "\$ pycompose ps"
pycompose ps
cat <<NEXT

It runs. Open http://127.0.0.1:$port/ or try, in $(pwd)
(with $(dirname "$(command -v pycompose)") on your PATH):

    pycompose logs -f            every service's output, as it comes
    pycompose watch              then edit web/page.html or compose.yaml in another terminal
    pycompose plan               what an edit would change, and why, before it happens
    pycompose exec web sh        a shell in the front
    pycompose down               stop and remove; the entries stay on the volume
    pycompose down -v            ... and the entries go too
NEXT
