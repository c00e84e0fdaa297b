//! How a service of the mesh is, by its own word.

use proto::{
    common::v1::{GetStateRequest, ServiceState},
    dns::v1::dns_client::DnsClient,
    gate17::v1::gate17_entry_client::Gate17EntryClient,
    gateway::v1::gateway_client::GatewayClient,
    interceptor::v1::interceptor_client::InterceptorClient,
    policy::v1::policy_client::PolicyClient,
    resolver::v1::process_resolver_client::ProcessResolverClient,
};
use tonic::{Response, Status as Refusal, transport::Channel};

/// Asks `service` (`dns`, `interceptor`, …) over a channel to it.
///
/// # Errors
/// Its refusal; `INVALID_ARGUMENT` for a service that there is none of.
pub async fn state(service: &str, channel: Channel) -> Result<ServiceState, Refusal> {
    let ask = GetStateRequest {};
    let reply = match service {
        "interceptor" => InterceptorClient::new(channel).get_state(ask).await,
        "process-resolver" => ProcessResolverClient::new(channel).get_state(ask).await,
        "policy" => PolicyClient::new(channel).get_state(ask).await,
        "dns" => DnsClient::new(channel).get_state(ask).await,
        "gate17-entry" => Gate17EntryClient::new(channel).get_state(ask).await,
        "api-gateway" => GatewayClient::new(channel).get_state(ask).await,
        other => Err(Refusal::invalid_argument(format!(
            "there is no service {other:?}"
        ))),
    };
    reply.map(Response::into_inner)
}
