//! Hosts that publish lists are found through our own upstreams.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use dns_core::{Name, Question, wire::Response};

use super::http::Resolve;
use crate::{route::Router, upstream::Query};

/// A and AAAA (RFC 1035, RFC 3596).
const ADDRESSES: [u16; 2] = [1, 28];

impl Resolve for Router {
    async fn resolve(&self, host: &str) -> anyhow::Result<Vec<IpAddr>> {
        let name = Name::parse(host)?;
        let ask = |kind| {
            let question = Question {
                name: name.clone(),
                kind,
                class: 1,
            };
            async move {
                let query = Query {
                    question,
                    do_bit: false,
                    cd_bit: false,
                };
                let routed = Box::pin(self.exchange(&query)).await?;
                let addresses = Response::parse(&routed.answer.message)?.addresses()?;
                anyhow::Ok(
                    addresses
                        .into_iter()
                        .map(|found| found.address)
                        .collect::<Vec<IpAddr>>(),
                )
            }
        };
        let [four, six] = ADDRESSES;
        let (four, six) = tokio::join!(ask(four), ask(six));
        let all = match (four, six) {
            (Err(error), Err(_)) => return Err(error).context("ask the upstreams"),
            (four, six) => [four.unwrap_or_default(), six.unwrap_or_default()].concat(),
        };
        ensure!(!all.is_empty(), "it has none");
        Ok(all)
    }
}
