//! The service Identity: what the driver is and can do.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::csi::{DRIVER, Driver};
use crate::proto as pb;
use crate::proto::plugin_capability::service::Type as Service;
use crate::proto::plugin_capability::volume_expansion::Type as Expansion;
use crate::proto::plugin_capability::{self, Type};

/// The service Identity.
pub(crate) struct Identity(pub(crate) Arc<Driver>);

/// What the driver can do. A snapshot is reached from everywhere once it is stored, so that none has a topology.
fn capabilities() -> Vec<pb::PluginCapability> {
    let services = [
        Service::ControllerService,
        Service::VolumeAccessibilityConstraints,
        Service::GroupControllerService,
    ];
    let services = services
        .map(|service| Type::Service(plugin_capability::Service { r#type: service.into() }));
    let expansion = Type::VolumeExpansion(plugin_capability::VolumeExpansion {
        r#type: Expansion::Online.into(),
    });
    services
        .into_iter()
        .chain([expansion])
        .map(|capability| pb::PluginCapability { r#type: Some(capability) })
        .collect()
}

#[tonic::async_trait]
impl pb::identity_server::Identity for Identity {
    async fn get_plugin_info(
        &self,
        _: Request<pb::GetPluginInfoRequest>,
    ) -> Result<Response<pb::GetPluginInfoResponse>, Status> {
        Ok(Response::new(pb::GetPluginInfoResponse {
            name: DRIVER.to_owned(),
            vendor_version: self.0.options.version.to_owned(),
            ..pb::GetPluginInfoResponse::default()
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<pb::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<pb::GetPluginCapabilitiesResponse>, Status> {
        let capabilities = capabilities();
        Ok(Response::new(pb::GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(
        &self,
        _: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeResponse>, Status> {
        let ready = Some(self.0.check_well().await.is_ok());
        Ok(Response::new(pb::ProbeResponse { ready }))
    }
}
