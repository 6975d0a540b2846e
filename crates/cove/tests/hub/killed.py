"""Cove is killed again and again while programs change volumes: each repeats what it wants with its operation id
until there is a definite answer. In the end there is what they know and nothing else.
"""

import os
import random
import threading
import time
from collections import Counter

import hub as this
from hub import MIB, Code, ask, check, equal, files, grpc, pb, rpc, say, until, write

AGAIN = {Code.UNAVAILABLE, Code.ABORTED, Code.DEADLINE_EXCEEDED}
PROGRAMS, VOLUMES_MAX, SNAPSHOTS_MAX = 4, 5, 6
calls, repeated = Counter(), Counter()
stop = threading.Event()


class Kept:
    """A volume as its program knows it."""

    def __init__(self, volume, content, quota=None, labels=None):
        self.volume, self.content = volume, dict(content)
        self.quota, self.labels = quota, dict(labels or {})
        self.snapshots = {}


class Program(threading.Thread):
    """One of several that use the Hub, each with volumes of its own."""

    def __init__(self, number, seed):
        super().__init__(daemon=True)
        self.chance = random.Random(seed * 100 + number)
        self.number, self.made, self.kept, self.left, self.failed = number, 0, [], {}, None
        self.channel = this.channel()
        self.stub = rpc.VolumeHubStub(self.channel)

    def run(self):
        try:
            while not stop.is_set():
                self.act()
        except BaseException as error:
            self.failed = error
            raise

    def name(self, what):
        self.made += 1
        return f"{what} {self.made} of {self.number}"

    def call(self, method, request):
        calls[method] += 1
        end = time.monotonic() + 60
        while True:
            try:
                return getattr(self.stub, method)(request, timeout=self.chance.choice([0.02, 0.2, 30]))
            except grpc.RpcError as error:
                if error.code() not in AGAIN or time.monotonic() > end:
                    raise
                repeated[error.code().name] += 1
                # as soon as may be: a call that was cut off may be under way still
                time.sleep(0.002)

    def operation(self, of=None):
        return op_of(self.chance, of.volume.seq if of else 0)

    def act(self):
        if not self.kept:
            return self.create()
        acts = [self.create, self.fork, self.fork, self.snapshot, self.snapshot, self.snapshot_together, self.modify,
                self.modify, self.restore, self.restore, self.delete, self.delete_snapshot, self.write, self.write]
        self.chance.choice(acts)()

    def pick(self):
        return self.chance.choice(self.kept)

    def forget_some(self):
        while len(self.kept) > VOLUMES_MAX:
            self.delete()
        for kept in self.kept:
            while len(kept.snapshots) > SNAPSHOTS_MAX:
                self.delete_snapshot(kept.snapshots)
        while len(self.left) > SNAPSHOTS_MAX:
            self.delete_snapshot(self.left)

    def write(self, kept=None):
        kept = kept or self.pick()
        content = self.chance.randbytes(self.chance.choice([10, 5000, 200_000]))
        name = self.chance.choice(["a", "b", "dir/c"])
        # a restore puts other files in their place, at the same path
        write(kept.volume, name, content)
        kept.content[name] = content

    def create(self):
        labels = {"of": str(self.number)}
        request = pb.CreateVolumeRequest(name=self.name("new"), op_id=self.operation(), labels=labels,
                                         wait_saved=self.chance.random() < 0.2)
        volume = self.call("CreateVolume", request).volume
        self.kept.append(Kept(volume, {}, labels=labels))
        self.write(self.kept[-1])
        self.forget_some()

    def fork(self):
        source = self.pick()
        snapshot, content = "", source.content
        if source.snapshots and self.chance.random() < 0.5:
            snapshot, content = self.chance.choice(sorted(source.snapshots.items()))
        request = pb.ForkVolumeRequest(volume=source.volume.id, snapshot=snapshot, name=self.name("fork"),
                                       op_id=self.operation(source), wait_saved=self.chance.random() < 0.2)
        fork = Kept(self.call("ForkVolume", request).volume, content, source.quota)
        equal(files(fork.volume), fork.content, "a fork")
        self.kept.append(fork)
        self.forget_some()

    def snapshot(self):
        kept = self.pick()
        request = pb.SnapshotRequest(volumes=[kept.volume.id], name=self.name("snapshot"), op_id=self.operation(kept),
                                     wait_saved=self.chance.random() < 0.2)
        reply = self.call("Snapshot", request)
        kept.snapshots[reply.snapshots[0].id] = dict(kept.content)
        self.look_again(kept)
        self.forget_some()

    def snapshot_together(self):
        several = self.chance.sample(self.kept, self.chance.randint(1, len(self.kept)))
        request = pb.SnapshotRequest(volumes=[kept.volume.id for kept in several], name=self.name("group"),
                                     op_id=self.operation(several[0]), is_group=True)
        for kept, snapshot in zip(several, self.call("Snapshot", request).snapshots, strict=True):
            equal(snapshot.volume, kept.volume.id)
            kept.snapshots[snapshot.id] = dict(kept.content)
            self.look_again(kept)
        self.forget_some()

    def modify(self):
        kept = self.pick()
        kept.quota = self.chance.choice([None, 32 * MIB, 64 * MIB])
        kept.labels = {"n": str(self.chance.randrange(1000))}
        request = pb.ModifyVolumeRequest(volume=kept.volume.id, op_id=self.operation(kept), set_labels=True,
                                         labels=kept.labels, quota_bytes=kept.quota or 0)
        kept.volume = self.call("ModifyVolume", request).volume

    def restore(self):
        kept = self.pick()
        if not kept.snapshots:
            return
        snapshot, content = self.chance.choice(sorted(kept.snapshots.items()))
        request = pb.RestoreVolumeRequest(volume=kept.volume.id, snapshot=snapshot, op_id=self.operation(kept),
                                          wait_saved=self.chance.random() < 0.2)
        reply = self.call("RestoreVolume", request)
        kept.volume, kept.content = reply.volume, dict(content)
        equal(reply.before.volume, kept.volume.id, "the state before is kept")
        equal(files(kept.volume), kept.content, "a restore")

    def delete(self):
        kept = self.pick()
        request = pb.DeleteVolumeRequest(volume=kept.volume.id, op_id=self.operation(kept))
        self.call("DeleteVolume", request)
        self.kept.remove(kept)
        self.left.update(kept.snapshots)
        self.forget_some()

    def delete_snapshot(self, of=None):
        of = of or self.chance.choice([self.left, *(kept.snapshots for kept in self.kept)])
        if not of:
            return
        snapshot = self.chance.choice(sorted(of))
        self.call("DeleteSnapshot", pb.DeleteSnapshotRequest(snapshot=snapshot, op_id=self.operation()))
        del of[snapshot]

    def look_again(self, kept):
        kept.volume = self.call("VolumeStatus", pb.VolumeStatusRequest(volume=kept.volume.id)).volume


