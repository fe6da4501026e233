"""A stand-in of the hub's HTTP interface for tests: what huggingface_hub asks for, and no more. It
keeps the files.

Written from the requests that huggingface_hub 2.4 sends. `lfs` is the transfer without hf_xet; with
it the client talks to the content-addressed store, of which the stand-in keeps the blobs without
taking them apart.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import yaml

REVISION = "c0ffee" + "0" * 34


class Hub:
    """What the stand-in knows: repositories, their files, large objects, and every request as
    "METHOD path"."""

    def __init__(self) -> None:
        self.address = ""
        self.token = "hf_stand_in"
        self.repositories: dict[str, dict[str, Any]] = {}
        self.files: dict[
            str, bytes | tuple[str, int]
        ] = {}  # contents, or (sha256, size) of a large object
        self.objects: dict[str, bytes] = {}
        self.blobs: list[bytes] = []
        self.commits: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.fails = ""  # a path that answers 500
        self.sizes: dict[str, int] = {}  # what the listing claims instead of a file's size
        self.hashes: dict[str, str] = {}  # what the listing claims instead of a file's SHA-256
        self.ranges: list[str] = []  # "file bytes=N-" of every download of a part

    def content(self, name: str) -> bytes:
        entry = self.files[name]
        return entry if isinstance(entry, bytes) else self.objects[entry[0]]


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.answer("GET", b"")

        def do_HEAD(self) -> None:
            self.answer("HEAD", b"")

        def do_POST(self) -> None:
            self.answer("POST", self.body())

        def do_PUT(self) -> None:
            self.answer("PUT", self.body())

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def answer(self, method: str, data: bytes) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append(f"{method} {path}")
            if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self.send_content(method, match[1], unquote(match[2]))
                return
            status, table = respond(hub, method, path, data, self.headers.get("Authorization", ""))
            payload = json.dumps(table).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def send_content(self, method: str, repository: str, name: str) -> None:
            known = repository in hub.repositories and name in hub.files
            content = hub.content(name) if known else b""
            wanted = self.headers.get("Range", "")
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            if wanted:
                hub.ranges.append(f"{name} {wanted}")
            self.send_response((206 if wanted else 200) if known else 404)
            self.send_header("Content-Length", str(len(content) - start))
            if known:
                self.send_header("ETag", f'"{listed(hub, name)["blobId"]}"')
                self.send_header("X-Linked-Etag", f'"{etag(hub, name)}"')
                self.send_header("X-Repo-Commit", REVISION)
            if wanted:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.end_headers()
            if method == "GET":
                self.wfile.write(content[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def respond(hub: Hub, method: str, path: str, data: bytes, authorization: str) -> tuple[int, Any]:
    if hub.fails and hub.fails in path:
        return 403, {"error": "You have exceeded your quota."}
    if path == "/api/validate-yaml":
        return validate(json.loads(data)["content"])
    if match := re.fullmatch(r"/objects/([0-9a-f]{64})", path):
        if hashlib.sha256(data).hexdigest() != match[1]:
            return 400, {"error": "not the content of that hash"}
        hub.objects[match[1]] = data
        return 200, {}
    if path.startswith(
        ("/v1/chunks/", "/v1/xorb-grants/", "/v2/")
    ):  # then it sends chunk by chunk, as of old
        return 404, {}
    if path == "/v1/telemetry":
        return 200, {}
    if "/xorbs/" in path or path.endswith("/shards"):
        hub.blobs.append(data)
        return 200, {"was_inserted": True, "result": 1}
    if authorization != f"Bearer {hub.token}":
        return 401, {"error": "Invalid username or password."}
    if path == "/api/repos/create":
        return create(hub, json.loads(data))
    match = re.fullmatch(r"/api/models/([^/]+/[^/]+)", path)
    if match and match[1] in hub.repositories:
        files = [listed(hub, name) for name in sorted(hub.files)]
        return 200, {"id": match[1], "sha": REVISION, "siblings": files}
    match = re.match(r"(?:/api/models)?/([^/]+/[^/]+?)(?:\.git)?/(.+)", path)
    if not match or match[1] not in hub.repositories:
        return 404, {"error": "Repository not found"}
    repository, what = match[1], match[2]
    if what.startswith("preupload/"):
        rows = json.loads(data)["files"]
        return 200, {
            "files": [
                {
                    "path": row["path"],
                    "shouldIgnore": False,
                    "oid": None,
                    "uploadMode": "lfs"
                    if re.search(r"\.(safetensors|png)$", row["path"])
                    else "regular",
                }
                for row in rows
            ]
        }
    if what == "info/lfs/objects/batch":
        rows = json.loads(data)["objects"]
        return 200, {
            "transfer": "basic",
            "objects": [
                {
                    "oid": row["oid"],
                    "size": row["size"],
                    "actions": {"upload": {"href": f"{hub.address}/objects/{row['oid']}"}},
                }
                for row in rows
            ],
        }
    if what.startswith("xet-write-token/"):
        return 200, {"casUrl": hub.address, "exp": 4_000_000_000, "accessToken": "x"}
    if what.startswith("commit/"):
        return commit(hub, repository, [json.loads(line) for line in data.splitlines()])
    if what.startswith("tree/"):
        return 200, [
            {"type": "file", "path": name, "oid": "0" * 40, "size": 1} for name in sorted(hub.files)
        ]
    return 404, {"error": f"no such thing: {method} {path}"}


def listed(hub: Hub, name: str) -> dict[str, Any]:
    """A file as the listing of its repository has it; weights are large objects."""
    content = hub.content(name)
    size = hub.sizes.get(name, len(content))
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    row = {"rfilename": name, "size": size, "blobId": blob}
    if name.endswith(".safetensors"):
        sha256 = hub.hashes.get(name, hashlib.sha256(content).hexdigest())
        row["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
    return row


def etag(hub: Hub, name: str) -> str:
    row = listed(hub, name)
    return str(row["lfs"]["sha256"] if "lfs" in row else row["blobId"])


def validate(content: str) -> tuple[int, Any]:
    try:
        table = yaml.safe_load(content.split("---\n")[1])
        assert isinstance(table, dict) and table["license"]
    except (yaml.YAMLError, IndexError, AssertionError, KeyError) as error:
        return 400, {"errors": [{"message": str(error)}], "warnings": []}
    return 200, {"errors": [], "warnings": []}


def create(hub: Hub, wanted: dict[str, Any]) -> tuple[int, Any]:
    name = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
    url = f"{hub.address}/{name}"
    if name in hub.repositories:
        return 409, {"error": "You already created this model repo", "url": url}
    hub.repositories[name] = wanted
    hub.files[".gitattributes"] = b"*.safetensors filter=lfs\n"
    return 200, {"url": url, "name": name, "id": "1"}


def commit(hub: Hub, repository: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
    for line in lines:
        value = line["value"]
        if line["key"] == "header":
            hub.commits.append(value)
        elif line["key"] == "file":
            hub.files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            hub.files[value["path"]] = (value["oid"], value["size"])
        else:
            return 400, {"error": f"unexpected {line['key']}"}
    oid = hashlib.sha1(json.dumps(lines).encode()).hexdigest()
    return 200, {
        "success": True,
        "commitOid": oid,
        "commitUrl": f"{hub.address}/{repository}/commit/{oid}",
    }
