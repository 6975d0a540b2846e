"""Every code that the protocol names, provoked for real, with its text and what it leaves behind.

Elsewhere: UNAVAILABLE, when the Hub stops under a call that waits (away.py, lists.py), and DEADLINE_EXCEEDED while the
store is away (away.py); INTERNAL is gRPC's own word for bytes that are no message (bad_input.py).

Cannot be provoked: PERMISSION_DENIED, since the connection of another user is closed before it calls anything
(bad_input.py), and a store that refuses is waited for; INTERNAL of the Hub, which is for what nobody foresaw, since
the one reply that the wire cannot tell, a directory that is not UTF-8, needs a home that Cove refuses to start on;
RESOURCE_EXHAUSTED by `budget_bytes` of EnsureCached, since nothing is moved while there is one node.
"""

import os
import subprocess
import tempfile
import threading

from hub import (MIB, NOWHERE, Code, Hub, ask, check, channel, equal, files, grpc, op, pb, refused, rpc, say, until,
                 until_answered, write)

NO_ENTRY = f"{NOWHERE}@aaaaaaaaaaaa"


def run():
    hub = Hub()
    not_found(hub)
    already_exists(hub)
    failed_precondition(hub)
    aborted_by_another_request(hub)
    aborted_by_every_other_call(hub)
    aborted_by_another_call(hub)
    out_of_range(hub)
    more_than_there_is(hub)
    deadline_exceeded(hub)
    held_by_no_smaller_quota(hub)
    resource_exhausted(hub)


def not_found(hub):
    volume = hub.create("there").id
    stub, gone = hub.stub, dict(volume=NOWHERE)
    for call, request in [
        (stub.VolumeStatus, pb.VolumeStatusRequest(**gone)),
        (stub.EnsureCached, pb.EnsureCachedRequest(**gone)),
        (stub.TriggerSync, pb.TriggerSyncRequest(**gone)),
        (stub.CreateServiceVolume, pb.CreateServiceVolumeRequest(service="db", **gone)),
        (stub.ForkVolume, pb.ForkVolumeRequest(name="f", op_id=op(), **gone)),
        (stub.ModifyVolume, pb.ModifyVolumeRequest(op_id=op(), quota_bytes=0, **gone)),
        (stub.Snapshot, pb.SnapshotRequest(volumes=[volume, NOWHERE], name="s", op_id=op())),
        (stub.CreateVolume, pb.CreateVolumeRequest(name="c", op_id=op(), source=pb.Source(volume=NOWHERE))),
    ]:
        refused(Code.NOT_FOUND, f"volume {NOWHERE} does not exist", call, request)
    for call, request in [
        (stub.RestoreVolume, pb.RestoreVolumeRequest(volume=volume, snapshot=f"{volume}@aaaaaaaaaaaa", op_id=op())),
        (stub.CreateVolume, pb.CreateVolumeRequest(name="c", op_id=op(), source=pb.Source(snapshot=NO_ENTRY))),
        (stub.ForkVolume, pb.ForkVolumeRequest(volume=volume, snapshot=f"{volume}@aaaaaaaaaaaa", name="f", op_id=op())),
    ]:
        refused(Code.NOT_FOUND, "snapshot .*@aaaaaaaaaaaa does not exist", call, request)
    refused(Code.NOT_FOUND, 'no volume is called "no such"', stub.ResolveVolume, pb.ResolveVolumeRequest(name="no such"))
    # a name is found, its template is not one
    refused(Code.NOT_FOUND, 'no template "there"', stub.CreateVolume,
            pb.CreateVolumeRequest(name="c", op_id=op(), source=pb.Source(template="there")))
    refused(Code.NOT_FOUND, "node nowhere does not exist", stub.GetCapacity, pb.GetCapacityRequest(node="nowhere"))
    equal([(each.id) for each in hub.volumes()], [volume], "nothing was made")
    equal(hub.snapshots(), [])
    # what was made, and is deleted since, is made no second time
    op_id = op()
    once = hub.create("once", op_id)
    hub.delete(once.id)
    refused(Code.NOT_FOUND, once.id, stub.CreateVolume, pb.CreateVolumeRequest(name="once", op_id=op_id))


