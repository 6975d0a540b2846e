"""Every call of the service, and what it says against what is on the disk."""

import os
import time

from hub import MIB, Hub, check, equal, files, op, pb, refused, until, write, Code


def run():
    hub = Hub()
    creates_and_finds(hub)
    forks(hub)
    snapshots_one_and_several(hub)
    restores(hub)
    modifies_and_is_held_to_its_quota(hub)
    service_directories(hub)
    is_saved_and_placed(hub)
    a_template_and_a_range(hub)
    deletes(hub)


def alike(volume):
    """A volume without what saving changes of it by itself."""
    found = pb.Volume()
    found.CopyFrom(volume)
    found.seq = 0
    return found


def creates_and_finds(hub):
    before = time.time()
    op_id = op()
    request = pb.CreateVolumeRequest(name="Einnahmen 2026 “x”", op_id=op_id, quota_bytes=64 * MIB,
                                     labels={"team": "tax", "empty": ""}, parameters={"storingInterval": "86400", "retention": "7"})
    reply = hub.stub.CreateVolume(request)
    volume = reply.volume
    equal(reply.durability, pb.DURABILITY_ON_NODE)
    equal(volume.name, "Einnahmen 2026 “x”")
    equal((volume.quota_bytes, dict(volume.labels)), (64 * MIB, {"team": "tax", "empty": ""}))
    equal(dict(volume.parameters), {"storingInterval": "86400", "retention": "7"})
    equal((volume.project, volume.HasField("source")), ("", False))
    check(before - 1 <= volume.created_at.seconds <= time.time() + 1, volume)
    check(os.path.isabs(volume.path) and os.path.isdir(volume.path), volume)
    equal(os.listdir(volume.path), [], "it begins empty")
    equal(alike(hub.stub.CreateVolume(request).volume), alike(volume), "a repetition")
    again = hub.create(volume.name, quota_bytes=64 * MIB, labels=request.labels, parameters=request.parameters)
    equal(again.id, volume.id, "another operation that asks alike is answered by name")
    other = pb.CreateVolumeRequest(name=volume.name, op_id=op(), quota_bytes=64 * MIB)
    refused(Code.ALREADY_EXISTS, "is called .* another set of labels", hub.stub.CreateVolume, other)

    equal(alike(hub.stub.ResolveVolume(pb.ResolveVolumeRequest(name=volume.name)).volume), alike(volume))
    check(alike(volume) in [alike(each) for each in hub.volumes()], "it is listed")
    plain = hub.create("plain")
    check(not plain.HasField("quota_bytes"), "nothing limits it", plain)
    saved = hub.stub.CreateVolume(pb.CreateVolumeRequest(name="at once", op_id=op(), wait_saved=True))
    equal(saved.durability, pb.DURABILITY_SAVED)
    status = hub.status(saved.volume.id)
    equal(status.durability, pb.DURABILITY_SAVED)
    check(before - 1 <= status.saved_at.seconds <= time.time() + 1, status)


def forks(hub):
    source = hub.create("source", quota_bytes=32 * MIB)
    write(source, "a/b", b"one")
    write(source, "gone", b"x")
    fork = hub.fork(source.id, "fork", labels={"of": "now"})
    equal(files(fork), {"a/b": b"one", "gone": b"x"})
    equal((fork.source.volume, fork.quota_bytes, dict(fork.labels)), (source.id, 32 * MIB, {"of": "now"}))
    write(fork, "a/b", b"two")
    equal(files(source)["a/b"], b"one", "a fork goes its own way")
    kept = hub.snapshot(source.id, "kept").snapshots[0]
    os.remove(os.path.join(source.path, "gone"))
    past = hub.fork(source.id, "past", snapshot=kept.id, quota_bytes=40 * MIB)
    equal(files(past), {"a/b": b"one", "gone": b"x"})
    equal((past.source.snapshot, past.quota_bytes), (kept.id, 40 * MIB))
    made = hub.create("made of it", source=pb.Source(snapshot=kept.id))
    equal(files(made), {"a/b": b"one", "gone": b"x"})
    saved = hub.stub.ForkVolume(pb.ForkVolumeRequest(volume=source.id, name="saved fork", op_id=op(), wait_saved=True))
    equal((saved.durability, files(saved.volume)), (pb.DURABILITY_SAVED, {"a/b": b"one"}))


