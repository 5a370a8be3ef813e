"""Receives lorakit's traces and reads them with opentelemetry-proto, the messages of OpenTelemetry themselves.

usage: otlp_receiver.py PATH_OF_LORAKIT, built with the feature `remote`
"""

import base64
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures"
IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def with_bytes(value):
    """OTLP/JSON writes ids in hexadecimal, where the JSON of protobuf writes bytes in base64."""
    if isinstance(value, list):
        return [with_bytes(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        if key in IDS:
            assert len(one) == 2 * IDS[key] and one == one.lower(), one
            one = base64.b64encode(bytes.fromhex(one)).decode()
        found[key] = with_bytes(one)
    return found


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        Receiver.requests.append((self.path, headers, json.loads(body)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def text(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def spans(requests):
    """Every span, by its id, after checking it; unknown fields are errors."""
    found = {}
    for path, headers, body in requests:
        assert path == "/v1/traces" and headers["content-type"] == "application/json", (path, headers)
        request = ParseDict(with_bytes(body), ExportTraceServiceRequest())
        for resource in request.resource_spans:
            about = text(resource.resource.attributes)
            assert about["service.name"] == "peer" and about["service.version"] and about["team"] == "a b", about
            for scope in resource.scope_spans:
                assert scope.scope.name == "lorakit" and scope.scope.version
                for span in scope.spans:
                    assert len(span.trace_id) == 16 and len(span.span_id) == 8 and any(span.trace_id)
                    assert span.kind == Span.SPAN_KIND_INTERNAL and span.status.code == Status.STATUS_CODE_OK
                    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
                    assert span.span_id not in found
                    keys = [one.key for one in span.attributes]
                    assert len(keys) == len(set(keys)), keys
                    found[span.span_id] = span
    return found


def check(lorakit, folder, url, line, expected):
    Receiver.requests.clear()
    environment = {
        "PATH": os.environ["PATH"],
        "XDG_STATE_HOME": str(folder / "state"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=sec%20ret",
        "OTEL_SERVICE_NAME": "peer",
        "OTEL_RESOURCE_ATTRIBUTES": "team=a%20b",
    }
    command = [lorakit, *line.split(), "--report", "otlp", "-q"]
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    assert all(headers["x-api-key"] == "sec ret" for _, headers, _ in Receiver.requests)
    found = spans(Receiver.requests)
    roots = [span for span in found.values() if not span.parent_span_id]
    assert len(roots) == 1 and roots[0].name == "lorakit.run", roots
    assert len({span.trace_id for span in found.values()}) == 1
    for span in found.values():
        if span.parent_span_id:
            parent = found[span.parent_span_id]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano, (parent.name, span.name)
            assert span.end_time_unix_nano <= parent.end_time_unix_nano, (parent.name, span.name)
    names = {span.name for span in found.values()}
    assert expected <= names, names
    waiting = [*folder.glob("state/**/*.jsonl"), *folder.glob("out/traces/*")]
    assert not waiting, waiting
    print(f"{line.split()[0]}: {len(found)} spans in {len(Receiver.requests)} requests")


def main(lorakit):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, rows in [("train", 30), ("heldout", 4)]:
            lines = (FIXTURES / "tiny-json" / f"{name}.jsonl").read_text().splitlines()
            (folder / f"{name}.jsonl").write_text("\n".join(lines[:rows]))
        base, adapter = FIXTURES / "tiny-orders", FIXTURES / "tiny-json-lora"
        train = f"train --model {base} --data train.jsonl -o out --max-steps 4 --val 0.1 --log-every 2 --packing false"
        check(lorakit, folder, url, train,
              {"data.prepare", "model.load", "eval", "train", "train.window", "eval@4", "checkpoint", "export"})
        line = f"eval --model {base} --adapter {adapter} --data heldout.jsonl --answers 2 --max-tokens 8"
        check(lorakit, folder, url, line, {"model.load", "eval", "eval.item", "eval.general"})
        line = f"generate --model {base} --adapter {adapter} --data heldout.jsonl --max-tokens 8"
        check(lorakit, folder, url, line, {"model.load", "generate"})


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