def already_exists(hub):
    one, two = hub.create("name", labels={"a": "1"}), hub.create("other")
    for number, (fields, differs) in enumerate([
        (dict(labels={"a": "2"}), "labels"), (dict(labels={"a": "1"}, quota_bytes=MIB), "quota"),
        (dict(labels={"a": "1"}, parameters={"retention": "3"}), "parameters"),
        (dict(labels={"a": "1"}, source=pb.Source(volume=two.id)), "source"),
    ]):
        request = pb.CreateVolumeRequest(name="name", op_id=op(), **fields)
        refused(Code.ALREADY_EXISTS, f'volume {one.id} is called "name" .*{differs}', hub.stub.CreateVolume, request)
    refused(Code.ALREADY_EXISTS, "source", hub.stub.ForkVolume,
            pb.ForkVolumeRequest(volume=two.id, name="name", op_id=op()))
    taken = hub.snapshot(one.id, "taken").snapshots[0]
    for request in [pb.SnapshotRequest(volumes=[two.id], name="taken", op_id=op()),
                    pb.SnapshotRequest(volumes=[one.id, two.id], name="taken", op_id=op()),
                    pb.SnapshotRequest(volumes=[one.id], name="taken", op_id=op(), is_group=True)]:
        refused(Code.ALREADY_EXISTS, f'snapshot {taken.id} is called "taken"', hub.stub.Snapshot, request)


def failed_precondition(hub):
    ask("cove new shop")
    shop = hub.stub.ResolveVolume(pb.ResolveVolumeRequest(project="shop")).volume
    equal((shop.project, shop.name), ("shop", "shop"))
    delete = hub.stub.DeleteVolume
    refused(Code.FAILED_PRECONDITION, "workspace of project shop", delete,
            pb.DeleteVolumeRequest(volume=shop.id, op_id=op()))
    ask("cove snapshot shop")
    entry = hub.snapshots(volume=shop.id)[0]
    equal((entry.name, hub.snapshots(volume=shop.id, only_named=True)), ("", []))
    refused(Code.FAILED_PRECONDITION, "entry of a project's timeline", hub.stub.DeleteSnapshot,
            pb.DeleteSnapshotRequest(snapshot=entry.id, op_id=op()))

    volume = hub.create("in use")
    write(volume, "f", b"x")
    with tempfile.TemporaryDirectory() as place:
        for mounted in [volume.path, os.path.dirname(volume.path)]:
            subprocess.run(["mount", "--bind", mounted, place], check=True)
            try:
                refused(Code.FAILED_PRECONDITION, f"it is mounted at {place}", delete,
                        pb.DeleteVolumeRequest(volume=volume.id, op_id=op()))
                check(os.listdir(place), "what is mounted is there")
            finally:
                subprocess.run(["umount", place], check=True)
    snapshot = hub.snapshot(volume.id, "of in use").snapshots[0].id
    with open(os.path.join(volume.path, "f"), "ab"):
        refused(Code.FAILED_PRECONDITION, "open for writing", hub.stub.RestoreVolume,
                pb.RestoreVolumeRequest(volume=volume.id, snapshot=snapshot, op_id=op(hub.seq(volume.id))))
    refused(Code.FAILED_PRECONDITION, "of 2 candidates none", hub.stub.EnsureCached,
            pb.EnsureCachedRequest(volume=volume.id, candidates=["elsewhere", "nowhere"]))


def aborted_by_another_request(hub):
    stub, op_id = hub.stub, op()
    volume = hub.create("asked", op_id)
    refused(Code.ABORTED, "the same operation id was used for another request", stub.CreateVolume,
            pb.CreateVolumeRequest(name="asked otherwise", op_id=op_id))
    snapshot = hub.snapshot(volume.id, "asked first").snapshots[0]
    op_id = op(hub.seq(volume.id))
    hub.modify(volume.id, op_id, quota_bytes=5 * MIB)
    for call, request in [
        (stub.ModifyVolume, pb.ModifyVolumeRequest(volume=volume.id, op_id=op_id, quota_bytes=6 * MIB)),
        (stub.RestoreVolume, pb.RestoreVolumeRequest(volume=volume.id, snapshot=snapshot.id, op_id=op_id)),
        (stub.Snapshot, pb.SnapshotRequest(volumes=[volume.id], name="asked second", op_id=op_id)),
        (stub.DeleteSnapshot, pb.DeleteSnapshotRequest(snapshot=snapshot.id, op_id=op_id)),
        (stub.DeleteVolume, pb.DeleteVolumeRequest(volume=volume.id, op_id=op_id)),
    ]:
        refused(Code.ABORTED, "the same operation id was used for another request", call, request)
    equal(hub.status(volume.id).volume.quota_bytes, 5 * MIB)
    equal([each.id for each in hub.snapshots(volume=volume.id)], [snapshot.id])