def snapshots_one_and_several(hub):
    one, two = hub.create("one"), hub.create("two")
    write(one, "f", b"1")
    write(two, "f", b"2")
    reply = hub.snapshot(one.id, "alone")
    equal((len(reply.snapshots), reply.group), (1, ""))
    alone = reply.snapshots[0]
    equal((alone.volume, alone.name, alone.group), (one.id, "alone", ""))
    check(alone.id.startswith(one.id + "@"), alone)
    grouped = hub.snapshot(one.id, "a group of one", is_group=True)
    check(grouped.group and grouped.snapshots[0].group == grouped.group, grouped)
    reply = hub.snapshot([two.id, one.id], "together", wait_saved=True)
    equal([snapshot.volume for snapshot in reply.snapshots], [two.id, one.id], "in the order of the request")
    check(reply.group and all(snapshot.group == reply.group for snapshot in reply.snapshots), reply)
    equal([snapshot.durability for snapshot in reply.snapshots], [pb.DURABILITY_SAVED] * 2)
    equal([snapshot.bytes for snapshot in reply.snapshots], [1, 1])
    again = hub.snapshot([two.id, one.id], "together")
    equal([snapshot.id for snapshot in again.snapshots], [snapshot.id for snapshot in reply.snapshots])

    ids = sorted([alone.id, grouped.snapshots[0].id, reply.snapshots[1].id])
    equal([snapshot.id for snapshot in hub.snapshots(volume=one.id, only_named=True)], ids)
    equal([snapshot.id for snapshot in hub.snapshots(name="alone")], [alone.id])
    equal([snapshot.id for snapshot in hub.snapshots(snapshot=alone.id)], [alone.id])
    equal({snapshot.volume for snapshot in hub.snapshots(group=reply.group)}, {one.id, two.id})
    equal(hub.snapshots(group=reply.group, name="alone"), [], "all that is said has to be met")
    equal(hub.status(one.id).snapshots, 3)
    for snapshot, content in [(reply.snapshots[0], b"2"), (reply.snapshots[1], b"1")]:
        fork = hub.fork(snapshot.volume, f"of {snapshot.id}", snapshot=snapshot.id)
        equal(files(fork), {"f": content})
    written_at_one_instant(hub, one, two)


def written_at_one_instant(hub, one, two):
    """A program writes n here, then n there; in no snapshot of both is there more there than here."""
    import subprocess
    import sys
    script = ("import sys\nn = 0\nwith open(sys.argv[1], 'wb', 0) as a, open(sys.argv[2], 'wb', 0) as b:\n"
              "    while True:\n        n += 1\n        a.seek(0); a.write(b'%012d' % n)\n        b.seek(0); b.write(b'%012d' % n)\n")
    places = [os.path.join(volume.path, "n") for volume in (one, two)]
    program = subprocess.Popen([sys.executable, "-c", script, *places])
    try:
        until("it writes", lambda: os.path.exists(places[1]) and os.path.getsize(places[1]))
        for number in range(5):
            reply = hub.snapshot([one.id, two.id], f"instant {number}")
            numbers = []
            for place, snapshot in enumerate(reply.snapshots):
                fork = hub.fork(snapshot.volume, f"instant {number} {place}", snapshot=snapshot.id)
                numbers.append(int(files(fork)["n"]))
            check(0 <= numbers[0] - numbers[1] <= 1, "at one instant", numbers)
            check(program.poll() is None, "it goes on")
    finally:
        program.kill()
        program.wait()


