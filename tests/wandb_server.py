"""A stand-in for the wandb server on 127.0.0.1: takes what the client of wandb 0.31 sends for a run, and keeps it.

Its answers are those that the client needs to go on; what they hold was found by watching the client. It knows the
account, runs that go on, the file stream (history, summary), uploaded files and artifacts. It draws nothing.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import pytest

API_KEY = "a" * 40
ENTITY = "someone"


def own_wandb(patch: pytest.MonkeyPatch, home: Path, server: WandbServer | None = None) -> None:
    """Leaves nobody's login, settings or runs in the environment: everything of wandb lies in `home`.

    server: the one that it is logged in to.
    """
    import wandb

    wandb.teardown()
    for name in list(os.environ):
        if name.startswith(("WANDB_", "XDG_", "NETRC")) or name.lower().endswith("_proxy"):
            patch.delenv(name)
    patch.setenv("HOME", str(home))
    if server:
        patch.setenv("WANDB_BASE_URL", server.url)
        patch.setenv("WANDB_API_KEY", API_KEY)
        patch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "1")  # seconds, whole ones; 15 if not set
        for kind in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL"):
            patch.setenv(f"WANDB__{kind}_RETRY_WAIT_MIN_SECONDS", "1")  # 2 if not set, and longer each time
            patch.setenv(f"WANDB__{kind}_RETRY_WAIT_MAX_SECONDS", "1")


@dataclass
class ReceivedRun:
    """What the server has of one run, as it would show it."""

    name: str  # the id that the client gave it
    fields: dict[str, Any] = field(default_factory=dict)  # displayName, groupName, tags, host, ... as upserted
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)  # of the file stream: name -> lines, by their offsets
    files: dict[str, bytes] = field(default_factory=dict)  # uploaded: name -> content
    exit_codes: list[int] = field(default_factory=list)  # of every end that was reported; a crash reports none
    is_preempting: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        """The steps, in the order in which they stand on the server."""
        return [json.loads(line) for line in self.lines.get("wandb-history.jsonl", [])]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary, as it was reported last."""
        return json.loads(self.lines["wandb-summary.json"][-1]) if "wandb-summary.json" in self.lines else {}


@dataclass
class ReceivedArtifact:
    """A version of an artifact."""

    run: str
    name: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    client_id: str
    digest: str
    is_committed: bool = False
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # path in the artifact -> content


