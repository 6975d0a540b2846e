"""A client of the Volume Hub as a stranger would write one: stubs generated from the .proto, and no code of Cove's.

Run as `python hub.py SUITE SOCKET SEED ROUNDS` with the stubs in PYTHONPATH. What a suite wants of the world outside
it asks for by a line `ask WORDS` and waits for the line that answers; every other line is for people.
"""

import os
import random
import re
import secrets
import sys
import threading
import time

import grpc
from cove.hub.v1 import hub_pb2 as pb
from cove.hub.v1 import hub_pb2_grpc as rpc

Code = grpc.StatusCode
SERVICE = "cove.hub.v1.VolumeHub"
MIB = 1 << 20
NOWHERE = "vol-aaaaaaaaaaaaaaaaaaaaaaaa"

# With no name of a host: the library sends the path of the socket, percent-encoded, as `:authority`.
OPTIONS = [("grpc.use_local_subchannel_pool", 1),
           ("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20),
           ("grpc.max_reconnect_backoff_ms", 100), ("grpc.enable_retries", 0)]

SOCKET, SEED, ROUNDS = "", 0, 0


def channel(options=OPTIONS):
    return grpc.insecure_channel(f"unix:{SOCKET}", options=options)


def stub():
    return rpc.VolumeHubStub(channel())


def op(seq=0):
    """A fresh operation id of a caller that has seen the volume at `seq`."""
    return f"{seq:08x}{secrets.token_hex(12)}"


def ask(words):
    """Has the test outside do something."""
    with _asking:
        print(f"ask {words}", flush=True)
        answer = sys.stdin.readline().rstrip("\n")
    assert answer, f"nobody answers: {words}"
    return answer


_asking = threading.Lock()


def say(*words):
    print(*words, flush=True)


def check(holds, *told):
    """An assertion that optimising does not take away, and that shows what was found."""
    if not holds:
        raise AssertionError(" ".join(str(one) for one in told))


def equal(found, wanted, *where):
    check(found == wanted, *where, "found", repr(found), "wanted", repr(wanted))


def refused(code, text, call, request, **options):
    """The call is refused with this code, by a message on one line that the pattern is in."""
    name = type(request).__name__
    try:
        reply = call(request, **options)
    except grpc.RpcError as error:
        told = error.details() or ""
        equal(error.code(), code, name, told, request)
        check(re.search(text, told), name, "says", repr(told), "and not", text)
        check("\n" not in told, name, "says more than a line:", repr(told))
        return told
    raise AssertionError(f"{name} is not refused with {code} but answered: {reply}")


def until_answered(call, request):
    """Repeats a call with its operation id for as long as the first one is under way, cut off as it may be."""
    while True:
        try:
            return call(request, timeout=20)
        except grpc.RpcError as error:
            if error.code() != Code.ABORTED or "under way" not in error.details():
                raise
            time.sleep(0.001)


def until(what, look, seconds=20):
    """Looks again and again until there is something."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        check(time.monotonic() < end, "waited for:", what)
        time.sleep(0.02)


def open_sockets():
    """How many sockets Cove has open, once none is being opened or closed."""
    last = -1
    while last != (now := int(ask("open sockets"))):
        last = now
        time.sleep(0.3)
    return now


def write(volume, name, content):
    """Writes a file of a volume as any program on the node does."""
    path = os.path.join(volume.path, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def files(volume):
    """The files of a volume by their names: what is on the disk."""
    found = {}
    for directory, _, names in os.walk(volume.path):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, volume.path)] = file.read()
    return found


class Hub:
    """The calls of the service, each with its defaults filled in."""

    def __init__(self):
        self.stub = stub()

    def create(self, name, op_id=None, **fields):
        return self.stub.CreateVolume(pb.CreateVolumeRequest(name=name, op_id=op_id or op(), **fields)).volume

    def fork(self, volume, name, op_id=None, **fields):
        request = pb.ForkVolumeRequest(volume=volume, name=name, op_id=op_id or op(), **fields)
        return self.stub.ForkVolume(request).volume

    def snapshot(self, volumes, name, op_id=None, **fields):
        volumes = [volumes] if isinstance(volumes, str) else volumes
        request = pb.SnapshotRequest(volumes=volumes, name=name, op_id=op_id or op(self.seq(volumes[0])), **fields)
        return self.stub.Snapshot(request)

    def modify(self, volume, op_id=None, **fields):
        request = pb.ModifyVolumeRequest(volume=volume, op_id=op_id or op(self.seq(volume)), **fields)
        return self.stub.ModifyVolume(request).volume

    def restore(self, volume, snapshot, op_id=None, **fields):
        request = pb.RestoreVolumeRequest(volume=volume, snapshot=snapshot, op_id=op_id or op(self.seq(volume)), **fields)
        return self.stub.RestoreVolume(request)

    def delete(self, volume, op_id=None):
        return self.stub.DeleteVolume(pb.DeleteVolumeRequest(volume=volume, op_id=op_id or op()))

    def delete_snapshot(self, snapshot, op_id=None):
        return self.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot=snapshot, op_id=op_id or op()))

    def status(self, volume):
        return self.stub.VolumeStatus(pb.VolumeStatusRequest(volume=volume))

    def seq(self, volume):
        return self.status(volume).volume.seq

    def sync(self, volume):
        return self.stub.TriggerSync(pb.TriggerSyncRequest(volume=volume))

    def pages(self, call, request, of):
        """All of a list, page by page."""
        found = []
        while True:
            reply = call(request)
            found.extend(getattr(reply, of))
            if not reply.next_page_token:
                return found
            request.page_token = reply.next_page_token

    def volumes(self, page_size=0):
        return self.pages(self.stub.ListVolumes, pb.ListVolumesRequest(page_size=page_size), "volumes")

    def snapshots(self, **filters):
        return self.pages(self.stub.ListSnapshots, pb.ListSnapshotsRequest(**filters), "snapshots")

    def everything(self):
        """What there is, as text to compare."""
        volumes = [(volume.id, volume.name, volume.seq, volume.quota_bytes, sorted(volume.labels.items()),
                    sorted(volume.parameters.items()), sorted(files(volume))) for volume in self.volumes()]
        return volumes, [snapshot.id for snapshot in self.snapshots()]


def main():
    global SOCKET, SEED, ROUNDS
    suite, SOCKET = sys.argv[1:3]
    SEED, ROUNDS = int(sys.argv[3]), int(sys.argv[4])
    random.seed(SEED)
    for module in ("hub", "__main__"):
        sys.modules[module] = sys.modules["__main__"]
    __import__(suite).run()
    say("done")


if __name__ == "__main__":
    main()
