//! What is asked arrives, what is answered comes back.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use cove_content::spec::{SpecChange, SpecSource, VolumeSpec};
use cove_content::volumes::*;
use cove_types::{EntryId, EntryKind, chain};

use crate::scripted::Scripted;
use crate::world::{World, call, document, new_entry, new_volume, operation, path, volume};

/// Where an export goes.
#[derive(Clone, Default)]
struct Archive(Arc<Mutex<Vec<u8>>>);

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn said<T: std::fmt::Debug>(answer: Result<T, VolumeError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("refused: {error:?} {}", chain(&error)),
    }
}

/// Both answers of a call.
async fn both<T: std::fmt::Debug>(answer: Result<Captured<T>, VolumeError>) -> String {
    match answer {
        Ok(Captured { value, saved }) => format!("{value:?}, then {}", said(saved.await)),
        Err(error) => said::<T>(Err(error)),
    }
}

/// Everything that a spec can say.
fn spec() -> VolumeSpec {
    VolumeSpec {
        name: Some("pvc\té".parse().unwrap()),
        quota_bytes: Some(1 << 30),
        labels: [("project".to_owned(), "tax-2026".to_owned()), ("empty".into(), String::new())]
            .into(),
        parameters: [("retention".to_owned(), "7".to_owned())].into(),
        source: Some(SpecSource::Snapshot(volume(9), EntryId::derive(&operation(9), "snapshot"))),
        asked: None,
        stands_alone: true,
        unknown: [("newer".to_owned(), 7.into())].into_iter().collect(),
    }
}

