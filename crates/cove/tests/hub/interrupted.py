"""Each changing call cut off at a random moment and repeated with its operation id: one effect, the first result."""

import random
import threading
import time
from collections import Counter

from hub import Code, Hub, channel, check, equal, files, grpc, op, pb, rpc, say, until_answered, write

ended = Counter()


def run():
    import hub as this
    hub = Hub()
    cases = [creates, forks, snapshots, snapshots_of_a_group, modifies, restores, deletes_a_snapshot,
             makes_a_service_directory, saves, deletes]
    for number in range(this.ROUNDS):
        for case in cases:
            try:
                case(hub, f"{case.__name__} {number}")
            except Exception:
                say(f"in round {number} of {case.__name__}, seed {this.SEED}")
                raise
    say("how the first calls ended:", dict(sorted(ended.items())))
    check(ended["cut off"] >= this.ROUNDS, ended)


def cut_off(method, request):
    """Sends a call that ends by its deadline, by its channel or, when it is quicker, with its answer."""
    moment = random.uniform(0, 0.02)
    way = random.choice(["deadline", "channel", "cancel"])
    own = channel()
    call = getattr(rpc.VolumeHubStub(own), method)
    # connected first, so that the moment is one of the call
    rpc.VolumeHubStub(own).GetCapacity(pb.GetCapacityRequest(), timeout=10)
    answer = None
    try:
        if way == "deadline":
            answer = call(request, timeout=moment)
        else:
            future = call.future(request)
            time.sleep(moment)
            if way == "channel":
                own.close()
            else:
                future.cancel()
            answer = future.result()
    except (grpc.RpcError, grpc.FutureCancelledError, ValueError) as error:
        if isinstance(error, grpc.RpcError):
            equal(error.code(), Code.DEADLINE_EXCEEDED if way == "deadline" else Code.CANCELLED, method, way, error)
    finally:
        own.close()
    ended["answered" if answer is not None else "cut off"] += 1
    return answer