def changes(hub, snapshot, other, name, op_id):
    """Every changing call on a snapshot, its volume and another volume."""
    stub, volume, same = hub.stub, snapshot.split("@")[0], dict(op_id=op_id)
    one, two = pb.Source(volume=volume), pb.Source(snapshot=snapshot)
    return [
        ("create", stub.CreateVolume, pb.CreateVolumeRequest(name=name, **same)),
        ("create of a volume", stub.CreateVolume, pb.CreateVolumeRequest(name=name, source=one, **same)),
        ("create of a snapshot", stub.CreateVolume, pb.CreateVolumeRequest(name=name, source=two, **same)),
        ("fork", stub.ForkVolume, pb.ForkVolumeRequest(volume=volume, name=name, **same)),
        ("modify", stub.ModifyVolume, pb.ModifyVolumeRequest(volume=volume, labels={"by": name}, set_labels=True, **same)),
        ("snapshot", stub.Snapshot, pb.SnapshotRequest(volumes=[volume], name=name, **same)),
        ("snapshot two", stub.Snapshot, pb.SnapshotRequest(volumes=[volume, other], name=name, **same)),
        ("snapshot two, the other first", stub.Snapshot, pb.SnapshotRequest(volumes=[other, volume], name=name, **same)),
        ("restore", stub.RestoreVolume, pb.RestoreVolumeRequest(volume=volume, snapshot=snapshot, **same)),
        ("delete the snapshot", stub.DeleteSnapshot, pb.DeleteSnapshotRequest(snapshot=snapshot, **same)),
        ("delete", stub.DeleteVolume, pb.DeleteVolumeRequest(volume=volume, **same)),
    ]


def aborted_by_every_other_call(hub):
    """One id is of one request, whichever calls the two are and of whichever volumes."""
    def seen():
        volumes = [(each.id, each.name, dict(each.labels)) for each in hub.volumes()]
        return volumes, [each.id for each in hub.snapshots()]

    pairs, spare = 0, hub.create("spare of pairs").id
    for has_seen in [False, True]:
        for number in range(11):
            name = f"pair {has_seen} {number}"
            one, two = (hub.create(f"{name} {which}").id for which in ["one", "two"])
            snapshots = [hub.snapshot(each, f"{name} of {each}").snapshots[0].id for each in [one, two]]
            op_id = op(max(hub.seq(one), hub.seq(two)) if has_seen else 0)
            what, call, request = changes(hub, snapshots[0], two, f"{name} first", op_id)[number]
            reply = call(request)
            if hasattr(reply, "volume") and reply.volume.id not in (one, two):
                snapshots.append(hub.snapshot(reply.volume.id, f"{name} of what was made").snapshots[0].id)
            if what in ("delete", "delete the snapshot"):
                del snapshots[0]
            before = seen()
            for snapshot in snapshots:
                for then, call, request in changes(hub, snapshot, spare, f"{name} second", op_id):
                    if what == then == "restore" and snapshot == snapshots[0]:
                        continue
                    refused(Code.ABORTED, "the same operation id was used for another request", call, request)
                    pairs += 1
            equal(seen(), before, what)
            for volume in [each.id for each in hub.volumes() if each.name.startswith(name)]:
                hub.delete(volume)
            for snapshot in [each.id for each in hub.snapshots() if each.name.startswith(name)]:
                hub.delete_snapshot(snapshot)
    say("pairs of calls under one id, the second refused:", pairs)
    # another size is another request, although the volume has that size by now
    op_id = op()
    request = pb.CreateVolumeRequest(name="sized", op_id=op_id, quota_bytes=5 * MIB)
    volume = hub.stub.CreateVolume(request).volume.id
    hub.modify(volume, quota_bytes=9 * MIB)
    equal(hub.stub.CreateVolume(request).volume.quota_bytes, 9 * MIB, "a repetition")
    for quota in [dict(quota_bytes=9 * MIB), dict(), dict(quota_range=pb.QuotaRange(required_bytes=5 * MIB))]:
        refused(Code.ABORTED, "the same operation id was used for another request", hub.stub.CreateVolume,
                pb.CreateVolumeRequest(name="sized", op_id=op_id, **quota))
    equal(hub.status(volume).volume.quota_bytes, 9 * MIB)