def op_of(chance, seq):
    return f"{seq:08x}{chance.randbytes(12).hex()}"


def run():
    chance = random.Random(this.SEED)
    programs = [Program(number, this.SEED) for number in range(PROGRAMS)]
    for program in programs:
        program.start()
    for number in range(this.ROUNDS):
        time.sleep(chance.uniform(0, 0.6))
        ask("kill and start")
        for program in programs:
            check(program.failed is None, program.failed)
    stop.set()
    for program in programs:
        program.join(90)
        check(not program.is_alive() and program.failed is None, "all come to an answer:", program.failed)
    say("calls:", sum(calls.values()), dict(sorted(calls.items())))
    say("repeated after:", dict(sorted(repeated.items())))
    check(sum(repeated.values()) >= this.ROUNDS, "the kills hit calls")
    hub = this.Hub()
    compare(hub, programs)
    ask("kill and start")
    until("it serves", lambda: serves())
    hub = this.Hub()
    compare(hub, programs)
    for each in hub.volumes():
        until(f"{each.id} is saved", lambda: hub.sync(each.id) and is_saved(hub, each.id))
    until("all snapshots are saved", lambda: all(
        each.durability == pb.DURABILITY_SAVED for each in hub.snapshots(only_named=True)))
    live = {each.id for each in hub.volumes()}
    ask("only subvolumes of " + " ".join(sorted(live)) + " and entries of "
        + " ".join(sorted(live | {each.volume for each in hub.snapshots()})))
    ask("lose the machine")
    until("it serves", lambda: serves())
    compare(this.Hub(), programs)
    say("volumes and snapshots compared:", len(live), sum(len(all_snapshots(program)) for program in programs))


def is_saved(hub, volume):
    return hub.status(volume).durability == pb.DURABILITY_SAVED


def all_snapshots(program):
    of = dict(program.left)
    for kept in program.kept:
        of.update(kept.snapshots)
    return of


def serves():
    try:
        return this.Hub().stub.GetCapacity(pb.GetCapacityRequest(), timeout=2)
    except grpc.RpcError:
        return None


def compare(hub, programs):
    """There is what the programs know, and nothing else."""
    kept = {kept.volume.id: kept for program in programs for kept in program.kept}
    found = {volume.id: volume for volume in hub.volumes()}
    equal(set(found), set(kept), "volumes")
    for id, volume in found.items():
        equal(files(volume), kept[id].content, "files of", volume.name)
        equal(volume.quota_bytes or None, kept[id].quota, "quota of", volume.name)
        equal(dict(volume.labels), kept[id].labels, "labels of", volume.name)
        equal(volume.path, kept[id].volume.path.replace(kept[id].volume.node, volume.node))
    known = {}
    for program in programs:
        known.update(all_snapshots(program))
    equal({snapshot.id for snapshot in hub.snapshots(only_named=True)}, set(known), "snapshots")
    for number, (snapshot, content) in enumerate(sorted(known.items())):
        fork = hub.create(f"compared {number}", source=pb.Source(snapshot=snapshot))
        equal(files(fork), content, "files of snapshot", snapshot)
        hub.delete(fork.id)
