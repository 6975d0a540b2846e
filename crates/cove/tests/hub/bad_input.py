"""Requests that are none: the right code, a text that names the field, and nothing changed."""

import os
import signal
import subprocess
import sys

from hub import MIB, NOWHERE, SERVICE, SOCKET, Code, Hub, ask, channel, check, equal, op, open_sockets, pb, refused, say, until

INVALID, NOT_FOUND, RANGE = Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.OUT_OF_RANGE

# Of each request, a field and values that it cannot have, each with the code when it is not INVALID_ARGUMENT.
LONG = "x" * 5000
VOLUMES = ["", LONG, "Vol-A", "a/b", "..", "é", "a\x00b", "{snapshot}", (NOWHERE, NOT_FOUND), ("a", NOT_FOUND)]
SNAPSHOTS = ["", LONG, "{volume}", "@", "{volume}@", "{volume}@short", "{volume}@ABCDEFGHIJKL", "{snapshot}x",
             "/@aaaaaaaaaaaa", ("{volume}@aaaaaaaaaaaa", NOT_FOUND)]
OPERATIONS = ["", "0", "g" * 32, "0" * 31, "0" * 33, "A" * 32, LONG, "{volume}", " " + "0" * 31]
NAMES = ["", "x" * 129, LONG, "a\x00b", "a\x1b[31m", "a\x7f", "é" * 65]
QUOTAS = [1, MIB - 1, (1 << 60) + 1, (1 << 64) - 1]
LABELS = [{"": "v"}, {"k" * 64: "v"}, {"k": "v" * 64}, {"k\n": "v"}, {str(n): "v" for n in range(65)},
          {f"{n:063}": "v" * 63 for n in range(20)}]
PARAMETERS = [{"unknown": "1"}, {"": "1"}, {"storingInterval": "0"}, {"storingInterval": "86401"},
              {"storingInterval": "5s"}, {"retention": "201"}, {"retention": ""}, {"retention": "01"}, {"retention": LONG}]
PAGES = [1001, (1 << 32) - 1]
TOKENS = ["x", LONG, "after:", "{volume}", "after:A"]


def cases():
    """Each a call, a lawful request of it, and its fields with what they cannot be."""
    op_id = op(2)
    yield "CreateVolume", pb.CreateVolumeRequest(name="new", op_id=op_id), {
        "name": NAMES, "op_id": OPERATIONS, "quota_bytes": [0, *QUOTAS], "labels": LABELS, "parameters": PARAMETERS,
        "source": [pb.Source(), *[pb.Source(volume=id) for id in VOLUMES if isinstance(id, str)],
                   *[pb.Source(snapshot=id) for id in SNAPSHOTS if isinstance(id, str)],
                   *[pb.Source(template=name) for name in NAMES],
                   (pb.Source(volume=NOWHERE), NOT_FOUND), (pb.Source(snapshot=f"{NOWHERE}@aaaaaaaaaaaa"), NOT_FOUND),
                   (pb.Source(template="none"), NOT_FOUND), (pb.Source(template="bad"), NOT_FOUND)],
        "quota_range": [(pb.QuotaRange(**range), RANGE) for range in [
            dict(required_bytes=2 * MIB, limit_bytes=MIB), dict(required_bytes=(1 << 60) + 1),
            dict(required_bytes=1, limit_bytes=MIB - 1), dict(limit_bytes=5), dict(limit_bytes=0), dict(required_bytes=0, limit_bytes=0)]]}
    yield "DeleteVolume", pb.DeleteVolumeRequest(volume="{volume}", op_id=op_id), {
        "volume": [id for id in VOLUMES if isinstance(id, str)], "op_id": OPERATIONS}
    yield "EnsureCached", pb.EnsureCachedRequest(volume="{volume}"), {
        "volume": VOLUMES, "candidates": [[""], ["a", LONG], ["A"], ["a/b"]]}
    yield "TriggerSync", pb.TriggerSyncRequest(volume="{volume}"), {"volume": VOLUMES}
    yield "CreateServiceVolume", pb.CreateServiceVolumeRequest(volume="{volume}", service="db"), {
        "volume": VOLUMES, "service": ["", "x" * 41, LONG, "-a", "A", "a/b", "..", ".", "é", "a\x00", "a b"]}
    yield "VolumeStatus", pb.VolumeStatusRequest(volume="{volume}"), {"volume": VOLUMES}
    yield "ForkVolume", pb.ForkVolumeRequest(volume="{volume}", name="new", op_id=op_id), {
        "volume": VOLUMES, "name": NAMES, "op_id": OPERATIONS, "quota_bytes": [0, *QUOTAS], "labels": LABELS,
        "snapshot": [*SNAPSHOTS[1:], f"{NOWHERE}@aaaaaaaaaaaa"]}
    yield "ModifyVolume", pb.ModifyVolumeRequest(volume="{volume}", op_id=op_id, set_labels=True, labels={"a": "b"}), {
        "volume": VOLUMES, "op_id": OPERATIONS, "quota_bytes": QUOTAS, "labels": LABELS, "parameters": PARAMETERS}
    yield "ModifyVolume", pb.ModifyVolumeRequest(volume="{volume}", op_id=op_id), {"labels": [{"a": "b"}]}
    yield "Snapshot", pb.SnapshotRequest(volumes=["{volume}"], name="new", op_id=op_id), {
        "volumes": [[], *[[id] for id in VOLUMES if isinstance(id, str)], ["{volume}", "{volume}"],
                    ["{volume}", *(f"v{n}" for n in range(64))], (["{volume}", NOWHERE], NOT_FOUND)],
        "name": NAMES, "op_id": OPERATIONS}
    yield "DeleteSnapshot", pb.DeleteSnapshotRequest(snapshot="{snapshot}", op_id=op_id), {
        "snapshot": [id for id in SNAPSHOTS if isinstance(id, str)], "op_id": OPERATIONS}
    yield "ListSnapshots", pb.ListSnapshotsRequest(), {
        "volume": [id for id in VOLUMES[1:] if isinstance(id, str)],
        "snapshot": [id for id in SNAPSHOTS[1:] if isinstance(id, str)], "name": NAMES[1:], "group": NAMES[1:],
        "page_size": PAGES, "page_token": TOKENS}
    yield "RestoreVolume", pb.RestoreVolumeRequest(volume="{volume}", snapshot="{snapshot}", op_id=op_id), {
        "volume": VOLUMES[:-2], "snapshot": [*SNAPSHOTS, (f"{NOWHERE}@aaaaaaaaaaaa", NOT_FOUND)], "op_id": OPERATIONS}
    yield "ResolveVolume", pb.ResolveVolumeRequest(), {
        "name": [*NAMES, ("none", NOT_FOUND)], "project": ["", LONG, "A", "a/b", "é", ("none", NOT_FOUND)]}
    yield "ListVolumes", pb.ListVolumesRequest(), {"page_size": PAGES, "page_token": TOKENS}
    yield "GetCapacity", pb.GetCapacityRequest(), {"node": [LONG, "A", "a/b", ("nowhere", NOT_FOUND)]}