def restores(hub):
    volume = hub.create("restored")
    write(volume, "a", b"first")
    first = hub.snapshot(volume.id, "first of restored").snapshots[0]
    write(volume, "a", b"second")
    write(volume, "b", b"new")
    op_id = op(hub.seq(volume.id))
    reply = hub.restore(volume.id, first.id, op_id)
    equal(files(reply.volume), {"a": b"first"})
    equal((reply.before.volume, reply.before.name), (volume.id, ""))
    check(reply.before.id in [snapshot.id for snapshot in hub.snapshots(volume=volume.id)], reply)
    write(reply.volume, "a", b"third")
    equal(hub.restore(volume.id, first.id, op_id).before.id, reply.before.id, "a repetition gives the first result")
    equal(files(reply.volume), {"a": b"third"}, "and does nothing again")
    back = hub.restore(volume.id, reply.before.id, wait_saved=True)
    equal(files(back.volume), {"a": b"second", "b": b"new"})
    equal(back.before.durability, pb.DURABILITY_SAVED)
    with open(os.path.join(back.volume.path, "b"), "r+b"):
        request = pb.RestoreVolumeRequest(volume=volume.id, snapshot=first.id, op_id=op(hub.seq(volume.id)))
        refused(Code.FAILED_PRECONDITION, "has .*b open for writing", hub.stub.RestoreVolume, request)
        equal(files(back.volume), {"a": b"second", "b": b"new"})
        equal(files(hub.restore(volume.id, first.id, force=True).volume), {"a": b"first"})


def modifies_and_is_held_to_its_quota(hub):
    volume = hub.create("held", labels={"a": "1", "b": "2"}, parameters={"retention": "9"})
    fill(volume, 12, fits=True)
    volume = hub.modify(volume.id, quota_bytes=8 * MIB)
    equal(volume.quota_bytes, 8 * MIB)
    fill(volume, 12, fits=False)
    equal(dict(volume.labels), {"a": "1", "b": "2"}, "what is not said stays")
    volume = hub.modify(volume.id, labels={"c": "3"}, set_labels=True, parameters={"storingInterval": "60"})
    equal((volume.quota_bytes, dict(volume.labels)), (8 * MIB, {"c": "3"}))
    equal(dict(volume.parameters), {"retention": "9", "storingInterval": "60"})
    volume = hub.modify(volume.id, set_labels=True, quota_bytes=0)
    equal((volume.HasField("quota_bytes"), dict(volume.labels)), (False, {}))
    fill(volume, 12, fits=True)
    equal(alike(hub.status(volume.id).volume), alike(volume))


def fill(volume, mib, fits):
    path = os.path.join(volume.path, "fill")
    try:
        with open(path, "wb") as file:
            file.write(os.urandom(mib * MIB))
            file.flush()
            os.fsync(file.fileno())
        check(fits, f"{mib} MiB fit")
    except OSError as error:
        check(not fits, f"{mib} MiB do not fit:", error)
    finally:
        os.remove(path)
        os.sync()


def service_directories(hub):
    volume = hub.create("with services")
    made = {}
    for service in ["postgres", "0", "a-" * 20]:
        request = pb.CreateServiceVolumeRequest(volume=volume.id, service=service)
        path = hub.stub.CreateServiceVolume(request).path
        check(os.path.isabs(path) and os.path.isdir(path), path)
        with open(os.path.join(path, "data"), "w") as file:
            file.write(service)
        equal(hub.stub.CreateServiceVolume(request).path, path, "one that is there is the answer")
        made[service] = path
    equal(len(set(made.values())), 3)
    equal(files(volume), {}, "they are beside its files")
    snapshot = hub.snapshot(volume.id, "with data").snapshots[0]
    fork = hub.fork(volume.id, "data, too", snapshot=snapshot.id)
    for service, path in made.items():
        path = path.replace(volume.id, fork.id)
        with open(os.path.join(path, "data")) as file:
            equal(file.read(), service, "it is in snapshots and forks")
        found = hub.stub.CreateServiceVolume(pb.CreateServiceVolumeRequest(volume=fork.id, service=service)).path
        equal(found, path)


