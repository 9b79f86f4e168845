"""A stand-in for the hub: repositories in memory, behind what uploads and downloads use of its HTTP interface."""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.told: list[tuple[str, str]] = []  # (method, path) of all that was asked

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str) -> str:
        files = self.repositories[name]
        sums = [f"{file}{hashlib.sha1(files[file]).hexdigest()}" for file in sorted(files)]
        return hashlib.sha1("".join(sums).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, status: int, value=None, content: bytes = b"", **headers: str) -> None:
        content = content if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        path, body, hub = urlsplit(self.path).path, self.body(), self.server
        hub.told.append(("POST", path))
        parts = path.strip("/").split("/")
        if not self.headers.get("Authorization", "").startswith("Bearer hf_"):
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            hub.repositories.setdefault(name, {})
            return self.answer(200, {"url": f"{hub.address}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if "preupload" in parts:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": one["oid"],
                    "size": one["size"],
                    "actions": {"upload": {"href": f"{hub.address}/lfs/{one['oid']}", "header": {}}},
                }
                for one in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if "commit" in parts:
            name = "/".join(parts[2:4])
            for line in body.splitlines():
                said = json.loads(line)
                value = said["value"]
                if said["key"] == "file":
                    hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
                elif said["key"] == "lfsFile":
                    hub.repositories[name][value["path"]] = hub.objects[value["oid"]]
            made = hub.commit(name)
            url = f"{hub.address}/{name}/commit/{made}"
            return self.answer(200, {"success": True, "commitOid": made, "commitUrl": url, "hookOutput": ""})
        self.answer(404, {"error": "no such place"})

    def do_PUT(self) -> None:
        content, oid = self.body(), self.path.rpartition("/")[2]
        self.server.told.append(("PUT", self.path))
        if hashlib.sha256(content).hexdigest() != oid:
            return self.answer(400, {"error": "another file"})
        self.server.objects[oid] = content
        self.answer(200, {})

    def do_GET(self) -> None:
        hub, parts = self.server, unquote(urlsplit(self.path).path).strip("/").split("/")
        hub.told.append(("GET", self.path))
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        if len(parts) < 5 or parts[2] != "resolve" or name not in hub.repositories:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        found = hub.repositories[name].get(file)
        if found is None:
            return self.answer(
                404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=hub.commit(name)
            )
        self.answer(200, None, found, ETag=f'"{hashlib.sha256(found).hexdigest()}"', X_Repo_Commit=hub.commit(name))

    do_HEAD = do_GET
