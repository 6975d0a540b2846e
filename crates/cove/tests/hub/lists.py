"""Lists that change while they are read, and the stream of changes."""

import threading

from hub import Code, Hub, ask, channel, check, equal, grpc, open_sockets, pb, rpc, say, until, write


def run():
    hub = Hub()
    volumes_are_paged_while_they_change(hub)
    snapshots_are_paged_while_they_change(hub)
    a_watch_tells_what_happens(hub)
    a_watcher_that_does_not_read_keeps_nobody(hub)


def volumes_are_paged_while_they_change(hub):
    lasting = [hub.create(f"lasting {number}").id for number in range(20)]
    passing = [hub.create(f"passing {number}").id for number in range(20)]
    for size in [1, 3, 7, 1000, 0]:
        seen, token, number = [], "", 0
        while True:
            reply = hub.stub.ListVolumes(pb.ListVolumesRequest(page_size=size, page_token=token))
            check(len(reply.volumes) <= (size or 1000), size, len(reply.volumes))
            seen.extend(volume.id for volume in reply.volumes)
            check(len(seen) < 200, "it ends")
            token = reply.next_page_token
            if not token:
                break
            number += 1
            # what the token names goes, others come and go
            if reply.volumes[-1].id in passing and number % 2:
                hub.delete(reply.volumes[-1].id)
                passing.remove(reply.volumes[-1].id)
                passing.append(hub.create(f"passing {size} {number}").id)
        equal(seen, sorted(set(seen)), "in order, each once")
        equal(set(lasting) - set(seen), set(), f"pages of {size} leave none out")
    now = sorted(volume.id for volume in hub.volumes(page_size=3))
    equal(now, sorted(lasting + passing))
    for volume in now:
        hub.delete(volume)
    equal(hub.volumes(), [])


def snapshots_are_paged_while_they_change(hub):
    volume = hub.create("with many").id
    lasting = [hub.snapshot(volume, f"lasting {number}").snapshots[0].id for number in range(12)]
    passing = [hub.snapshot(volume, f"passing {number}").snapshots[0].id for number in range(12)]
    for size in [1, 5]:
        seen, token = [], ""
        while True:
            request = pb.ListSnapshotsRequest(volume=volume, page_size=size, page_token=token)
            reply = hub.stub.ListSnapshots(request)
            seen.extend(snapshot.id for snapshot in reply.snapshots)
            check(len(seen) < 200, "it ends")
            token = reply.next_page_token
            if not token:
                break
            last = reply.snapshots[-1].id
            if last in passing:
                hub.delete_snapshot(last)
                passing.remove(last)
                passing.append(hub.snapshot(volume, f"passing {size} {last}").snapshots[0].id)
        equal(seen, sorted(set(seen)), "in order, each once")
        equal(set(lasting) - set(seen), set(), f"pages of {size} leave none out")
    hub.delete(volume)
    equal([each.id for each in hub.snapshots(volume=volume)], sorted(lasting + passing), "of a deleted volume, too")
    for each in lasting + passing:
        hub.delete_snapshot(each)
    equal(hub.snapshots(), [])


class Watch:
    """What the stream has said so far."""

    def __init__(self):
        self.channel = channel()
        self.stream = rpc.VolumeHubStub(self.channel).WatchVolumes(pb.WatchVolumesRequest())
        self.events, self.ended = [], None
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for event in self.stream:
                self.events.append(event)
        except grpc.RpcError as error:
            self.ended = error

    def kinds(self):
        return [event.WhichOneof("event") for event in self.events]

    def there(self):
        before = self.events[:self.kinds().index("listed")]
        return {event.changed.volume.id for event in before}

    def of(self, volume):
        return [event.changed for event in self.events if event.changed.volume.id == volume]

    def deleted(self):
        return [event.deleted for event in self.events if event.deleted]


def a_watch_tells_what_happens(hub):
    there = hub.create("there already")
    watch = Watch()
    until("all that there are", lambda: "listed" in watch.kinds())
    equal(watch.kinds(), ["changed", "listed"])
    check(watch.events[1].listed, "always true")
    equal(watch.events[0].changed.volume.id, there.id)
    new = hub.create("new", labels={"a": "1"})
    until("the new one", lambda: watch.of(new.id))
    equal(watch.of(new.id)[0].volume.name, "new")
    hub.modify(new.id, labels={"a": "2"}, set_labels=True)
    until("its labels", lambda: watch.of(new.id)[-1].volume.labels["a"] == "2")
    snapshot = hub.snapshot(new.id, "seen").snapshots[0]
    until("its snapshot", lambda: watch.of(new.id)[-1].snapshots == 1)
    write(new, "f", b"x" * 5000)
    hub.sync(new.id)
    until("its bytes", lambda: watch.of(new.id)[-1].logical_bytes == 5000)
    hub.restore(new.id, snapshot.id)
    fork = hub.fork(new.id, "forked")
    until("the fork", lambda: watch.of(fork.id))
    hub.delete(new.id)
    until("it is gone", lambda: new.id in watch.deleted())
    equal(watch.kinds().count("listed"), 1, "once")
    late = Watch()
    until("a later one is told what there is", lambda: "listed" in late.kinds())
    equal(late.there(), {there.id, fork.id})
    watch.stream.cancel()
    watch.thread.join(10)
    equal(watch.ended.code(), Code.CANCELLED)
    ask("stop and start")
    until("the stream ends with the Hub", lambda: late.ended)
    equal(late.ended.code(), Code.UNAVAILABLE, late.ended.details())
    until("it serves again", lambda: serves())
    again = Watch()
    until("who begins again is told all", lambda: "listed" in again.kinds())
    equal(again.there(), {there.id, fork.id})


def serves():
    try:
        return Hub().stub.GetCapacity(pb.GetCapacityRequest(), timeout=2)
    except grpc.RpcError:
        return None


def a_watcher_that_does_not_read_keeps_nobody(hub):
    before = open_sockets()
    channels = [channel() for _ in range(20)]
    streams = [rpc.VolumeHubStub(one).WatchVolumes(pb.WatchVolumesRequest()) for one in channels]
    for stream in streams:
        next(stream)
    until("each has a connection", lambda: int(ask("open sockets")) >= before + 20)
    hub = Hub()
    for number in range(5):
        hub.create(f"beside watchers {number}")
    # closed in the middle of the stream, as by a program that is gone
    for one in channels:
        one.close()
    until("their connections are closed", lambda: int(ask("open sockets")) <= before + 2)
    say("watchers that vanished in the middle:", len(streams))
