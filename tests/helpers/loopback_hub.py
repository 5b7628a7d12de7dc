"""A Hub in memory, on a port of this machine, for the real `huggingface_hub` client.

It has users with tokens, private repositories, branches, tags and commits. A commit is made whole or not at all. Files
are stored as they are, or by LFS. The server can drop a connection in the middle of a request, or before its answer.

No package on the index does this: mirrors take no uploads, and `hf-local-hub` is a client of a server in Go."""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

# The client reads the Hub's address once. So each process has one address, which is known from the start.
SOCKET = socket.socket()
SOCKET.bind(("127.0.0.1", 0))
ADDRESS = f"http://127.0.0.1:{SOCKET.getsockname()[1]}"

# The part of a new repository's .gitattributes that matters here.
LFS_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".pkl", ".model", ".png", ".parquet")


# How the names of Spaces begin.
SPACE = "space:"

_OVERTAKEN = "A commit has happened since. Please refresh and try again."


@dataclass(frozen=True)
class File:
    """One version of a file."""

    content: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """The name of its git object, or with LFS the name of the content. The client compares this name."""
        return self.sha256 if self.is_lfs else git_object(b"blob", self.content)


@dataclass(frozen=True)
class Commit:
    """What a repository held after somebody had changed it."""

    oid: str
    parent: str | None
    title: str
    files: dict[str, File]


@dataclass
class Repository:
    """Branches and tags are names of commits; commits never change."""

    owner: str
    is_private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, title: str, files: dict[str, File]) -> Commit:
        parent = self.branches.get(branch)
        listing = "".join(f"{path} {file.oid}\n" for path, file in sorted(files.items()))
        oid = git_object(b"commit", f"{parent} {title} {len(self.commits)}\n{listing}".encode())
        self.commits[oid] = Commit(oid, parent, title, files)
        self.branches[branch] = oid  # the moment at which readers see it
        return self.commits[oid]

    def find(self, revision: str) -> Commit | None:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(oid)

    def history(self, branch: str = "main") -> list[str]:
        """The titles of a branch's commits, oldest first."""
        titles, oid = [], self.branches[branch]
        while oid is not None:
            titles.append(self.commits[oid].title)
            oid = self.commits[oid].parent
        return titles[::-1]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: file.content for path, file in self.find(revision).files.items()}


@dataclass(frozen=True)
class User:
    name: str
    may_write: bool = True


@dataclass
class Fault:
    """A connection that breaks or, with a status, an answer that is an error."""

    method: str
    pattern: str
    before_answer: bool
    times: int
    status: int | None = None


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class DroppedError(Exception):
    """The connection breaks here."""


def git_object(kind: bytes, content: bytes) -> str:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content).hexdigest()


