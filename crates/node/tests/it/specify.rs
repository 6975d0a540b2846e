//! What is asked of a volume as such: it outlives what runs.

use cove_content::document::ProjectDocument;
use cove_content::spec::{SpecChange, VolumeSpec};
use cove_content::volumes::{VolumeStatus, Volumes};
use cove_testkit::proof::rounds;
use cove_types::{Classify, ErrorKind, VolumeId};

use crate::home::{Home, on_both_pools};
use crate::world::memory;

on_both_pools!(
    what_is_asked_holds_at_once_and_after_a_restart,
    what_cannot_be_asked_changes_nothing,
    of_two_quotas_that_are_asked_for_at_once_the_later_one_holds,
    a_volume_becomes_a_workspace_in_one_step,
);

fn quota(bytes: Option<u64>) -> SpecChange {
    SpecChange { quota_bytes: Some(bytes), ..SpecChange::default() }
}

async fn specified(home: &Home, volume: &VolumeId, change: SpecChange) -> VolumeStatus {
    let call = home.call(home.status(volume).await.seq);
    let captured = home.node().specify(call, volume.clone(), change, None).await.unwrap();
    captured.saved.await.unwrap()
}

async fn what_is_asked_holds_at_once_and_after_a_restart(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let volume = home.create("shop").await;
    let labels = SpecChange {
        labels: Some([("tier".to_owned(), "hot".to_owned())].into()),
        parameters: [("retention".to_owned(), "7".to_owned())].into(),
        ..quota(Some(64 << 20))
    };
    let asked = specified(&home, &volume, labels).await.spec;
    assert_eq!(home.limit(&volume), Some(64 << 20));
    assert_eq!((asked.quota_bytes, asked.labels.len()), (Some(64 << 20), 1));

    // the same call gives the first result and changes nothing, whatever was asked since
    let call = home.call(home.status(&volume).await.seq);
    let grown = quota(Some(128 << 20));
    let node = home.node();
    node.specify(call.clone(), volume.clone(), grown.clone(), None)
        .await
        .unwrap()
        .saved
        .await
        .unwrap();
    specified(&home, &volume, quota(Some(96 << 20))).await;
    node.specify(call, volume.clone(), grown, None).await.unwrap().saved.await.unwrap();
    assert_eq!(home.limit(&volume), Some(96 << 20));

    // the limits are the file system's: a start sets them again
    home.pool().set_limit(&volume, None).unwrap();
    home.down().await;
    home.up().await;
    assert_eq!(home.limit(&volume), Some(96 << 20));
    let spec = home.status(&volume).await.spec;
    assert_eq!((spec.quota_bytes, spec.parameters.len()), (Some(96 << 20), 1));

    assert_eq!(specified(&home, &volume, quota(None)).await.spec.quota_bytes, None);
    assert_eq!(home.limit(&volume), None);
    home.down().await;
}

async fn what_cannot_be_asked_changes_nothing(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let volume = home.create("shop").await;
    let before = home.status(&volume).await;
    let long = SpecChange {
        labels: Some([("k".to_owned(), "v".repeat(64))].into()),
        ..quota(Some(64 << 20))
    };
    for change in [quota(Some(1)), long] {
        let call = home.call(before.seq);
        let error = home.node().specify(call, volume.clone(), change, None).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let after = home.status(&volume).await;
    assert_eq!((after.seq, after.spec, home.limit(&volume)), (before.seq, before.spec, None));
    home.down().await;
}

async fn of_two_quotas_that_are_asked_for_at_once_the_later_one_holds(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let volume = home.create("shop").await;
    for _ in 0..rounds(30, 300) {
        let asked = [None, Some(64 << 20), Some(96 << 20)].map(|bytes| {
            let (node, call, volume) = (home.node().clone(), home.call(u32::MAX), volume.clone());
            tokio::spawn(async move { node.specify(call, volume, quota(bytes), None).await })
        });
        for asked in asked {
            asked.await.unwrap().unwrap().saved.await.unwrap();
        }
        assert_eq!(home.limit(&volume), home.status(&volume).await.spec.quota_bytes);
    }
    home.down().await;
}

async fn a_volume_becomes_a_workspace_in_one_step(is_real: bool) {
    let mut home = Home::new(&memory(), is_real);
    home.up().await;
    let alone = VolumeSpec {
        name: Some("pvc 1".parse().unwrap()),
        stands_alone: true,
        ..VolumeSpec::default()
    };
    let call = home.call(0);
    let volume = home.create_with(&call, "nobody-s", alone).await;
    let document = home.status(&volume).await.document;
    let shop = ProjectDocument { slug: "shop".parse().unwrap(), name: "shop".into(), ..document };
    let change = SpecChange { stands_alone: Some(false), ..SpecChange::default() };
    let call = home.call(home.status(&volume).await.seq);
    let captured =
        home.node().specify(call, volume.clone(), change, Some(shop.clone())).await.unwrap();
    captured.saved.await.unwrap();
    for _ in 0..2 {
        let status = home.status(&volume).await;
        assert_eq!(status.document, shop);
        assert_eq!(status.spec.name.as_ref().map(ToString::to_string), Some("pvc 1".to_owned()));
        assert!(!status.spec.stands_alone);
        home.down().await;
        home.up().await;
    }
    home.down().await;
}
