"""A page that lists the Debian packages this image is made of, read from the records that scanners read."""

import http.server
import pathlib
import signal
import sys


def packages() -> list[str]:
    found = []
    for path in sorted(pathlib.Path("/var/lib/dpkg/status.d").iterdir()):
        if path.suffix == ".md5sums":
            continue
        fields = dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line and not line.startswith(" "))
        found.append(f"{fields['Package']} {fields['Version']}")
    return found


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = packages()
        body = f"{len(found)} packages\n\n" + "\n".join(found) + "\n"
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    http.server.ThreadingHTTPServer(("", 8080), Page).serve_forever()
