"""An HTTP server of the host on a port of its loopback, which guests reach as 10.0.2.2."""
import functools
import hashlib
import http.server
import threading


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_PUT(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got[self.path] = hashlib.sha256(body).hexdigest()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


class HostWeb:
    """Gives the files of a directory; `got` has the SHA-256 of what was posted, by path."""

    def __init__(self, directory):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(directory)))
        self.server.daemon_threads = True
        self.server.got = self.got = {}
        self.port = self.server.server_address[1]
        self.url = f"http://10.0.2.2:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
