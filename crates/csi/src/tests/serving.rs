use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::proto::controller_service_capability as controller;
use crate::proto::node_service_capability as node;

#[tokio::test]
async fn the_driver_tells_what_it_is_and_that_it_is_ready() {
    let served = Served::all().await;
    let mut identity = served.identity();
    let told = identity.get_plugin_info(pb::GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((told.name.as_str(), told.vendor_version.as_str()), ("cove.csi.storage", "1.2.3"));
    let probe = identity.probe(pb::ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(true));
    let can = identity.get_plugin_capabilities(pb::GetPluginCapabilitiesRequest {}).await.unwrap();
    assert_eq!(can.into_inner().capabilities.len(), 4);
}

#[tokio::test]
async fn a_driver_whose_node_the_hub_does_not_know_is_not_ready() {
    let options = Options { node: "n2".parse().unwrap(), ..options(Compat::V1_12) };
    let served = Served::start_as(ALL, options).await;
    let probe = served.identity().probe(pb::ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(false));
    let health = pb::NodeGetStorageHealthRequest::default();
    let health = served.node().node_get_storage_health(health).await.unwrap().into_inner();
    assert_eq!(health.backend_health[0].message, "node n2 does not exist");
}

#[tokio::test(start_paused = true)]
async fn a_silent_hub_is_told_of_after_3_s_and_is_asked_once() {
    let served = Served::all().await;
    served.hub.is_silent.store(true, Relaxed);
    let begun = Instant::now();
    let probe = served.identity().probe(pb::ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(false));
    let health = pb::NodeGetStorageHealthRequest::default();
    let health = served.node().node_get_storage_health(health).await.unwrap().into_inner();
    let why = "the Hub does not tell within 3 s what room this node has";
    assert_eq!(health.backend_health[0].message, why);
    let took = begun.elapsed();
    assert!((6..8).contains(&took.as_secs()), "{took:?}");
    assert_eq!(served.hub.room_asked.load(Relaxed), 1);
}

#[tokio::test]
async fn only_the_services_that_are_asked_for_are_served() {
    let services = Services { controller: false, node: true };
    let served = Served::start(services, Compat::V1_12).await;
    served.identity().probe(pb::ProbeRequest {}).await.unwrap();
    let info = served.node().node_get_info(pb::NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), ("n1", 2));
    let segments = info.accessible_topology.unwrap().segments;
    assert_eq!(segments["topology.cove.csi.storage/node"], "n1");
    let refused = served.controller().list_volumes(pb::ListVolumesRequest::default()).await;
    assert_eq!(code(refused), Code::Unimplemented);
}

#[tokio::test]
async fn what_version_1_13_added_is_announced_when_it_is_asked_for_and_always_served() {
    for (compat, more) in [(Compat::V1_12, 0), (Compat::V1_13, 2)] {
        let served = Served::start(ALL, compat).await;
        let request = pb::ControllerGetCapabilitiesRequest {};
        let told = served.controller().controller_get_capabilities(request).await.unwrap();
        let newer = told.into_inner().capabilities.into_iter().filter(|capability| {
            let Some(controller::Type::Rpc(rpc)) = &capability.r#type else { panic!("no rpc") };
            rpc.r#type >= i32::from(controller::rpc::Type::GetVolumeHealth)
        });
        assert_eq!(newer.count(), more);
        let request = pb::NodeGetCapabilitiesRequest {};
        let told = served.node().node_get_capabilities(request).await.unwrap();
        let newer = told.into_inner().capabilities.into_iter().filter(|capability| {
            let Some(node::Type::Rpc(rpc)) = &capability.r#type else { panic!("no rpc") };
            rpc.r#type >= i32::from(node::rpc::Type::GetVolumeHealth)
        });
        assert_eq!(newer.count(), more);
        let request = pb::ControllerListVolumeHealthRequest::default();
        served.controller().controller_list_volume_health(request).await.unwrap();
        let request = pb::NodeGetStorageHealthRequest::default();
        served.node().node_get_storage_health(request).await.unwrap();
    }
    assert_eq!("1.13".parse(), Ok(Compat::V1_13));
    assert!("1.11".parse::<Compat>().is_err());
}

#[tokio::test]
async fn serving_ends_when_it_is_told_to() {
    let served = Served::all().await;
    served.identity().probe(pb::ProbeRequest {}).await.unwrap();
    served.stop.send(()).unwrap();
    served.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_of_more_than_4_mib_is_refused() {
    let served = Served::all().await;
    let request = pb::DeleteVolumeRequest {
        volume_id: "x".repeat(5 << 20),
        ..pb::DeleteVolumeRequest::default()
    };
    assert_eq!(code(served.controller().delete_volume(request).await), Code::OutOfRange);
}

#[tokio::test]
async fn a_call_whose_callers_deadline_is_over_is_told_so() {
    let served = Served::all().await;
    served.hub.is_silent.store(true, std::sync::atomic::Ordering::Relaxed);
    // by hand: the generated clients end such a call themselves, in their own words
    let stream = tokio::net::UnixStream::connect(served.path("csi.sock")).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::post("http://localhost/csi.v1.Controller/GetCapacity")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "50m")
        // a message of 0 bytes, which is not compressed
        .body("\0\0\0\0\0".to_owned())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!((status.code(), status.details()), (Code::DeadlineExceeded, &b""[..]));
}
