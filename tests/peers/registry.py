"""Lets other programs judge the registry: skopeo, umoci, Debian's docker-registry, PyPI's oras, ModelPack's schema.

usage: registry.py PATH_OF_LORAKIT [CHECK...], all checks by default
"""

import contextlib
import copy
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import oras.client
from jsonschema import Draft202012Validator

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures"
USER, PASSWORD = "ada", "pass word"
INDEX = "application/vnd.oci.image.index.v1+json"
# What the server names each tag of the store.
PUSHED = ["sql:v1", "sql:v1-eval-1", "team/upper:v1", "merged:v1", "merged:gguf"]
CONFIG = """version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
"""


def run(*command, code=0):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_at(place, *options):
    """The digest of the manifest that skopeo finds there."""
    done = subprocess.run(["skopeo", "inspect", "--raw", *options, place], capture_output=True)
    assert done.returncode == 0, f"{place}: {done.stderr.decode()}"
    return digest(done.stdout)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tag_of(entry):
    return entry.get("annotations", {}).get("org.opencontainers.image.ref.name")


class Store:
    """A folder that lorakit, or another program, uses as its registry."""

    def __init__(self, lorakit, path):
        self.lorakit, self.path = lorakit, path

    def __call__(self, *words, code=0):
        return run(self.lorakit, "registry", "--store", self.path, *words, code=code)

    def json(self, *words):
        return json.loads(self(*words, "--json"))

    def digest(self, name):
        return self.json("show", name)["artifact"]["digest"]

    def tags(self):
        """Every tag that lorakit lists, of whatever kind but evaluations, and what is damaged."""
        found = self.json("list")
        assert found["damaged"] == [], found["damaged"]
        return {entry["tag"] for entry in found["entries"]} | {other["tag"] for other in found["others"]}

    def entry(self, tag):
        """The digest that the index has for a tag."""
        entries = json.loads((self.path / "index.json").read_text())["manifests"]
        [found] = [entry["digest"] for entry in entries if tag_of(entry) == tag]
        return found

    def umoci(self):
        return set(run("umoci", "ls", "--layout", self.path).split())

    def blob(self, of):
        return (self.path / "blobs" / "sha256" / of.removeprefix("sha256:")).read_bytes()

    def place(self, tag):
        return f"oci:{self.path}:{tag}"

    def sound(self):
        found = self.json("fsck", "--read-data")
        assert found["faults"] == [], found["faults"]
        return found

    def copy(self, name):
        path = self.path.with_name(name)
        shutil.copytree(self.path, path)
        return Store(self.lorakit, path)


class Server:
    """A docker-registry of our own, in a folder of our own, on a port that nothing else uses."""

    def __init__(self, folder, users=None):
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        text = CONFIG.format(folder=folder, port=self.port)
        if users:
            (folder / "users").write_text(users)
            text += f"auth:\n  htpasswd: {{realm: lorakit, path: {folder}/users}}\n"
        self.folder, self.config = folder, folder / "config.yml"
        self.config.write_text(text)
        self.credentials = ["--creds", f"{USER}:{PASSWORD}"] if users else []

    @contextlib.contextmanager
    def running(self):
        with open(self.folder / "log", "ab") as log:
            server = subprocess.Popen(["docker-registry", "serve", str(self.config)], stdout=log, stderr=log)
        try:
            for _ in range(200):
                assert server.poll() is None, (self.folder / "log").read_text()
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/")
                    break
                except urllib.error.HTTPError as error:
                    assert error.code == 401 and self.credentials, error
                    break
                except OSError:
                    time.sleep(0.05)
            yield self
        finally:
            server.kill()
            server.wait()

    def place(self, name):
        return f"docker://127.0.0.1:{self.port}/{name}"

    def digest(self, name):
        return digest_at(self.place(name), "--tls-verify=false", *self.credentials)

    def push(self, source, name, code=0):
        credentials = [word.replace("--creds", "--dest-creds") for word in self.credentials]
        options = ["-q", "--preserve-digests", "--dest-tls-verify=false", *credentials]
        run("skopeo", "copy", *options, source, self.place(name), code=code)

    def pull(self, name, to):
        credentials = [word.replace("--creds", "--src-creds") for word in self.credentials]
        options = ["-q", "--preserve-digests", "--src-tls-verify=false", *credentials]
        run("skopeo", "copy", *options, self.place(name), to)

    def sweep(self):
        run("docker-registry", "garbage-collect", "-m", self.config)


