"""A store that is away, and one that refuses: what waits for it is told, what does not is done."""

import threading
import time

from hub import Code, Hub, ask, check, equal, files, grpc, op, pb, refused, say, until, write


def run():
    hub = Hub()
    volume = hub.create("shop")
    write(volume, "f", b"saved")
    hub.sync(volume.id)

    write(volume, "f", b"while it is away")
    ask("store away")
    stub = hub.stub
    sync = pb.TriggerSyncRequest(volume=volume.id)
    # what has to be saved waits for it, as long as its caller does
    refused(Code.DEADLINE_EXCEEDED, "", stub.TriggerSync, sync, timeout=0.5)
    # captured is done without it
    op_id = op()
    new = hub.create("made meanwhile", op_id)
    fork = hub.fork(volume.id, "forked meanwhile")
    equal(files(fork), {"f": b"while it is away"})
    snapshot = hub.snapshot(volume.id, "taken meanwhile").snapshots[0]
    equal(snapshot.durability, pb.DURABILITY_ON_NODE)
    hub.restore(volume.id, snapshot.id)
    # whoever waits for it has a deadline, and asks again with the same id
    waiting = pb.CreateVolumeRequest(name="made meanwhile", op_id=op_id, wait_saved=True)
    refused(Code.DEADLINE_EXCEEDED, "", stub.CreateVolume, waiting, timeout=1)
    status = until("health tells", lambda: at_risk(hub, volume.id))
    problem = status.health.problems[0]
    check(problem.what and problem.who_acts in ("you", "operator", "nobody") and problem.since.seconds, status)
    equal(status.durability, pb.DURABILITY_ON_NODE)

    ask("store back")
    reply = stub.CreateVolume(waiting, timeout=60)
    equal((reply.volume.id, reply.durability), (new.id, pb.DURABILITY_SAVED))
    until("all is saved", lambda: try_sync(hub, volume.id))
    health = hub.status(volume.id).health
    equal(health.state, pb.Health.STATE_OK, health)

    # one that refuses is waited for like one that is away, since somebody may give the rights back
    write(volume_now(hub, volume), "f", b"while it refuses")
    ask("store refuses")
    refused(Code.DEADLINE_EXCEEDED, "", stub.TriggerSync, sync, timeout=0.5)
    equal(files(volume_now(hub, volume)), {"f": b"while it refuses"})
    until("health tells", lambda: at_risk(hub, volume.id))
    waiting_ends_with_the_hub(hub, sync)


def waiting_ends_with_the_hub(hub, sync):
    """Calls that wait for a store are told when the Hub stops, and repeated when it is back."""
    ended = []

    def wait():
        try:
            ended.append(hub.stub.TriggerSync(sync))
        except grpc.RpcError as error:
            ended.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    equal(ended, [], "they wait")
    ask("stop and start")
    for thread in threads:
        thread.join(30)
    equal([error.code() for error in ended], [Code.UNAVAILABLE] * 3, ended)
    say("who waited is told:", ended[0].details())
    check("stopping" in ended[0].details(), ended[0])
    ask("store back")
    until("all is saved", lambda: try_sync(Hub(), sync.volume), 60)


def volume_now(hub, volume):
    return hub.status(volume.id).volume


def at_risk(hub, volume):
    status = hub.status(volume)
    return status if status.health.state == pb.Health.STATE_AT_RISK else None


def try_sync(hub, volume):
    try:
        hub.sync(volume)
    except grpc.RpcError:
        return False
    return hub.status(volume).durability == pb.DURABILITY_SAVED