/// Asks everything that changes volumes, and writes down the answers.
async fn change_everything(volumes: &dyn Volumes, say: &mut Vec<String>) {
    let (v, none) = (volume(1), volume(99));
    let archive: Box<dyn Read + Send> = Box::new(&b"a/b=one\nc=two\n"[..]);
    say.push(both(volumes.create(call(1), new_volume(1), Source::Archive(archive)).await).await);
    say.push(both(volumes.create(call(1), new_volume(1), Source::Empty).await).await);
    let other = Call { request: [0; 8], ..call(1) };
    say.push(both(volumes.create(other, new_volume(1), Source::Empty).await).await);
    say.push(both(volumes.create(call(2), new_volume(1), Source::Empty).await).await);
    let with_spec = NewVolume { spec: spec(), ..new_volume(3) };
    say.push(both(volumes.create(call(3), with_spec, Source::Empty).await).await);
    let not_tar: Box<dyn Read + Send> = Box::new(&b"no archive"[..]);
    say.push(both(volumes.create(call(4), new_volume(4), Source::Archive(not_tar)).await).await);

    let full = NewEntry {
        message: Some("first\n\"é\"".into()),
        label: Some("v1".parse().unwrap()),
        cause: Some("why".into()),
        keep: 1,
        ..new_entry()
    };
    say.push(both(volumes.snapshot(call(10), v.clone(), full.clone()).await).await);
    say.push(both(volumes.snapshot(call(11), v.clone(), full).await).await);
    for (n, kind) in (12..).zip([
        EntryKind::Manual,
        EntryKind::Hibernation,
        EntryKind::Publish,
        EntryKind::BeforeRestore,
        EntryKind::BeforeMerge,
        EntryKind::Rescue,
        EntryKind::Graph,
        EntryKind::Dependencies,
        EntryKind::Files,
        EntryKind::Agent,
        EntryKind::Install,
        EntryKind::Csi,
    ]) {
        let message = Some("kept alone".into());
        let entry = NewEntry { kind, keep: 2, message, ..new_entry() };
        say.push(both(volumes.snapshot(call(n), v.clone(), entry).await).await);
    }
    let entry = EntryId::derive(&operation(10), "snapshot");
    let calls = vec![(call(30), volume(3)), (call(31), v.clone())];
    say.push(both(volumes.snapshot_together(calls, new_entry()).await).await);
    say.push(both(volumes.snapshot_together(Vec::new(), new_entry()).await).await);

    let targets = vec![new_volume(40), NewVolume { spec: spec(), ..new_volume(41) }];
    say.push(both(volumes.fork(call(40), v.clone(), Moment::Now, targets).await).await);
    let of_entry = Moment::Entry(entry);
    let targets = vec![new_volume(42)];
    say.push(both(volumes.fork(call(42), v.clone(), of_entry, targets).await).await);
    say.push(both(volumes.fork(call(43), none.clone(), Moment::Now, Vec::new()).await).await);

    let put = FileEdit::Put(path("c"), Box::new(&b"three"[..]));
    say.push(said(volumes.edit(&v, put).await));
    let restore = Restore {
        entry,
        paths: vec![path("a/b"), path("\\xff")],
        force: true,
        author: "ada".into(),
        keep: 3,
    };
    say.push(both(volumes.restore(call(50), v.clone(), restore.clone()).await).await);
    let whole = Restore { paths: Vec::new(), force: false, ..restore };
    say.push(both(volumes.restore(call(51), v.clone(), whole).await).await);

    let label = Some("v2".parse().unwrap());
    for (n, edit) in (60..).zip([
        EntryEdit::Pin(true),
        EntryEdit::Trash,
        EntryEdit::Pin(false),
        EntryEdit::Label(label),
        EntryEdit::Label(None),
        EntryEdit::Trash,
        EntryEdit::Undelete { keep: 1 },
    ]) {
        say.push(said(volumes.edit_entry(call(n), v.clone(), entry, edit).await));
    }
    say.push(said(volumes.describe(call(70), v.clone(), document("Renamed é")).await));
    let change = SpecChange {
        quota_bytes: Some(None),
        labels: Some([("a".to_owned(), "b".to_owned())].into()),
        parameters: [("storingInterval".to_owned(), "60".to_owned())].into(),
        stands_alone: Some(false),
    };
    let named = Some(document("Named"));
    say.push(both(volumes.specify(call(71), volume(3), change, named).await).await);
    let change = SpecChange::default();
    say.push(both(volumes.specify(call(72), volume(3), change, None).await).await);
    say.push(said(volumes.set_trashed(call(73), v.clone(), true).await));
    say.push(said(volumes.set_trashed(call(74), v.clone(), false).await));
    say.push(said(volumes.remove_entry(call(75), v.clone(), entry).await));
    say.push(both(volumes.delete(call(76), volume(42)).await).await);
    say.push(both(volumes.delete(call(77), none).await).await);

    for edit in [
        FileEdit::MakeDirectory(path("d/e")),
        FileEdit::MakeDirectory(path("c")),
        FileEdit::Extract(path("d"), Box::new(&b"x=1\ny=2\n"[..])),
        FileEdit::Put(path("d/long\\xff"), Box::new(std::io::empty())),
        FileEdit::Put(path("d"), Box::new(&b"is a directory"[..])),
        FileEdit::Remove { path: path("d"), recursive: false },
        FileEdit::Move { from: path("d/x"), to: path("z") },
        FileEdit::Move { from: path("nowhere"), to: path("z") },
        FileEdit::Remove { path: path("d"), recursive: true },
    ] {
        say.push(said(volumes.edit(&v, edit).await));
    }
    say.push(said(volumes.store(&v).await));
    say.push(said(volumes.make_service_directory(&v, "postgres-18").await));
}