class Workshop:
    """A store with adapters, models and an evaluation, and the folders that they are from."""

    def __init__(self, lorakit, folder):
        self.lorakit, self.folder = lorakit, folder
        self.store = Store(lorakit, folder / "store")
        base = FIXTURES / "tiny-orders"
        adapter, upper = FIXTURES / "tiny-json-lora", FIXTURES / "tiny-upper-lora"
        merged, gguf = folder / "merged", folder / "gguf" / "merged.gguf"
        gguf.parent.mkdir()
        for out in [merged, gguf]:
            run(lorakit, "merge", base, adapter, "-o", out)
        self.store("add", adapter, "sql:v1", "--base", base)
        self.store("add", upper, "team/upper:v1")
        self.store("add", merged, "merged:v1")
        self.store("add", gguf, "merged:gguf")
        self.store("eval", "add", "sql:v1", "--metric", "exact=0.95")
        self.sources = {"sql:v1": adapter, "team/upper:v1": upper, "merged:v1": merged, "merged:gguf": gguf.parent}

    def new(self, name):
        return Store(self.lorakit, self.folder / name)


def check_skopeo(shop):
    """There and back, with a password and without: the digests stay, and what comes back is what was added."""
    users = run("htpasswd", "-Bbn", USER, PASSWORD)
    for way, users in [("anonymous", None), ("htpasswd", users)]:
        back, again = shop.new(f"back-{way}"), shop.new(f"again-{way}")
        with Server(shop.folder / f"server-{way}", users).running() as server:
            if users:
                right, server.credentials = server.credentials, []
                server.push(shop.store.place("sql:v1"), "sql:v1", code=1)
                server.credentials = ["--creds", f"{USER}:wrong"]
                server.push(shop.store.place("sql:v1"), "sql:v1", code=1)
                server.credentials = right
            for tag in PUSHED:
                known = shop.store.entry(tag)
                assert digest_at(shop.store.place(tag)) == known, tag
                server.push(shop.store.place(tag), f"acme/{tag}")
                assert server.digest(f"acme/{tag}") == known, tag
                server.pull(f"acme/{tag}", back.place(tag))
                assert digest_at(back.place(tag)) == known, tag
        for tag, source in shop.sources.items():
            again("import", back.path, tag, f"new/{tag}")
            assert again.digest(f"new/{tag}") == shop.store.digest(tag), tag
            out = shop.folder / f"out-{way}" / tag.replace(":", "-")
            again("export", f"new/{tag}", out)
            assert files(out) == files(source), tag
        attached = again.json("show", "new/sql:v1")["attached"]
        assert attached == [{"tag": "new/sql:v1-eval-1", "kind": "eval", "metrics": {"exact": 0.95}}], attached
        again.sound()


def check_oras(shop):
    """PyPI's oras pulls the very files that were added."""
    with Server(shop.folder / "server-oras").running() as server:
        client = oras.client.OrasClient(hostname=f"127.0.0.1:{server.port}", insecure=True)
        for tag, source in shop.sources.items():
            server.push(shop.store.place(tag), tag)
            out = shop.folder / "oras" / tag.replace(":", "-")
            out.mkdir(parents=True)
            client.pull(target=f"127.0.0.1:{server.port}/{tag}", outdir=str(out))
            assert files(out) == files(source), tag