def aborted_by_another_call(hub):
    """Several change one volume at once: of each moment one is carried out, the others are told to repeat."""
    volume, codes = hub.create("contended").id, []
    begin = threading.Barrier(8)

    def change(number):
        stub = rpc.VolumeHubStub(channel())
        for round in range(20):
            begin.wait()
            try:
                stub.ModifyVolume(pb.ModifyVolumeRequest(volume=volume, op_id=op(), quota_bytes=(1 + number + round) * MIB))
                codes.append(Code.OK)
            except grpc.RpcError as error:
                check("another call on volume" in error.details(), error)
                codes.append(error.code())

    together([threading.Thread(target=change, args=[number]) for number in range(8)])
    counts = {code: codes.count(code) for code in set(codes)}
    equal(set(counts), {Code.OK, Code.ABORTED})
    check(counts[Code.OK] >= 20, counts)
    say("of calls on one volume at once:", {code.name: count for code, count in counts.items()})
    names = []

    def create(number):
        stub = rpc.VolumeHubStub(channel())
        request = pb.CreateVolumeRequest(name="one name", op_id=op())
        while True:
            try:
                return names.append(stub.CreateVolume(request).volume.id)
            except grpc.RpcError as error:
                equal(error.code(), Code.ABORTED, error.details())

    together([threading.Thread(target=create, args=[number]) for number in range(8)])
    equal(len(set(names)), 1, "one volume of one name", names)


