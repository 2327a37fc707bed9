"""Runs a program on a terminal of its own: terminal.py STEPS PROGRAM ARGS...

STEPS is a JSON list of [text to wait for, text to send then]. Prints all that the terminal showed; the exit status is
the program's (128 + N for signal N).
"""

import json
import os
import pty
import select
import sys
import time

steps = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])

shown = ""
since = 0
deadline = time.time() + 50
while time.time() < deadline:
    ready, _, _ = select.select([terminal], [], [], 0.1)
    if ready:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the program has ended
            break
        if not data:
            break
        shown += data.decode("utf8", "replace")
    while steps and steps[0][0] in shown[since:]:
        since += shown[since:].index(steps[0][0]) + len(steps[0][0])
        os.write(terminal, steps.pop(0)[1].encode())

sys.stdout.write(shown)
sys.stdout.flush()
if time.time() >= deadline:
    os.kill(pid, 9)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
os._exit(status if status >= 0 else 128 - status)