def check_umoci(shop):
    """umoci lists every tag, and its sweep spares what lorakit stored."""
    store = shop.store.copy("umoci")
    assert store.umoci() == set(PUSHED)
    store("tag", "sql:v1", "sql:v2")
    store("untag", "team/upper:v1")
    assert store.umoci() == set(PUSHED) - {"team/upper:v1"} | {"sql:v2"}
    blobs = set(files(store.path / "blobs"))
    run("umoci", "gc", "--layout", store.path)
    gone = blobs - set(files(store.path / "blobs"))
    assert len(gone) == 4, "manifest, configuration and two files of the adapter without a tag, and nothing else"
    assert store.sound()["tags"] == len(PUSHED)


def check_schema(shop):
    """The configurations are ModelPack's; with one more field they would not be."""
    schema = json.loads((FIXTURES / "modelpack" / "config-schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for tag in shop.sources:
        manifest = json.loads(shop.store.blob(shop.store.digest(tag)))
        assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json", tag
        content = shop.store.blob(manifest["config"]["digest"])
        assert (digest(content), len(content)) == (manifest["config"]["digest"], manifest["config"]["size"]), tag
        config = json.loads(content)
        validator.validate(config)
        assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]], tag
        for part in [None, "descriptor", "config", "modelfs"]:
            changed = copy.deepcopy(config)
            (changed[part] if part else changed)["rank"] = "8"
            assert not validator.is_valid(changed), f"{tag}: {part}"


def check_sweep(shop):
    """The server's sweep removes what has no tag, so adapters and evaluations have one each."""
    server = Server(shop.folder / "server-sweep")
    untagged = shop.store.digest("team/upper:v1")
    with server.running():
        for tag in ["sql:v1", "sql:v1-eval-1"]:
            server.push(shop.store.place(tag), f"acme/{tag}")
        server.push(shop.store.place("team/upper:v1"), f"acme/sql@{untagged}")
        assert server.digest(f"acme/sql@{untagged}") == untagged
    server.sweep()
    back, again = shop.new("back-sweep"), shop.new("again-sweep")
    with server.running():
        run("skopeo", "inspect", "--raw", "--tls-verify=false", server.place(f"acme/sql@{untagged}"), code=1)
        for tag in ["sql:v1", "sql:v1-eval-1"]:
            server.pull(f"acme/{tag}", back.place(tag))
    again("import", back.path, "sql:v1")
    assert again.digest("sql:v1") == shop.store.digest("sql:v1")
    assert again.json("show", "sql:v1")["attached"][0]["metrics"] == {"exact": 0.95}
    again("verify")


def check_writers(shop):
    """Eight processes tag while skopeo, which takes no lock, copies into the same store: no tag is lost."""
    store, other = shop.store.copy("writers"), shop.store.copy("other")
    ours = {f"writer{i}:t{n}" for i in range(8) for n in range(50)}
    theirs, faults, done = [], [], threading.Event()

    def tag(i):
        for n in range(50):
            try:
                store("tag", "sql:v1", f"writer{i}:t{n}")
            except AssertionError as error:
                faults.append(str(error))

    def skopeo():
        while not done.is_set():
            name = f"skopeo:t{len(theirs)}"
            source = ["sql:v1", "team/upper:v1"][len(theirs) % 2]
            try:
                run("skopeo", "copy", "-q", other.place(source), store.place(name))
            except AssertionError as error:
                faults.append(str(error))
            theirs.append(name)

    writers = [threading.Thread(target=tag, args=(i,)) for i in range(8)]
    ninth = threading.Thread(target=skopeo)
    for thread in [*writers, ninth]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    ninth.join()
    tags, all_tags = store.tags(), ours | set(theirs)
    lost = f"lost {len(ours - tags)} of {len(ours)} and {len(set(theirs) - tags)} of skopeo's {len(theirs)} tags"
    assert all_tags <= tags and not faults, f"{lost}; {len(faults)} faults: {faults[:1]}"
    assert len(theirs) > 10
    store.sound()
    store("repair")
    assert store.umoci() == all_tags | set(PUSHED)
    for name in theirs[:4]:
        assert digest_at(store.place(name)) == store.digest(name)
    store.sound()


