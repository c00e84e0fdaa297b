//! The lists that are in force.

use std::sync::Arc;

use daemon::{Paths, status::Status};
use dns_core::Name;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, filter, judge::Judge, route::Router, rpc};

/// Follows the lists.
#[derive(Debug)]
pub struct ListsInForce;

/// No list.
#[derive(Debug, Default)]
pub struct Lists;

impl filter::Lists for Lists {
    fn find(&self, _: &Name, _: &mut dyn FnMut(&Arc<str>, &str)) {}
}

impl rpc::Told for Lists {
    fn told(&self) -> Vec<proto::dns::v1::List> {
        Vec::new()
    }
}

impl ListsInForce {
    /// Reads them.
    pub fn start(
        _: &Config,
        _: &Paths,
        _: &Router,
        _: &Status,
        _: CancellationToken,
    ) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// As of this moment.
    pub fn now(&self) -> Arc<Lists> {
        Arc::default()
    }

    /// Puts what changes in force.
    pub async fn follow(&self, _: &Judge<Lists>) {
        std::future::pending().await
    }
}
