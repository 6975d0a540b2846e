//! How far a call is.

use std::time::Duration;

use cove_content::volumes::{Call, Progress, Volumes};
use cove_types::wire;

use crate::pb;
use crate::world::{SOON, World, call, create, new_entry, operation, volume};

fn uploading() -> wire::Progress {
    wire::Progress {
        step: "uploading".into(),
        done_bytes: 7,
        total_bytes: Some(9),
        done_files: 1,
        total_files: None,
    }
}

/// Waits until a call is as far as this.
async fn reaches(progress: &Progress, wanted: &wire::Progress) {
    let reached = async {
        while progress.look() != *wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = tokio::time::timeout(SOON, reached).await;
    assert!(reached.is_ok(), "it is at {:?}", progress.look());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_call_is_is_told_while_it_runs() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.let_go_on(false);
    *world.volumes.says.lock().unwrap() = Some(uploading());
    let (client, call) = (world.client(), call(2));
    let progress = call.progress.clone();
    let made =
        tokio::spawn(async move { client.snapshot(call, volume(1), new_entry()).await.map(drop) });
    reaches(&progress, &uploading()).await;
    world.volumes.let_go_on(true);
    made.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_made_together_are_each_told_of_themselves() {
    let world = World::start();
    for n in [1, 2] {
        create(&world.client(), n, "a", b"a".to_vec()).await;
    }
    world.volumes.let_go_on(false);
    let calls: Vec<(Call, _)> = [(11, 1), (12, 2)].map(|(n, v)| (call(n), volume(v))).into();
    let progress: Vec<Progress> = calls.iter().map(|(call, _)| call.progress.clone()).collect();
    let client = world.client();
    let made =
        tokio::spawn(async move { client.snapshot_together(calls, new_entry()).await.map(drop) });
    for (n, progress) in [11, 12].into_iter().zip(&progress) {
        let step = format!("capturing {}", operation(n));
        reaches(progress, &wire::Progress { step, ..wire::Progress::default() }).await;
    }
    world.volumes.let_go_on(true);
    made.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_it_is_is_told_at_most_10_times_a_second() {
    let world = World::start();
    create(&world.client(), 1, "a", b"a".to_vec()).await;
    world.volumes.fake.let_save(false);
    let call = pb::Call {
        op_id: operation(2).to_string(),
        principal: "ada".into(),
        request: vec![7; 8].into(),
    };
    let entry = pb::NewEntry { kind: 1, author: "ada".into(), keep: 20, ..Default::default() };
    let request =
        pb::SnapshotRequest { call: Some(call), volume: "vol-1".into(), entry: Some(entry) };
    let mut steps = world.raw().snapshot(request).await.unwrap().into_inner();
    while !matches!(
        steps.message().await.unwrap().unwrap().step,
        Some(pb::snapshot_response::Step::Mark(1))
    ) {}
    let progress = world.volumes.saving.lock().unwrap().clone().unwrap();
    let began = tokio::time::Instant::now();
    let busy = tokio::spawn(async move {
        for n in 0.. {
            progress.update(|progress| progress.done_bytes = n);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut told = 0;
    let _ = tokio::time::timeout(SOON, async {
        while told < 10 {
            let step = steps.message().await.unwrap().unwrap();
            assert!(matches!(step.step, Some(pb::snapshot_response::Step::Progress(_))));
            told += 1;
        }
    })
    .await;
    busy.abort();
    assert_eq!(told, 10, "it is told while it goes on");
    // nine pauses lie between ten; the first may be of before
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(800), "it was told {told} times in {elapsed:?}");
}