class WandbServer:
    """The server, what it has received, and how it behaves at the moment."""

    def __init__(self) -> None:
        self.runs: dict[str, ReceivedRun] = {}
        self.artifacts: list[ReceivedArtifact] = []
        self.calls: list[str] = []  # names of all GraphQL operations, file_stream, upload
        self.problems: list[str] = []  # what a real server would not have taken
        self.behaviour: Literal["answers", "fails", "hangs up"] = "answers"
        self.num_requests = self.num_refused = 0
        self._lock = threading.Lock()
        self._uploads: dict[str, Callable[[bytes], None]] = {}  # path of an upload URL -> where its content goes
        handler = type("Handler", (_Handler,), {"wandb": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # clients that leave
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stops to serve."""
        self._http.shutdown()
        self._http.server_close()

    @contextmanager
    def outage(self, behaviour: Literal["fails", "hangs up"]) -> Iterator[None]:
        """Fails (status 500) or hangs up on every request, until the end of the block."""
        self.behaviour = behaviour
        try:
            yield
        finally:
            self.behaviour = "answers"

    def of_type(self, kind: str) -> list[ReceivedArtifact]:
        """Returns the committed artifacts of a type."""
        return [artifact for artifact in self.artifacts if artifact.type == kind and artifact.is_committed]

    # What the handler calls: GraphQL

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Returns the data of an answer."""
        operation = query.split()[1].partition("(")[0]  # query Viewer {, mutation CommitArtifact ($artifactID: ID!) {
        with self._lock:
            self.calls.append(operation)
            answer = getattr(self, f"_{operation}", None)
            if answer is None:
                self.problems.append(f"unknown operation {operation}")
                return {}
            return answer(variables)

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "viewer", "entity": ENTITY, "username": ENTITY, "email": "someone@example.com", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _XXHashDigestsEnabled(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _FetchArtifactDigestAlgorithm(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        project = {"id": "project", "name": variables["project"], "entity": {"id": "entity", "name": ENTITY}}
        return {"model": {**project, "bucket": self._bucket(run) if run else None}}

    def _bucket(self, run: ReceivedRun) -> dict[str, Any]:
        history, events = (run.lines.get(f"wandb-{kind}.jsonl", []) for kind in ("history", "events"))
        return {
            "id": run.name, "name": run.name, "displayName": run.fields["displayName"],
            "summaryMetrics": json.dumps(run.summary), "logLineCount": 0, "historyLineCount": len(history),
            "eventsLineCount": len(events), "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(events[-1:]), "config": json.dumps(run.config), "tags": run.fields.get("tags"),
            "notes": None, "wandbConfig": json.dumps({"t": run.config["_wandb"]["value"]["t"]}),  # none: never started
        }  # fmt: skip

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, ReceivedRun(name))
        given = {key: value for key, value in variables.items() if value is not None}
        run.config = json.loads(given.pop("config", json.dumps(run.config)))
        run.fields |= given
        run.fields.setdefault("displayName", name)
        project = {"id": "project", "name": run.fields["project"], "entity": {"id": "entity", "name": ENTITY}}
        bucket = {
            "id": name, "name": name, "displayName": run.fields["displayName"], "description": None,
            "config": json.dumps(run.config), "sweepName": None, "project": project,
            "historyLineCount": len(run.lines.get("wandb-history.jsonl", [])),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["run"]]
        files = [{"name": name, "uploadUrl": self._url(run.files, name)} for name in variables["files"]]
        return {"createRunFiles": {"runID": run.name, "uploadHeaders": [], "files": files}}

    def _MarkRunFilesUploaded(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables["input"]
        same = [
            index for index, artifact in enumerate(self.artifacts)
            if (artifact.name, artifact.digest) == (given["artifactCollectionName"], given["digest"])
        ]  # fmt: skip
        if not same:
            metadata = json.loads(given.get("metadata") or "{}")
            self.artifacts.append(
                ReceivedArtifact(
                    given["runName"], given["artifactCollectionName"], given["artifactTypeName"], [], metadata,
                    given["clientID"], given["digest"],
                )
            )  # fmt: skip
        index = same[0] if same else len(self.artifacts) - 1
        artifact = self.artifacts[index]
        artifact.aliases += [alias["alias"] for alias in given.get("aliases") or []]
        state = "COMMITTED" if artifact.is_committed else "PENDING"
        sequence = {"latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": str(index), "state": state, "artifactSequence": sequence}}}

    def _ClientIDMapping(self, variables: dict[str, Any]) -> dict[str, Any]:
        known = [index for index, artifact in enumerate(self.artifacts) if artifact.client_id == variables["clientID"]]
        return {"clientIDMapping": {"serverID": str(known[0])} if known else None}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[int(variables["artifactID"])]

        def take(content: bytes) -> None:
            artifact.manifest = json.loads(content)

        url = self._url_to(f"manifest-{variables['artifactID']}", take) if variables["includeUpload"] else None
        file = {"id": "file", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}

    def _UpdateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        changed = self._CreateArtifactManifest({**variables, "artifactID": variables["artifactManifestID"]})
        return {"updateArtifactManifest": changed["createArtifactManifest"]}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in variables["input"]["artifactFiles"]:
            artifact = self.artifacts[int(file["artifactID"])]
            node = {
                "storagePath": f"stored/{file['name']}", "uploadUrl": self._url(artifact.files, file["name"]),
                "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]},
            }  # fmt: skip
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[int(variables["artifactID"])]
        wanted = {path: entry["digest"] for path, entry in artifact.manifest["contents"].items()}
        stored = {
            path: base64.b64encode(hashlib.md5(content).digest()).decode() for path, content in artifact.files.items()
        }
        if wanted != stored:
            self.problems.append(f"{artifact.name} was committed with other files than its manifest names")
        artifact.is_committed = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": artifact.digest}}}

    # What the handler calls: file stream and uploads

    def file_stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Takes a part of the file stream of a run."""
        with self._lock:
            self.calls.append("file_stream")
            run = self.runs[name]
            for file, part in body.get("files", {}).items():
                lines = run.lines.setdefault(file, [])
                if part["offset"] > len(lines):
                    self.problems.append(f"{file} has a hole from line {len(lines)} to {part['offset']}")
                lines[part["offset"] : part["offset"] + len(part["content"])] = part["content"]
            run.is_preempting |= body.get("preempting", False)
            if body.get("complete"):
                run.exit_codes.append(body["exitcode"])
        return {}

    def upload(self, path: str, content: bytes) -> None:
        """Takes the content of a file for which a URL was given."""
        with self._lock:
            self.calls.append("upload")
            self._uploads[path](content)

    def _url(self, files: dict[str, bytes], name: str) -> str:
        return self._url_to(name, lambda content: files.update({name: content}))

    def _url_to(self, name: str, take: Callable[[bytes], None]) -> str:
        path = f"/storage/{len(self._uploads)}/{quote(name)}"
        self._uploads[path] = take
        return self.url + path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    wandb: WandbServer

    def do_POST(self) -> None:
        if (body := self._body()) is None:
            return
        given = json.loads(body or b"{}")
        if self.path == "/graphql":
            if self.headers.get("Authorization") != f"Basic {base64.b64encode(f'api:{API_KEY}'.encode()).decode()}":
                self.wandb.problems.append(f"a call came without the API key: {given['query']}")
            self._answer({"data": self.wandb.graphql(given["query"], given.get("variables") or {})})
        else:
            _, files, entity, _, run, stream = map(unquote, self.path.split("/"))
            assert (files, entity, stream) == ("files", ENTITY, "file_stream")
            self._answer(self.wandb.file_stream(run, given))

    def do_GET(self) -> None:
        if self._body() is not None:
            self.wandb.problems.append(f"GET {self.path}")
            self._answer({})

    def do_PUT(self) -> None:
        body = self._body()
        if body is not None:
            self.wandb.upload(self.path, body)
            self._answer({})

    def _body(self) -> bytes | None:
        """Returns the request's body; None when the server is out of order, which is answered here."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.wandb.num_requests += 1
        if self.wandb.behaviour == "answers":
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.wandb.num_refused += 1
        if self.wandb.behaviour == "fails":
            self.send_error(500)
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
        return None

    def _answer(self, data: dict[str, Any]) -> None:
        content = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""
