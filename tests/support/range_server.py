"""A small HTTP server for tests: files of a folder, ranges, and on demand every way to go wrong.

    range_server.py FOLDER   prints its port, then serves until killed.
    /cut/N/PATH     the first N bytes with the whole file's length, then the connection ends; ranges are served whole
    /norange/PATH   ignores ranges
    /404/PATH       not there
    /long/PATH      the file and 1,000 bytes more
    /to/PATH        a redirect to http (which jpt must not follow)
Every request is a line on FOLDER/.log: path and Range header."""
import http.server, os, sys

root = os.path.abspath(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, path, cut = "", self.path.lstrip("/"), None
        if path.split("/")[0] in ("cut", "norange", "404", "long", "to"):
            kind, path = path.split("/", 1)
        if kind == "cut":
            n, path = path.split("/", 1)
            cut = int(n)
        with open(os.path.join(root, ".log"), "a") as log:
            print(self.path, self.headers.get("Range", "-"), file=log)
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:%d/%s" % (self.server.server_port, path))
            self.end_headers()
            return
        full = os.path.normpath(os.path.join(root, path))
        if kind == "404" or not full.startswith(root + os.sep) or not os.path.isfile(full):
            self.send_error(404)
            return
        data = open(full, "rb").read()
        if kind == "long":
            data += b"x" * 1000
        start, want = 0, self.headers.get("Range")
        if want and kind != "norange":
            start = int(want.split("=")[1].split("-")[0])
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, len(data) - 1, len(data)))
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:cut] if cut is not None and start == 0 else data[start:])
        self.close_connection = True

    def log_message(self, *a):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