def check_layout(shop):
    """A layout that skopeo alone made is read, and stays as it is."""
    layout = shop.new("layout")
    for tag in ["sql:v1", "merged:v1"]:
        run("skopeo", "copy", "-q", shop.store.place(tag), layout.place(f"team/{tag}"))
    before = files(layout.path)
    assert layout.tags() == {"team/sql:v1", "team/merged:v1"}
    shown, known = (store.json("show", tag)["artifact"] for store, tag in [(layout, "team/sql:v1"), (shop.store, "sql:v1")])
    assert shown == known
    assert "2 artifacts" in layout("verify")
    layout.sound()
    assert files(layout.path) == before


def check_images(shop):
    """Ordinary images in the store, one of them of several platforms, are neither read nor removed."""
    store, mixed = shop.store.copy("images"), shop.store.copy("mixed")
    for name, architecture in [("amd:v1", "amd64"), ("arm:v1", "arm64")]:
        run("umoci", "new", "--image", f"{mixed.path}:{name}")
        run("umoci", "config", "--image", f"{mixed.path}:{name}", "--architecture", architecture)
    index = json.loads((mixed.path / "index.json").read_text())
    parts = [{key: entry[key] for key in ["mediaType", "digest", "size"]} | {
        "platform": {"os": "linux", "architecture": "amd64" if tag_of(entry) == "amd:v1" else "arm64"},
    } for entry in index["manifests"] if tag_of(entry) in ["amd:v1", "arm:v1"]]
    content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": parts}).encode()
    (mixed.path / "blobs" / "sha256" / digest(content).removeprefix("sha256:")).write_bytes(content)
    index["manifests"].append({"mediaType": INDEX, "digest": digest(content), "size": len(content),
                               "annotations": {"org.opencontainers.image.ref.name": "both:v1"}})
    (mixed.path / "index.json").write_text(json.dumps(index))
    run("skopeo", "copy", "-q", "--all", mixed.place("both:v1"), store.place("both:v1"))
    run("umoci", "new", "--image", f"{store.path}:image:v1")
    run("umoci", "new", "--image", f"{store.path}:plain")

    images = {"both:v1", "image:v1", "plain"}
    assert store.tags() == set(shop.sources) | images
    store("gc", "--apply", "--grace", "0s", "--history", "0s")
    assert store.sound()["tags"] == len(PUSHED) + len(images)
    for image in ["both:v1", "image:v1"]:
        store("show", image, code=1)
        assert digest_at(store.place(image))
    store("tag", "sql:v1", "sql:v2")
    assert store.umoci() == set(PUSHED) | images | {"sql:v2"}


def check_removed(shop):
    """What another program removed is named as lost, and does not stop the rest."""
    store = shop.store.copy("removed")
    run("umoci", "rm", "--image", f"{store.path}:team/upper:v1")
    assert "team/upper:v1" in store.tags(), "its blobs are there, and so is the tag"
    run("umoci", "gc", "--layout", store.path)
    assert [one["tag"] for one in store.json("list")["damaged"]] == ["team/upper:v1"]
    store("fsck", code=1)
    store("tag", "sql:v1", "sql:v2")
    store("repair", code=1)
    store("add", FIXTURES / "tiny-upper-lora", "team/upper:v1")
    assert store.sound()["tags"] == len(PUSHED) + 1
    assert store.umoci() == set(PUSHED) | {"sql:v2"}


CHECKS = [check_skopeo, check_oras, check_umoci, check_schema, check_sweep, check_layout, check_images, check_removed,
          check_writers]


def main(lorakit, *names):
    known = {check.__name__.removeprefix("check_"): check for check in CHECKS}
    chosen = [known[name] for name in names or known]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(pathlib.Path(lorakit).resolve(), pathlib.Path(folder))
        for check in chosen:
            check(shop)
    print(f"skopeo, umoci, docker-registry, oras and ModelPack's schema agree with the registry in {len(chosen)} checks")


main(*sys.argv[1:])
