"""Signs and verifies with OpenSSF's own model-signing: its signatures are verified by lorakit, and lorakit's by it.

usage: model_signing.py PATH_OF_LORAKIT

Needs the packages model-signing 1.1.1 and pyopenssl, which it forgets to declare.
"""

import pathlib
import subprocess
import sys
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

SHARDS = """
import sys
import model_signing
hashing = model_signing.hashing.Config().use_shard_serialization(shard_size=1000)
config = model_signing.signing.Config().use_elliptic_key_signer(private_key=sys.argv[1])
config.set_hashing_config(hashing).sign(sys.argv[2], sys.argv[3])
"""


def run(folder, *command):
    # In another folder than this file, which has the name of the module.
    return subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True)


def key(folder, name, curve, form=serialization.PrivateFormat.PKCS8):
    pair = ec.generate_private_key(curve)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(pair.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(pair.public_key().public_bytes(serialization.Encoding.PEM, spki))
    return private, public


def model(folder):
    files = {
        "adapter_config.json": b"{}", "adapter_model.safetensors": bytes(range(256)) * 40, "empty": b"",
        # Names that the two ways to sort, by text and by parts, put in another order.
        "sub/a.txt": b"a", "sub.json": b"{}", "sub-1/b": b"b", ".gitignore": b"*.tmp", ".git/HEAD": b"ref",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def check(lorakit, folder):
    files = folder / "model"
    model(files)
    peer = [sys.executable, "-m", "model_signing"]
    p256, pub256 = key(folder, "p256", ec.SECP256R1())
    sec1, pub_sec1 = key(folder, "sec1", ec.SECP256R1(), serialization.PrivateFormat.TraditionalOpenSSL)
    p384, pub384 = key(folder, "p384", ec.SECP384R1())
    p521, pub521 = key(folder, "p521", ec.SECP521R1())

    def ours(signature, public):
        return run(folder, lorakit, "registry", "verify", files, "--signature", signature, "--key", public)

    def theirs(signature, public):
        return run(folder, *peer, "verify", "key", "--signature", signature, "--public_key", public, files)

    def both(signature, public, accepted, what):
        for name, verify in [("lorakit", ours), ("model-signing", theirs)]:
            result = verify(signature, public)
            assert (result.returncode == 0) == accepted, f"{name}: {what}: {result.stdout}{result.stderr}"

    # Each signature is verified by both, beside the model and inside it.
    signatures = []
    for private, public in [(p256, pub256), (sec1, pub_sec1)]:
        for signature in [folder / f"{private.stem}.sig", files / "model.sig"]:
            result = run(folder, lorakit, "registry", "sign", files, "--key", private, "-o", signature)
            assert result.returncode == 0, result.stderr
            both(signature, public, True, "lorakit signed")
            if signature.parent == folder:
                signatures.append((signature, public))
            else:
                signature.unlink()
    for private, public in [(p256, pub256), (sec1, pub_sec1), (p384, pub384), (p521, pub521)]:
        signature = folder / f"{private.stem}-peer.sig"
        result = run(folder, *peer, "sign", "key", "--signature", signature, "--private_key", private, files)
        assert result.returncode == 0, result.stderr
        both(signature, public, True, "model-signing signed")
        signatures.append((signature, public))
    # model-signing 1.1.1 cannot verify its own shards, whose size it reads back as 1000.0.
    shards = folder / "shards.sig"
    assert (result := run(folder, sys.executable, "-c", SHARDS, p384, files, shards)).returncode == 0, result.stderr
    assert (result := ours(shards, pub384)).returncode == 0, result.stderr

    # Whatever one refuses, the other does too.
    weights = files / "adapter_model.safetensors"
    content = weights.read_bytes()
    for signature, public in signatures:
        both(signature, pub384 if public != pub384 else pub521, False, "another key")
        weights.write_bytes(content[:-1] + b"\x00")
        both(signature, public, False, "a changed byte")
        weights.unlink()
        both(signature, public, False, "a missing file")
        weights.symlink_to(files / "sub.json")
        both(signature, public, False, "a link")
        weights.unlink()
        weights.write_bytes(content)
        (files / "sub" / "more.py").write_bytes(b"")
        both(signature, public, False, "a file that is not signed")
        (files / "sub" / "more.py").unlink()
        both(signature, public, True, "as it was signed")
    weights.write_bytes(content + b"\x00")
    assert ours(shards, pub384).returncode != 0
    print(f"{len(signatures) + 1} signatures: lorakit and model-signing agree")


def main():
    lorakit = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        check(lorakit, pathlib.Path(folder).resolve())


if __name__ == "__main__":
    main()