/// Asks everything that changes nothing.
async fn look_at_everything(volumes: &dyn Volumes, say: &mut Vec<String>) {
    let (v, none, top) = (volume(1), volume(99), path("/"));
    let entry = Moment::Entry(EntryId::derive(&operation(23), "snapshot"));
    say.push(said(volumes.capacity().await));
    say.push(said(volumes.wait_saved(&v).await));
    say.push(said(volumes.list().await));
    for (ids, name) in [(vec![v.clone(), none.clone()], "pvc\té"), (vec![], "nobody")] {
        let ids = ids.into_iter().collect();
        let filter = VolumeFilter { ids, names: [name.to_owned()].into() };
        say.push(said(volumes.find(&filter).await));
    }
    for message in ["kept alone", "nothing"] {
        say.push(said(volumes.find_entries(message).await));
    }
    for volume in [&v, &none] {
        say.push(said(volumes.status(volume).await));
        say.push(said(volumes.entries(volume).await));
        say.push(said(volumes.store(volume).await));
        for level in
            [VerifyLevel::Agree, VerifyLevel::Located, VerifyLevel::Read { part: 2, of: 7 }]
        {
            say.push(said(volumes.verify(volume, level).await));
        }
    }
    say.push(said(volumes.diff((v.clone(), entry.clone()), (v.clone(), Moment::Now)).await));
    say.push(said(volumes.diff((v.clone(), Moment::Now), (volume(41), Moment::Now)).await));
    for moment in [&Moment::Now, &entry] {
        for name in ["c", "a", "nowhere"] {
            say.push(said(volumes.file(&v, moment, &path(name)).await));
        }
        say.push(said(volumes.files(&v, moment, &top, true).await));
        say.push(said(volumes.files(&v, moment, &top, false).await));
        say.push(said(volumes.files(&v, moment, &path("c"), false).await));
        for range in [None, Some(1..3), Some(0..0), Some(3..u64::MAX)] {
            let read = volumes.read(&v, moment, &path("c"), range).await;
            say.push(match read {
                Ok((view, mut reader)) => {
                    let mut text = String::new();
                    reader.read_to_string(&mut text).unwrap();
                    format!("{view:?} {text:?}")
                }
                Err(error) => said::<()>(Err(error)),
            });
        }
        let read = volumes.read(&v, moment, &path("a"), None).await;
        say.push(said(read.map(|(view, _)| view)));
        let archive = Archive::default();
        say.push(said(volumes.export(&v, moment, &top, Box::new(archive.clone())).await));
        say.push(String::from_utf8_lossy(&archive.0.lock().unwrap()).into_owned());
        say.push(said(volumes.export(&v, moment, &path("nowhere"), Box::new(archive)).await));
    }
    say.push(said(volumes.verify_store().await));
    say.push(format!("{:?}", volumes.doctor().await));
}

/// What only damage and loss give.
async fn look_at_loss(volumes: &dyn Volumes, scripted: &Scripted, say: &mut Vec<String>) {
    scripted.fake.link_out(&volume(1), &path("link"));
    let archive = Box::new(Archive::default());
    say.push(said(volumes.export(&volume(1), &Moment::Now, &path("/"), archive).await));
    scripted.fake.lose_entries(&volume(1), 2);
    say.push(said(volumes.status(&volume(1)).await));
    scripted.fake.rot(true);
    let level = VerifyLevel::Read { part: 1, of: 1 };
    say.push(said(volumes.verify(&volume(1), level).await));
    scripted.fake.lose("volume vol-7", "its head is damaged");
    scripted.fake.lose_head(&volume(3));
    let recovered = volumes.recover(true, Progress::default()).await.unwrap();
    say.push(format!("{recovered:?}"));
    say.push(said(recovered.rest.await));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_over_the_wire_is_answered_as_it_is_in_process() {
    let (world, direct) = (World::start(), Scripted::new());
    let client = world.client();
    let (mut far, mut near) = (Vec::new(), Vec::new());
    change_everything(&client, &mut far).await;
    look_at_everything(&client, &mut far).await;
    look_at_loss(&client, &world.volumes, &mut far).await;
    change_everything(&direct, &mut near).await;
    look_at_everything(&direct, &mut near).await;
    look_at_loss(&direct, &direct, &mut near).await;
    for (at, (far, near)) in far.iter().zip(&near).enumerate() {
        assert_eq!(far, near, "answer {at}");
    }
    assert_eq!(far.len(), near.len());
    assert_eq!(world.volumes.calls(), direct.calls());
    // what is compared is what was meant
    for part in
        [", then ", "WrongKind", "OtherRequest", "NoPath", "Exists", "rolled_off: [EntryView"]
    {
        assert!(near.iter().any(|said| said.contains(part)), "{part} is in no answer");
    }
}
