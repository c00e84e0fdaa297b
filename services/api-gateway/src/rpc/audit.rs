//! `Audit`: what was changed through us.

use api::v1::{ListAuditReply, ListAuditRequest, audit_server::Audit as AuditRpc};
use tonic::{Request, Response, Status};

use crate::audit::{Audit, KEPT};

const PAGE: usize = 100;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// Who knows.
    pub audit: Audit,
}

#[tonic::async_trait]
impl AuditRpc for Service {
    async fn list(&self, request: Request<ListAuditRequest>) -> Result<Response<ListAuditReply>, Status> {
        let asked = request.get_ref();
        let most = match usize::try_from(asked.page_size).unwrap_or(usize::MAX) {
            0 => PAGE,
            size => size.min(KEPT),
        };
        Ok(Response::new(ListAuditReply {
            entries: self.audit.list(most, asked.before_id),
        }))
    }
}
