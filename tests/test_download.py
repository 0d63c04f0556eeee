"""A file is used only if its checksum is right, and a failed download leaves nothing behind."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nonconvex.data.download import fetch

CONTENT = b"twelve bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        status = 200 if self.path in ("/file", "/short") else 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:5] if self.path == "/short" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = 0
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("checksum", [{"sha256": SHA256}, {"md5": MD5}])
def test_downloads_once_and_then_uses_the_file(server, tmp_path, checksum):
    path = tmp_path / "new" / "file.bin"
    for _ in range(2):
        assert fetch(f"{server.url}/file", path, **checksum) == path
    assert path.read_bytes() == CONTENT and server.requests == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_wrong_download_is_named_and_not_kept(server, tmp_path):
    """A file that takes its final name before it is verified."""
    with pytest.raises(ValueError) as error:
        fetch(f"{server.url}/file", tmp_path / "file.bin", sha256="0" * 64)
    for part in (str(tmp_path / "file.bin"), "0" * 64, SHA256):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_in_place_is_refused_and_kept(tmp_path):
    """A corrupt file that is used because it exists, or one that is silently replaced."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=rf"file\.bin: md5 {MD5} expected, [0-9a-f]{{32}} found"):
        fetch("http://127.0.0.1:9/never-asked", path, md5=MD5)
    assert path.read_bytes() == b"something else"


@pytest.mark.parametrize("place", ["missing", "short"])
def test_a_failed_download_says_what_to_do(server, tmp_path, place):
    """A truncated transfer or an error page that passes for the file."""
    with pytest.raises((ConnectionError, ValueError), match=r"file\.bin") as error:
        fetch(f"{server.url}/{place}", tmp_path / "file.bin", sha256=SHA256)
    assert f"{server.url}/{place}" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all(tmp_path):
    with pytest.raises(ConnectionError, match=r"could not be downloaded .* put the file at .*file\.bin by hand"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file.bin", sha256=SHA256)


@pytest.mark.parametrize("checksums", [{}, {"sha256": SHA256, "md5": MD5}])
def test_exactly_one_checksum(tmp_path, checksums):
    with pytest.raises(ValueError, match="exactly one checksum"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file.bin", **checksums)