def together(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def out_of_range(hub):
    volume = hub.create("large")
    write(volume, "f", os.urandom(3 * MIB))
    hub.sync(volume.id)
    snapshot = hub.snapshot(volume.id, "large", wait_saved=True).snapshots[0]
    stub = hub.stub
    told = "does not hold the [0-9]+ bytes"
    for request in [pb.ForkVolumeRequest(volume=volume.id, name="small", op_id=op(), quota_bytes=2 * MIB),
                    pb.ForkVolumeRequest(volume=volume.id, snapshot=snapshot.id, name="small", op_id=op(), quota_bytes=2 * MIB)]:
        refused(Code.OUT_OF_RANGE, told, stub.ForkVolume, request)
    for quota, told in [(dict(limit_bytes=2 * MIB), told), (dict(required_bytes=9, limit_bytes=8), "more than the limit"),
                        (dict(required_bytes=1), told), (dict(limit_bytes=1), "1 MiB to 1 EiB")]:
        request = pb.CreateVolumeRequest(name="small", op_id=op(), quota_range=pb.QuotaRange(**quota),
                                         source=pb.Source(volume=volume.id))
        refused(Code.OUT_OF_RANGE, told, stub.CreateVolume, request)
    request = pb.CreateVolumeRequest(name="x" * (5 * MIB), op_id=op())
    refused(Code.OUT_OF_RANGE, "too large", stub.CreateVolume, request)
    check("small" not in [each.name for each in hub.volumes()], "none was made")
    # what the source may hold is always enough
    made = hub.fork(volume.id, "as small", quota_bytes=4 * MIB)
    equal(len(files(made)["f"]), 3 * MIB)


def more_than_there_is(hub):
    """An empty volume and one that begins as another are made on no node that has not the room for them."""
    volume = hub.create("small beginning")
    for source in [None, pb.Source(volume=volume.id)]:
        request = pb.CreateVolumeRequest(name="vast", op_id=op(), source=source, quota_bytes=100 << 40)
        refused(Code.RESOURCE_EXHAUSTED, "failed to place the volume: ", hub.stub.CreateVolume, request)
    refused(Code.RESOURCE_EXHAUSTED, "failed to place the volume: ", hub.stub.ForkVolume,
            pb.ForkVolumeRequest(volume=volume.id, name="vast", op_id=op(), quota_bytes=100 << 40))


def held_by_no_smaller_quota(hub):
    """What a snapshot needs does not become less with the quota of its volume."""
    volume = hub.create("shrunk", quota_bytes=64 * MIB)
    write(volume, "f", os.urandom(24 * MIB))
    for number in range(3):
        subprocess.run(["cp", "--reflink=always", "f", f"shared {number}"], cwd=volume.path, check=True)
    snapshot = hub.snapshot(volume.id, "of shrunk", wait_saved=True).snapshots[0].id
    for name in os.listdir(volume.path):
        os.remove(os.path.join(volume.path, name))
    hub.modify(volume.id, quota_bytes=8 * MIB)
    stub, source = hub.stub, pb.Source(snapshot=snapshot)
    for quota in [dict(quota_bytes=8 * MIB), dict(), dict(quota_range=pb.QuotaRange(limit_bytes=8 * MIB))]:
        refused(Code.OUT_OF_RANGE, "does not hold the [0-9]+ bytes", stub.CreateVolume,
                pb.CreateVolumeRequest(name="of shrunk", op_id=op(), source=source, **quota))
    for force in [False, True]:
        refused(Code.RESOURCE_EXHAUSTED, "quota of 8388608 bytes does not hold the 67108864 bytes", stub.RestoreVolume,
                pb.RestoreVolumeRequest(volume=volume.id, snapshot=snapshot, force=force, op_id=op(hub.seq(volume.id))))
    equal(files(volume), {})
    # the quota that held it then does, although its files are more when they are added up
    made = hub.create("of shrunk", source=source, quota_bytes=64 * MIB)
    equal({len(content) for content in files(made).values()}, {24 * MIB})
    hub.modify(volume.id, quota_bytes=64 * MIB)
    equal(len(files(hub.restore(volume.id, snapshot).volume)["f"]), 24 * MIB)


def resource_exhausted(hub):
    """What only the store has takes room again when it is brought back, and more than the quota has."""
    volume = hub.create("exhausted", quota_bytes=64 * MIB)
    write(volume, "f", os.urandom(24 * MIB))
    snapshot = hub.snapshot(volume.id, "of exhausted", wait_saved=True).snapshots[0]
    os.remove(os.path.join(volume.path, "f"))
    write(volume, "small", b"x")
    hub.modify(volume.id, quota_bytes=4 * MIB)
    lost = data_to_lose(hub)
    for each in hub.volumes():
        hub.sync(each.id)
    ask("lose the machine")
    until("it serves", serves)
    hub = Hub()
    request = pb.RestoreVolumeRequest(volume=volume.id, snapshot=snapshot.id, op_id=op(hub.seq(volume.id)))
    told = refused(Code.RESOURCE_EXHAUSTED, "quota", hub.stub.RestoreVolume, request)
    say("a quota that is too small:", told)
    volume = hub.status(volume.id).volume
    equal(files(volume), {"small": b"x"}, "it is as it was")
    hub.modify(volume.id, quota_bytes=64 * MIB)
    request.op_id = op(hub.seq(volume.id))
    equal(len(files(hub.stub.RestoreVolume(request).volume)["f"]), 24 * MIB, "with room it is carried out")
    data_loss(hub, lost)


def deadline_exceeded(hub):
    request = pb.CreateVolumeRequest(name="late", op_id=op())
    refused(Code.DEADLINE_EXCEEDED, "", hub.stub.CreateVolume, request, timeout=0)
    volume = hub.create("slow to save")
    write(volume, "f", os.urandom(32 * MIB))
    request = pb.SnapshotRequest(volumes=[volume.id], name="slow", op_id=op(hub.seq(volume.id)), wait_saved=True)
    refused(Code.DEADLINE_EXCEEDED, "", hub.stub.Snapshot, request, timeout=0.02)
    reply = until_answered(hub.stub.Snapshot, request)
    equal([each.id for each in hub.snapshots(volume=volume.id)], [reply.snapshots[0].id], "it took effect once")
    equal(reply.snapshots[0].durability, pb.DURABILITY_SAVED)


def data_to_lose(hub):
    volume = hub.create("lost")
    write(volume, "f", os.urandom(MIB))
    snapshot = hub.snapshot(volume.id, "of lost", wait_saved=True).snapshots[0]
    write(volume, "f", b"now")
    return snapshot


def data_loss(hub, snapshot):
    """A snapshot that only the store has, and the store has lost."""
    ask("lose the packs")
    request = pb.ForkVolumeRequest(volume=snapshot.volume, snapshot=snapshot.id, name="of what is lost", op_id=op())
    told = refused(Code.DATA_LOSS, "", hub.stub.ForkVolume, request)
    say("content that the store has lost:", told)
    check("of what is lost" not in [each.name for each in hub.volumes()], "no volume was made of it")


def serves():
    try:
        return Hub().stub.GetCapacity(pb.GetCapacityRequest(), timeout=2)
    except grpc.RpcError:
        return None
