"""An HTTP server of the host on a port of its loopback, which guests reach as 10.0.2.2."""
import functools
import hashlib
import http.server
import threading
import time


class _Handler(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, outputfile):
        while data := source.read(32768):
            outputfile.write(data)
            self.server.sent += len(data)
            time.sleep(self.server.pause)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got[self.path] = hashlib.sha256(body).hexdigest()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


class HostWeb:
    """Gives the files of a directory, 32 KiB every `pause` seconds; `got`: the SHA-256 of what was posted, by path."""

    def __init__(self, directory, pause=0):
        handler = functools.partial(_Handler, directory=str(directory))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.server.pause, self.server.sent = pause, 0
        self.server.got = self.got = {}
        self.port = self.server.server_address[1]
        self.url = f"http://10.0.2.2:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def sent(self):
        """Bytes of files that were given so far."""
        return self.server.sent

    def close(self):
        self.server.shutdown()
        self.server.server_close()
