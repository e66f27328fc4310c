"""A page that counts its visits in Redis, and four addresses that try what the sandbox refuses.

    GET /             counts this visit and says the count
    GET /healthz      answers without Redis
    GET /try/write    writes a file beside this program
    GET /try/connect  connects to an address that nobody allowed
    GET /try/exec     writes a program to /tmp and runs it

Each /try answers with {"tried": …, "allowed": true} or {"tried": …, "allowed": false, "errno": "EROFS", "error": "…"}.
"""

import errno
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

PORT = 8080
STORE = redis.Redis(
    host="redis", port=int(os.environ.get("REDIS_PORT", "6379")), socket_connect_timeout=3, socket_timeout=3
)
ELSEWHERE = (("203.0.113.10", 443), ("10.9.8.7", 5432))


def attempt(tried, action):
    """Does what must not be done here, and says how the kernel answered."""
    try:
        action()
    except OSError as error:
        name = errno.errorcode.get(error.errno, type(error).__name__)
        return {"tried": tried, "allowed": False, "errno": name, "error": error.strerror or str(error)}
    return {"tried": tried, "allowed": True}


def try_write():
    target = pathlib.Path(__file__).with_name("planted.py")
    return [attempt(f"write {target}", lambda: target.write_text("print('planted')\n"))]


def try_connect():
    def dial(address):
        socket.create_connection(address, timeout=3).close()

    return [attempt(f"connect {host}:{port}", lambda address=(host, port): dial(address)) for host, port in ELSEWHERE]


def try_exec():
    program = pathlib.Path("/tmp/planted")

    def run():
        # This program's own interpreter under another name: a real executable that no layer holds there.
        program.write_bytes(pathlib.Path(sys.executable or "/usr/bin/python3.11").read_bytes())
        program.chmod(0o755)
        subprocess.run([program, "-c", "pass"], check=True)

    try:
        return [attempt(f"execute {program}", run)]
    finally:
        program.unlink(missing_ok=True)


TRIES = {"/try/write": try_write, "/try/connect": try_connect, "/try/exec": try_exec}


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "visits"

    def do_GET(self):  # the name that http.server looks for
        if self.path == "/":
            self.visits()
        elif self.path == "/healthz":
            self.answer(200, "text/plain", "ok\n")
        elif self.path in TRIES:
            self.answer(200, "application/json", json.dumps(TRIES[self.path]()) + "\n")
        else:
            self.answer(404, "text/plain", "no such page\n")

    def visits(self):
        try:
            count = STORE.incr("visits")
        except redis.RedisError as error:
            self.answer(503, "text/plain", f"Redis does not answer: {error}\n")
            return
        self.answer(200, "text/plain", f"Visits: {count}\n")

    def answer(self, status, content_type, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *values):
        print(f"{self.command} {self.path} {values[1] if len(values) > 1 else ''}", flush=True)


def main():
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Page)
    server.daemon_threads = True
    # shutdown() waits for serve_forever(), which runs in this very thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on port {PORT} as uid {os.getuid()}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