class LoopbackHub:
    """
    The server, at `ADDRESS` between `start` and `stop`.

    Attributes:
        users (`dict[str, User]`): By token.
        repositories (`dict[str, Repository]`): By name.
        requests (`list[str]`): "METHOD path" of every request that came.
        on_request (function, *optional*): Called with method and path of every request before it is answered.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset()
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(SOCKET.getsockname(), handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = SOCKET

    def start(self) -> None:
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        self.users: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.on_request: Callable[[str, str], None] | None = None

    def add_user(self, name: str, may_write: bool = True) -> str:
        """A user's token."""
        token = f"hf_{name}_{'write' if may_write else 'read'}"
        self.users[token] = User(name, may_write)
        return token

    def drop_connection(self, method: str, pattern: str, before_answer: bool = False, times: int = 1) -> None:
        """Break the next `times` requests of this method whose path the regular expression finds. The
        connection breaks in the middle of what the client sends, or after the server has done its work and before it
        answers."""
        self.faults.append(Fault(method, pattern, before_answer, times))

    def refuse(self, method: str, pattern: str, status: int, times: int = 1) -> None:
        """Answer the next `times` requests of this kind with a status and do nothing."""
        self.faults.append(Fault(method, pattern, False, times, status))

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """One request: `ROUTES` says which method answers it."""

    hub: ClassVar[LoopbackHub]
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _serve(self) -> None:
        hub, (path, query) = self.hub, (urlsplit(self.path).path, urlsplit(self.path).query)
        with hub.lock:
            hub.requests.append(f"{self.command} {path}")
        if hub.on_request is not None:
            hub.on_request(self.command, path)
        fault = hub.next_fault(self.command, path)
        try:
            is_cut_off = fault is not None and not fault.before_answer and fault.status is None
            self.body = self._read_body(is_cut_off)
            if fault is not None and fault.status is not None:
                raise RefusedError(fault.status, _OVERTAKEN if fault.status == 412 else "The Hub is busy")
            self.query = parse_qs(query)
            with hub.lock:
                answer = self._answer(path)
            if fault is not None:
                raise DroppedError
        except DroppedError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        except RefusedError as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            answer = error.status, {"error": str(error)}, headers
        status, content, headers = answer
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers = {"Content-Type": "application/json", **headers}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _read_body(self, cut_off: bool) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
                if cut_off:
                    raise DroppedError
            self.rfile.readline()
            return b"".join(parts)
        size = int(self.headers.get("Content-Length", 0))
        if cut_off:
            self.rfile.read(size // 2)
            raise DroppedError
        return self.rfile.read(size)

    def _answer(self, path: str) -> tuple[int, Any, dict[str, str]]:
        # Spaces are repositories of their own, which here have names of their own.
        path = re.sub("^(/api)?/spaces/", lambda start: f"{'/api/models' if start[1] else ''}/{SPACE}", path)
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split():
                return getattr(self, name)(**{key: unquote(value or "") for key, value in found.groupdict().items()})
        raise RefusedError(404, f"Nothing is at {self.command} {path}")

    # -- who may do what ---------------------------------------------------------------------------------------------

    def _user(self) -> User | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def _readable(self, repo: str) -> Repository:
        repository, user = self.hub.repositories.get(repo), self._user()
        if repository is None or (repository.is_private and (user is None or user.name != repository.owner)):
            raise RefusedError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return repository

    def _writable(self, repo: str) -> Repository:
        repository, user = self._readable(repo), self._user()
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        self._require_writer(user, repository.owner)
        return repository

    def _require_writer(self, user: User, namespace: str) -> None:
        if not user.may_write:
            raise RefusedError(403, "Forbidden: you must use a write token to upload to a repository.")
        if user.name != namespace:
            raise RefusedError(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')

    def _commit_of(self, repository: Repository, revision: str) -> Commit:
        commit = repository.find(revision or "main")
        if commit is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # -- repositories ------------------------------------------------------------------------------------------------

    def whoami(self) -> tuple[int, Any, dict]:
        user = self._user()
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        return 200, {"type": "user", "name": user.name, "orgs": [], "auth": {"accessToken": {"role": "write"}}}, {}

    def create(self) -> tuple[int, Any, dict]:
        asked, user = json.loads(self.body), self._user()
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        owner = asked.get("organization") or user.name
        name, is_space = f"{owner}/{asked['name']}", asked.get("type") == "space"
        repo = f"{SPACE}{name}" if is_space else name
        url = {"url": f"{ADDRESS}/{'spaces/' if is_space else ''}{name}", "name": name}
        if repo in self.hub.repositories and self.hub.repositories[repo].owner == user.name:
            return 409, {**url, "error": "You already created this model repo"}, {}
        self._require_writer(user, owner)
        is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
        repository = self.hub.repositories[repo] = Repository(owner, is_private)
        repository.commit("main", "initial commit", {".gitattributes": File(b"*.safetensors filter=lfs\n", False)})
        return 200, url, {}

    def validate_yaml(self) -> tuple[int, Any, dict]:
        return 200, {"errors": [], "warnings": []}, {}

    def info(self, repo: str, revision: str = "") -> tuple[int, Any, dict]:
        repository = self._readable(repo)
        commit = self._commit_of(repository, revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        return 200, {"id": repo, "sha": commit.oid, "private": repository.is_private, "siblings": siblings}, {}

    def auth_check(self, repo: str, write: str = "") -> tuple[int, Any, dict]:
        self._writable(repo) if write else self._readable(repo)
        return 200, {}, {}

    def refs(self, repo: str) -> tuple[int, Any, dict]:
        repository = self._readable(repo)

        def listed(names: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in names.items()]

        return (
            200,
            {
                "branches": listed(repository.branches, "heads"),
                "converts": [],
                "tags": listed(repository.tags, "tags"),
            },
            {},
        )

    def create_branch(self, repo: str, name: str) -> tuple[int, Any, dict]:
        repository = self._writable(repo)
        if name in repository.branches:
            raise RefusedError(409, f"Reference already exists: {name}")
        repository.branches[name] = self._commit_of(repository, json.loads(self.body).get("startingPoint", "")).oid
        return 200, {}, {}

    def create_tag(self, repo: str, revision: str) -> tuple[int, Any, dict]:
        repository, name = self._writable(repo), json.loads(self.body)["tag"]
        if name in repository.tags:
            raise RefusedError(409, f"Tag {name} already exists")
        repository.tags[name] = self._commit_of(repository, revision).oid
        return 200, {}, {}

    # -- files -------------------------------------------------------------------------------------------------------

    def tree(self, repo: str, revision: str, folder: str = "") -> tuple[int, Any, dict]:
        commit = self._commit_of(self._readable(repo), revision)
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        inside = {path: file for path, file in commit.files.items() if path.startswith(prefix)}
        if prefix and not inside:
            raise RefusedError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        listed: dict[str, dict[str, Any]] = {}
        for path, file in sorted(inside.items()):
            first, below, _ = path.removeprefix(prefix).partition("/")
            if below:
                listed.setdefault(
                    prefix + first, {"type": "directory", "path": prefix + first, "oid": "0" * 40, "size": 0}
                )
            if not below or self.query.get("recursive", ["false"])[0].lower() in ("true", "1"):
                listed[path] = _listed(path, file)
        return 200, list(listed.values()), {}

    def paths_info(self, repo: str, revision: str) -> tuple[int, Any, dict]:
        commit = self._commit_of(self._readable(repo), revision)
        asked = json.loads(self.body)["paths"]
        folders = {path.rpartition("/")[0] for path in commit.files}
        found = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in asked if path in folders]
        return 200, found + [_listed(path, commit.files[path]) for path in asked if path in commit.files], {}

    def resolve(self, repo: str, revision: str, path: str) -> tuple[int, Any, dict]:
        commit = self._commit_of(self._readable(repo), revision)
        if path not in commit.files:
            raise RefusedError(404, f"{path} does not exist on {revision}", "EntryNotFound")
        file = commit.files[path]
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.oid}"', "Content-Type": "application/octet-stream"}
        if self.headers.get("If-None-Match") == headers["ETag"]:
            return 304, b"", headers
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return 200, file.content, headers
        first, last = int(wanted[1]), int(wanted[2] or len(file.content) - 1)
        if first >= len(file.content):
            raise RefusedError(416, "Range Not Satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(file.content)}"
        return 206, file.content[first : last + 1], headers

    def preupload(self, repo: str, revision: str) -> tuple[int, Any, dict]:
        repository = self._writable(repo)
        held = self._commit_of(repository, revision).files
        answers = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_ENDINGS) else "regular",
                "shouldIgnore": False,
                "oid": held[file["path"]].oid if file["path"] in held else None,
            }
            for file in json.loads(self.body)["files"]
        ]
        return 200, {"files": answers}, {}

    def lfs_batch(self, repo: str) -> tuple[int, Any, dict]:
        self._writable(repo)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.large_files:
                answer["actions"] = {"upload": {"href": f"{ADDRESS}/lfs/{wanted['oid']}"}}
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}, {}

    def put_large_file(self, oid: str) -> tuple[int, Any, dict]:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusedError(400, "The content is not what its hash says")
        self.hub.large_files[oid] = self.body
        return 200, b"", {}

    def make_commit(self, repo: str, revision: str) -> tuple[int, Any, dict]:
        repository = self._writable(repo)
        if revision not in repository.branches:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        before = repository.find(revision)
        files, title = dict(before.files), ""
        for line in self.body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit", before.oid) != before.oid:
                    raise RefusedError(412, _OVERTAKEN)
            elif key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.hub.large_files:
                    raise RefusedError(400, f"LFS pointer points to a file that does not exist: {value['path']}")
                files[value["path"]] = File(self.hub.large_files[value["oid"]], True)
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise RefusedError(404, f"A file with this name doesn't exist: {value['path']}", "EntryNotFound")
            else:
                raise RefusedError(400, f"Unknown operation {key}")
        commit = repository.commit(revision, title, files)
        page = repo.replace(SPACE, "spaces/")
        answer = {"commitUrl": f"{ADDRESS}/{page}/commit/{commit.oid}", "commitOid": commit.oid, "success": True}
        return 200, answer, {}


