"""A model hub with one file, for deploy/verify: the address layout, redirect and headers of the real one, and its worst habit, which is
to break off in the middle. Standard library only."""

import argparse
import hashlib
import http.server
import pathlib
import threading
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--path", default="/test/model/resolve/main/model.gguf", help="where the file is found")
    parser.add_argument("--port-file", type=pathlib.Path, required=True)
    parser.add_argument("--log", type=pathlib.Path, required=True, help="one line for each request: path, first byte, bytes sent")
    parser.add_argument("--break-after", type=int, metavar="BYTES", help="end the first transfer after that many")
    parser.add_argument("--bytes-per-second", type=int, default=1 << 40)
    arguments = parser.parse_args()

    content = arguments.file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    blob = f"/blobs/{digest}"
    lock = threading.Lock()
    breaks = [arguments.break_after] if arguments.break_after else []

    def log(line: str) -> None:
        with lock, arguments.log.open("a") as file:
            file.write(line + "\n")

    class Hub(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == arguments.path:
                self.answer(302, {"Location": blob, "X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"'})
                log(f"{self.path} redirected")
            elif self.path == blob:
                self.transfer()
            else:
                self.answer(404, {"X-Error-Code": "EntryNotFound"})
                log(f"{self.path} not found")

        do_HEAD = do_GET

        def answer(self, status: int, headers: dict[str, str], length: int = 0) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()

        def transfer(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            rest = content[start:]
            if start:
                headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
                self.answer(206, headers, len(rest))
            else:
                self.answer(200, {"Accept-Ranges": "bytes", "ETag": f'"{digest}"'}, len(rest))
            if self.command == "HEAD":
                return
            with lock:
                limit = breaks.pop() if breaks else None
            sent = 0
            try:
                for piece in pieces(rest[:limit]):
                    self.wfile.write(piece)
                    sent += len(piece)
                    time.sleep(len(piece) / arguments.bytes_per_second)
            except OSError:
                pass
            self.close_connection = sent < len(rest)
            log(f"{self.path} from {start} sent {sent}")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((arguments.listen, 0), Hub)
    partial = arguments.port_file.with_suffix(".part")
    partial.write_text(str(server.server_port))
    partial.rename(arguments.port_file)
    server.serve_forever()


def pieces(content: bytes):
    for start in range(0, len(content), 1 << 14):
        yield content[start : start + (1 << 14)]


main()
