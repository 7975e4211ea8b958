"""Run a program under a pseudo-terminal: pseudo-terminal.py COLUMNS ROWS PROGRAM [ARG...]

Standard input takes one JSON object a line: {"write": TEXT} types, {"resize": [COLUMNS, ROWS]} resizes the
window, {"kill": SIGNAL} signals the program.
Standard output gets what the program writes to its terminal, byte for byte. The exit code is the program's.
"""
import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios


def set_size(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    columns, rows, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    # The program starts once its window has a size.
    ready, go = os.pipe()
    child, terminal = pty.fork()
    if child == 0:
        os.close(go)
        os.read(ready, 1)
        os.close(ready)
        os.execvp(program[0], program)
    os.close(ready)
    set_size(terminal, columns, rows)
    os.close(go)
    sources = [terminal, 0]
    pending = b""
    while True:
        readable, _, _ = select.select(sources, [], [])
        if terminal in readable:
            try:
                output = os.read(terminal, 65536)
            except OSError:
                output = b""
            if not output:
                break
            os.write(1, output)
        if 0 in readable:
            given = os.read(0, 65536)
            if not given:
                # Whoever tested is gone: hang up.
                os.close(terminal)
                break
            pending += given
            *lines, pending = pending.split(b"\n")
            for line in lines:
                job = json.loads(line)
                if "kill" in job:
                    os.kill(child, job["kill"])
                elif "write" in job:
                    os.write(terminal, job["write"].encode())
                else:
                    set_size(terminal, *job["resize"])
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


main()