def _listed(path: str, file: File) -> dict[str, Any]:
    """A file as the lists of a repository's files have it."""
    lfs = {"lfs": {"oid": file.sha256, "size": len(file.content), "pointerSize": 130}} if file.is_lfs else {}
    return {"type": "file", "path": path, "oid": file.oid, "size": len(file.content), **lfs}


_API = "/api/(?:models|datasets)"
_REPO = r"(?P<repo>[^/]+/[^/]+)"
# Method, path, and who answers.
ROUTES = (
    ("GET", "/api/whoami-v2", "whoami"),
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate_yaml"),
    ("GET", f"{_API}/{_REPO}", "info"),
    ("GET", f"{_API}/{_REPO}/revision/(?P<revision>[^/]+)", "info"),
    ("GET", f"{_API}/{_REPO}/auth-check(?P<write>/write)?", "auth_check"),
    ("GET", f"{_API}/{_REPO}/refs", "refs"),
    ("POST", f"{_API}/{_REPO}/branch/(?P<name>[^/]+)", "create_branch"),
    ("POST", f"{_API}/{_REPO}/tag/(?P<revision>[^/]+)", "create_tag"),
    ("GET", f"{_API}/{_REPO}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", "tree"),
    ("POST", f"{_API}/{_REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", f"{_API}/{_REPO}/commit/(?P<revision>[^/]+)", "make_commit"),
    ("POST", f"{_API}/{_REPO}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("POST", rf"/(?:datasets/)?{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", "put_large_file"),
    ("HEAD GET", f"/(?:datasets/)?{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
)