def is_saved_and_placed(hub):
    volume = hub.create("saved and placed")
    write(volume, "f", b"x" * 100_000)
    synced = hub.sync(volume.id)
    check(abs(synced.saved_at.seconds - time.time()) < 20, synced)
    status = hub.status(volume.id)
    equal((status.durability, status.unsaved_bytes), (pb.DURABILITY_SAVED, 0), status)
    check(synced.seq <= status.volume.seq, synced, status)
    equal((status.logical_bytes, status.saved_at), (100_000, synced.saved_at))
    check(status.charged_bytes + status.shared_bytes >= 100_000, status)
    equal([(copy.node, copy.is_current) for copy in status.copies], [(volume.node, True)])
    equal((status.health.state, list(status.health.problems)), (pb.Health.STATE_OK, []))
    ensure = hub.stub.EnsureCached
    for candidates in [[], [volume.node], ["nowhere", volume.node]]:
        placed = ensure(pb.EnsureCachedRequest(volume=volume.id, candidates=candidates, budget_bytes=0))
        equal((placed.node, placed.path), (volume.node, volume.path))
    capacity = hub.stub.GetCapacity(pb.GetCapacityRequest())
    # a loop file may grow into what is free around it, which others use, too
    check(256 * MIB < capacity.available_bytes <= capacity.total_bytes, capacity)
    of_node = hub.stub.GetCapacity(pb.GetCapacityRequest(node=volume.node))
    check(256 * MIB < of_node.available_bytes <= of_node.total_bytes, of_node)


def a_template_and_a_range(hub):
    template = hub.create("Base", labels={"template": "true"}, quota_bytes=24 * MIB)
    write(template, "readme", b"begin here")
    for number, named in enumerate([template.id, template.name]):
        made = hub.create(f"from template {number}", source=pb.Source(template=named))
        equal((files(made), made.source.volume), ({"readme": b"begin here"}, template.id))
        equal(made.quota_bytes, 24 * MIB, "as its source has it")
    sizes = [(dict(required_bytes=5 * MIB), 5 * MIB), (dict(limit_bytes=6 * MIB), 6 * MIB),
             (dict(required_bytes=5 * MIB, limit_bytes=9 * MIB), 5 * MIB), (dict(), None),
             (dict(required_bytes=1, limit_bytes=9 * MIB), MIB), (dict(required_bytes=1), MIB)]
    for number, (quota, wanted) in enumerate(sizes):
        made = hub.create(f"range {number}", quota_range=pb.QuotaRange(**quota))
        equal(made.quota_bytes if made.HasField("quota_bytes") else None, wanted, quota)
    fitting = hub.create("range 0", quota_range=pb.QuotaRange(required_bytes=MIB, limit_bytes=5 * MIB))
    equal(fitting.id, hub.create("range 0", quota_range=pb.QuotaRange(required_bytes=5 * MIB)).id)
    request = pb.CreateVolumeRequest(name="range 0", op_id=op(), quota_bytes=4 * MIB)
    refused(Code.ALREADY_EXISTS, "another quota", hub.stub.CreateVolume, request)


def deletes(hub):
    volume = hub.create("to be deleted")
    write(volume, "f", b"kept")
    kept, other = (hub.snapshot(volume.id, name).snapshots[0] for name in ["kept of it", "other of it"])
    op_id = op(hub.seq(volume.id))
    hub.delete(volume.id, op_id)
    hub.delete(volume.id, op_id)
    hub.delete(volume.id)
    check(volume.id not in [each.id for each in hub.volumes()], "it is listed no more")
    until("its files are gone", lambda: not os.path.exists(volume.path))
    refused(Code.NOT_FOUND, volume.id, hub.stub.VolumeStatus, pb.VolumeStatusRequest(volume=volume.id))
    equal({snapshot.id for snapshot in hub.snapshots(volume=volume.id)}, {kept.id, other.id}, "its snapshots stay")
    hub.delete_snapshot(other.id)
    hub.delete_snapshot(other.id)
    equal([snapshot.id for snapshot in hub.snapshots(volume=volume.id)], [kept.id])
    again = hub.create("to be deleted", source=pb.Source(snapshot=kept.id))
    equal(files(again), {"f": b"kept"}, "its name is free, its snapshot can be made a volume of")
    hub.delete_snapshot(kept.id)
    equal(hub.snapshots(volume=volume.id), [])
    equal(files(again), {"f": b"kept"})