def run():
    hub = Hub()
    volume = hub.create("bad", labels={"kept": "1"})
    snapshot = hub.snapshot(volume.id, "bad of it").snapshots[0].id
    hub.sync(volume.id)
    before = hub.everything()
    log = ask("log")

    calls = 0
    for method, lawful, fields in cases():
        for field, values in fields.items():
            for value in values:
                value, code = value if isinstance(value, tuple) else (value, INVALID)
                request = filled(lawful, volume.id, snapshot)
                set_field(request, field, value, volume.id, snapshot)
                # what is not there is named by its kind, what is out of range by its law
                named = field_in_text(field) if code == INVALID else "does not exist|is called|is the workspace|there is no|quota"
                refused(code, named, getattr(hub.stub, method), request)
                calls += 1
    refused(INVALID, '"what" is missing', hub.stub.ResolveVolume, pb.ResolveVolumeRequest())
    equal(hub.everything(), before, "nothing changed")
    say("bad fields refused, nothing changed:", calls)

    on_the_wire(hub, volume.id, snapshot)
    larger_than_anything(hub)
    newer_fields(hub, volume.id)
    equal(hub.everything(), before, "nothing changed")
    a_program_that_vanishes(hub)
    strangers(hub)
    equal(ask("log"), log, "what callers do wrong is not logged as ours")


def field_in_text(field):
    """How a refusal names a field: as a field, with those within it; a list is told by its law, too."""
    if field == "page_token":
        return "page token|page_token"
    if field == "parameters":
        return '"parameters|parameter '
    return f'"{field}(\\.[a-z_]+)?"'


def fill(text, volume, snapshot):
    return text.replace("{volume}", volume).replace("{snapshot}", snapshot)


def filled(message, volume, snapshot):
    """A copy of a message with the ids of what there is."""
    new = type(message)()
    new.CopyFrom(message)
    for descriptor, value in message.ListFields():
        if isinstance(value, str):
            setattr(new, descriptor.name, fill(value, volume, snapshot))
        elif descriptor.name == "volumes":
            new.volumes[:] = [fill(one, volume, snapshot) for one in value]
    return new


def set_field(request, field, value, volume, snapshot):
    request.ClearField(field)
    if isinstance(value, str):
        setattr(request, field, fill(value, volume, snapshot))
    elif isinstance(value, int):
        setattr(request, field, value)
    elif isinstance(value, list):
        getattr(request, field).extend(fill(one, volume, snapshot) for one in value)
    elif isinstance(value, dict):
        getattr(request, field).update(value)
    else:
        getattr(request, field).CopyFrom(filled(value, volume, snapshot))


def varint(number):
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes(encoded + bytes([number]))


def raw(method, message, timeout=20):
    """Sends bytes as they are."""
    own = channel()
    try:
        return own.unary_unary(f"/{SERVICE}/{method}")(message, timeout=timeout)
    finally:
        own.close()


