//! What the interceptor calls: it hears what programs are told, and gives back what it heard of the process before this one.

use std::pin::Pin;

use daemon::{grpc::mesh_alone, status::Status as ServiceStatus};
use proto::interceptor::v1::{Aside as Offered, FromDns, ToDns, from_dns, names_server, to_dns::Said};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Link, Offer};
use crate::names::Names;

const PROBLEM: &str = "interceptor-unreachable";

/// What the interceptor calls.
#[derive(Debug)]
pub struct Service {
    link: Link,
    /// All that holds still, told to each new stream.
    names: Names,
    status: ServiceStatus,
}

impl Service {
    /// Nobody has called yet.
    pub fn new(link: Link, names: Names, status: ServiceStatus) -> Self {
        alone(&status);
        Self { link, names, status }
    }
}

fn alone(status: &ServiceStatus) {
    let text = "the interceptor does not listen: connections are decided without the names of this service";
    status.raise(PROBLEM, text);
}

#[tonic::async_trait]
impl names_server::Names for Service {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<FromDns, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ToDns>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        mesh_alone(&request, "what programs are told is for the interceptor alone")?;
        let mut replies = request.into_inner();
        let (sender, receiver) = mpsc::unbounded_channel();
        let offer = Offer::new()
            .inspect_err(|error| tracing::warn!(%error, "each name waits for the interceptor's word"))
            .ok();
        let number = {
            let mut state = self.link.lock();
            let number = state.begin(sender, self.names.known());
            self.link.interceptor.came();
            if let Some(offer) = &offer {
                let name = offer.name().to_vec();
                state.send(from_dns::Said::Aside(Offered { name }));
            }
            number
        };
        self.status.clear(PROBLEM);
        let (link, names, status) = (self.link.clone(), self.names.clone(), self.status.clone());
        let given_back = status.counter("names_given_back");
        tokio::spawn(async move {
            let heard = async {
                while let Ok(Some(reply)) = replies.message().await {
                    match reply.said {
                        Some(Said::Known(told)) => {
                            given_back.add(told.names.len().try_into().unwrap_or(u64::MAX));
                            names.remember(told.names);
                        }
                        _ => link.heard(reply),
                    }
                }
            };
            tokio::select! {
                () = heard => {}
                () = link.use_aside(offer, number) => {}
            }
            let mut state = link.lock();
            // a newer stream may have begun meanwhile
            if state.streams == number {
                state.lost();
                link.interceptor.went();
                drop(state);
                alone(&status);
            }
        });
        Ok(Response::new(Box::pin(
            UnboundedReceiverStream::new(receiver).map(Ok),
        )))
    }
}