def thrice(hub, method, request):
    """The answer to a call that was cut off, then repeated by several at once, then once more."""
    first = cut_off(method, request)
    call = getattr(hub.stub, method)
    answers = []
    if random.random() < 0.3:
        together = [threading.Thread(target=lambda: answers.append(until_answered(call, request))) for _ in range(3)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        equal(len(answers), 3)
    answers.append(until_answered(call, request))
    answers.append(until_answered(call, request))
    return [first, *answers] if first is not None else answers


def one(values, *where):
    values = list(values)
    equal(len(set(values)), 1, *where, "one result for all:", values)
    return values[0]


def creates(hub, name):
    request = pb.CreateVolumeRequest(name=name, op_id=op(), labels={"n": name}, quota_bytes=16 << 20)
    volume = one(answer.volume.id for answer in thrice(hub, "CreateVolume", request))
    equal([each.id for each in hub.volumes() if each.name == name], [volume])
    hub.delete(volume)


def forks(hub, name):
    source = hub.create(f"source of {name}")
    write(source, "f", name.encode())
    request = pb.ForkVolumeRequest(volume=source.id, name=name, op_id=op(hub.seq(source.id)))
    answers = thrice(hub, "ForkVolume", request)
    one(answer.volume.id for answer in answers)
    forked = [each for each in hub.volumes() if each.name == name]
    equal([each.id for each in forked], [answers[0].volume.id])
    equal(files(forked[0]), {"f": name.encode()})
    for each in [source.id, forked[0].id]:
        hub.delete(each)


def snapshots(hub, name):
    volume = hub.create(f"volume of {name}")
    write(volume, "f", name.encode())
    request = pb.SnapshotRequest(volumes=[volume.id], name=name, op_id=op(hub.seq(volume.id)))
    snapshot = one(answer.snapshots[0].id for answer in thrice(hub, "Snapshot", request))
    write(volume, "f", b"later")
    equal([each.id for each in hub.snapshots(volume=volume.id)], [snapshot])
    fork = hub.fork(volume.id, f"fork of {name}", snapshot=snapshot)
    equal(files(fork), {"f": name.encode()}, "it is of the first time")
    leave(hub, [volume.id, fork.id], [snapshot])


def snapshots_of_a_group(hub, name):
    volumes = [hub.create(f"{number} of {name}").id for number in range(3)]
    request = pb.SnapshotRequest(volumes=volumes, name=name, op_id=op())
    answers = thrice(hub, "Snapshot", request)
    group = one(answer.group for answer in answers)
    ids = one(tuple(each.id for each in answer.snapshots) for answer in answers)
    equal({each.id for each in hub.snapshots(name=name)}, set(ids))
    equal({each.group for each in hub.snapshots(name=name)}, {group})
    leave(hub, volumes, ids)


def modifies(hub, name):
    volume = hub.create(name, labels={"old": "1"})
    quota = random.randrange(2, 64) << 20
    request = pb.ModifyVolumeRequest(volume=volume.id, op_id=op(hub.seq(volume.id)), quota_bytes=quota,
                                     labels={"new": "1"}, set_labels=True)
    for answer in thrice(hub, "ModifyVolume", request):
        equal((answer.volume.quota_bytes, dict(answer.volume.labels)), (quota, {"new": "1"}))
    hub.delete(volume.id)


def restores(hub, name):
    volume = hub.create(name)
    write(volume, "f", b"then")
    snapshot = hub.snapshot(volume.id, name).snapshots[0].id
    write(volume, "f", b"now")
    request = pb.RestoreVolumeRequest(volume=volume.id, snapshot=snapshot, op_id=op(hub.seq(volume.id)))
    before = one(answer.before.id for answer in thrice(hub, "RestoreVolume", request))
    equal(files(hub.status(volume.id).volume), {"f": b"then"})
    equal({each.id for each in hub.snapshots(volume=volume.id)}, {snapshot, before}, "one entry of before")
    write(volume, "f", b"after")
    until_answered(hub.stub.RestoreVolume, request)
    equal(files(hub.status(volume.id).volume), {"f": b"after"}, "a late repetition does nothing")
    leave(hub, [volume.id], [snapshot])


def deletes_a_snapshot(hub, name):
    volume = hub.create(name).id
    gone, stays = (hub.snapshot(volume, f"{which} {name}").snapshots[0].id for which in ["gone", "stays"])
    thrice(hub, "DeleteSnapshot", pb.DeleteSnapshotRequest(snapshot=gone, op_id=op(hub.seq(volume))))
    equal([each.id for each in hub.snapshots(volume=volume)], [stays])
    leave(hub, [volume], [stays])


def makes_a_service_directory(hub, name):
    volume = hub.create(name).id
    one(answer.path for answer in
        thrice(hub, "CreateServiceVolume", pb.CreateServiceVolumeRequest(volume=volume, service="db")))
    hub.delete(volume)


def saves(hub, name):
    volume = hub.create(name)
    write(volume, "f", name.encode())
    thrice(hub, "TriggerSync", pb.TriggerSyncRequest(volume=volume.id))
    equal(hub.status(volume.id).durability, pb.DURABILITY_SAVED)
    equal(hub.snapshots(volume=volume.id), [], "saving makes no entry")
    hub.delete(volume.id)


def deletes(hub, name):
    volume, other = hub.create(name), hub.create(f"beside {name}")
    thrice(hub, "DeleteVolume", pb.DeleteVolumeRequest(volume=volume.id, op_id=op(hub.seq(volume.id))))
    names = [each.name for each in hub.volumes()]
    check(name not in names and other.name in names, names)
    again = hub.create(name)
    check(again.id != volume.id, "a deleted volume's id is never used again")
    leave(hub, [again.id, other.id], [])


def leave(hub, volumes, snapshots):
    for each in snapshots:
        hub.delete_snapshot(each)
    for each in volumes:
        hub.delete(each)