def raw_refused(method, message, codes, text):
    import re
    import grpc
    try:
        raw(method, message)
    except grpc.RpcError as error:
        check(error.code() in codes, method, message[:40], error.code(), error.details())
        check(re.search(text, error.details()), method, message[:40], error.details(), "does not say", text)
        return
    raise AssertionError(f"{method} takes {message[:40]!r}")


def on_the_wire(hub, volume, snapshot):
    """Text that is not UTF-8, fields of another type, messages that break off: gRPC has INTERNAL for all of them."""
    sent = 0
    for method, lawful, _ in cases():
        descriptor = lawful.DESCRIPTOR
        valid = filled(lawful, volume, snapshot).SerializeToString()
        for field in descriptor.fields:
            tag, is_length = field.number << 3, field.type in (field.TYPE_STRING, field.TYPE_MESSAGE)
            # a choice is named as a whole
            choice = field.containing_oneof
            shown = choice.name if choice and not choice.name.startswith("_") else field.name
            named = f"{descriptor.name}\\.{shown}"
            if field.type == field.TYPE_STRING:
                for text in [b"\xff\xfe", b"vol-\xc3", b"\xed\xa0\x80", b"\xc0\xaf"]:
                    raw_refused(method, valid + varint(tag | 2) + varint(len(text)) + text, [Code.INTERNAL],
                                f"{named}.* not UTF-8")
                    sent += 1
            other = varint(tag | 0) + b"\x01" if is_length else varint(tag | 2) + b"\x01a"
            raw_refused(method, valid + other, [Code.INTERNAL], f"{named}.* wire type")
            sent += 1
        for broken in [valid + b"\x0a\x7f", b"\xff" * 11, b"\x00", valid + b"\x0b"]:
            raw_refused(method, broken, [Code.INTERNAL], "failed to decode")
            sent += 1
    raw_refused("Nothing", b"", [Code.UNIMPLEMENTED], "")
    say("messages that are none refused:", sent)


def larger_than_anything(hub):
    for size in [4 * MIB, 16 * MIB]:
        for method in ["CreateVolume", "ListVolumes", "WatchVolumes"]:
            raw_refused(method, b"\x7a" + varint(size) + b"x" * size, [Code.OUT_OF_RANGE], "too large")
    # beside it, a lawful length that holds nothing of sense
    many = pb.EnsureCachedRequest(volume=NOWHERE, candidates=["a"] * 500_000)
    refused(Code.NOT_FOUND, "does not exist", hub.stub.EnsureCached, many)


def newer_fields(hub, volume):
    """Fields that only a newer client knows are left out."""
    unknown = b"".join(varint(number << 3 | 2) + b"\x03new" for number in [100, 12345]) + varint(200 << 3) + b"\x07"
    request = pb.VolumeStatusRequest(volume=volume).SerializeToString() + unknown
    equal(pb.VolumeStatusResponse.FromString(raw("VolumeStatus", request)).volume.id, volume)
    request = pb.CreateVolumeRequest(name="newer", op_id=op()).SerializeToString() + unknown
    made = pb.CreateVolumeResponse.FromString(raw("CreateVolume", request)).volume
    equal(made.name, "newer")
    hub.delete(made.id)


def a_program_that_vanishes(hub):
    """Programs that watch are killed: their streams cost nothing any more."""
    before = open_sockets()
    script = ("import sys; sys.argv[1:3] = ['', sys.argv[1]]\nimport hub; hub.SOCKET = sys.argv[2]\n"
              "streams = [hub.stub().WatchVolumes(hub.pb.WatchVolumesRequest()) for _ in range(5)]\n"
              "for stream in streams: next(stream)\nprint('watching', flush=True)\nimport time; time.sleep(60)\n")
    programs = [subprocess.Popen([sys.executable, "-c", script, socket()], stdout=subprocess.PIPE,
                                 cwd=os.path.dirname(os.path.abspath(__file__))) for _ in range(3)]
    for program in programs:
        equal(program.stdout.readline(), b"watching\n")
    until("each stream has a connection of its own", lambda: int(ask("open sockets")) >= before + 15)
    for program in programs:
        program.send_signal(signal.SIGKILL)
        program.wait()
    until("what they held is let go", lambda: int(ask("open sockets")) <= before + 2)
    hub.volumes()


def socket():
    import hub
    return hub.SOCKET


def strangers(hub):
    """Another user's connection is closed, whatever the modes of files say."""
    import socket as sockets
    ask("let others reach the socket")
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with sockets.socket(sockets.AF_UNIX) as stranger:
                stranger.settimeout(10)
                stranger.connect(socket())
                try:
                    stranger.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
                    said = stranger.recv(100)
                except (BrokenPipeError, ConnectionResetError):
                    said = b""
            os._exit(0 if said == b"" else 3)
        except BaseException:
            os._exit(4)
    equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, "3: it was answered; 4: it could not connect")
    hub.volumes()
