"""targetd's HTTP and JSON-RPC as its version 0.10 speaks them, over volumes in memory.

Error codes and sentences are of targetd/main.py, block.py and backends/lvm.py.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, PASSWORD = "admin", "opensesame12"
POOL = "vg-targetd/pool"


class RefusalError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakeTargetd:
    def __init__(self) -> None:
        self.volumes: dict[str, set[str]] = {POOL: {"vm"}, "tank": {"vm"}, "vg-plain": {"vm"}}
        self.exports: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.raw: bytes | None = None
        """Answered as it is, whatever was asked."""
        self.status = 200
        self.port = 0

    # --- the API ----------------------------------------------------------------------------

    def pool_list(self) -> list[dict[str, Any]]:
        uuids = {POOL: "abc", "tank": 123456, "vg-plain": "def"}
        return [{"name": name, "type": "block", "uuid": uuids[name]} for name in self.volumes]

    def vol_list(self, pool: str) -> list[dict[str, Any]]:
        if pool not in self.volumes:
            raise RefusalError(-110, f"Invalid pool ({pool})")
        return [{"name": name, "size": 1 << 20, "uuid": name} for name in self.volumes[pool]]

    def vol_copy(self, pool: str, vol_orig: str, vol_new: str) -> None:
        if vol_orig not in self.volumes[pool]:
            raise RefusalError(-103, f"Volume {vol_orig} not found in pool {pool}")
        if vol_new in self.volumes[pool]:
            raise RefusalError(-50, "Volume with that name exists")
        if pool == "vg-plain":
            raise RefusalError(-1, "RuntimeError: copy requires thin-provisioned volumes")
        self.volumes[pool].add(vol_new)

    def vol_destroy(self, pool: str, name: str) -> None:
        if any(each["vol_name"] == name for each in self.exports):
            raise RefusalError(-303, f"Volume '{name}' cannot be removed while exported")
        self.volumes[pool].remove(name)

    def export_list(self) -> list[dict[str, Any]]:
        return self.exports

    def export_create(self, pool: str, vol: str, initiator_wwn: str, lun: int) -> None:
        for each in self.exports:
            if (each["initiator_wwn"], each["lun"]) == (initiator_wwn, lun):
                raise RefusalError(-1, "RTSLibError: LUN in use")
        found = {"pool": pool, "vol_name": vol, "initiator_wwn": initiator_wwn, "lun": lun}
        self.exports.append(found)

    def export_destroy(self, pool: str, vol: str, initiator_wwn: str) -> None:
        self.exports = [
            each
            for each in self.exports
            if (each["pool"], each["vol_name"], each["initiator_wwn"]) != (pool, vol, initiator_wwn)
        ]

    # --- HTTP ---------------------------------------------------------------------------------

    def answer(self, request: dict[str, Any]) -> bytes:
        method, number = request["method"], request["id"]
        self.calls.append(method)
        if self.raw is not None:
            return self.raw
        try:
            result = getattr(self, method)(**(request.get("params") or {}))
        except RefusalError as error:
            said = {"code": error.code, "message": str(error)}
            return json.dumps({"error": said, "id": number, "jsonrpc": "2.0"}).encode()
        return json.dumps({"result": result, "id": number, "jsonrpc": "2.0"}).encode()


@contextmanager
def fake_targetd() -> Iterator[FakeTargetd]:
    """Serve on loopback until the block ends."""
    targetd = FakeTargetd()
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["Authorization"] != expected:
                self.send_error(401)
                return
            assert self.path == "/targetrpc"
            self.send_response(targetd.status)
            if targetd.status == 302:
                self.send_header("Location", "http://elsewhere.invalid/targetrpc")
            self.end_headers()
            self.wfile.write(targetd.answer(json.loads(body)))

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        targetd.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield targetd
        finally:
            server.shutdown()
            thread.join()
