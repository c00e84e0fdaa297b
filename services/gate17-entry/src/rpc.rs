//! The gRPC service: translates, no more.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use daemon::status::Status as ServiceStatus;
use proto::{
    common::v1::{GetStateRequest, ServiceState},
    gate17::v1::{
        CircuitEvent, CloseCircuitReply, CloseCircuitRequest, GetStatusReply, GetStatusRequest,
        ListCircuitsReply, ListCircuitsRequest, ListNodesReply, ListNodesRequest, MeasureEvent,
        MeasureRequest, PingReply, PingRequest, ResolveReply, ResolveRequest, RouteReply, RouteRequest,
        WatchCircuitsRequest, gate17_entry_server::Gate17Entry,
    },
    place::Place,
};
use tokio::sync::Semaphore;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    asked,
    circuit::Circuit,
    history,
    measure::Measurement,
    opening::Opening,
    splice::Carried,
    told::{self, NoRoute},
    wire,
};

/// Messages that wait for one subscriber.
const WAITING: usize = 64;

/// Serves what the circuits know.
#[derive(Debug)]
pub struct Service {
    /// Opens streams.
    pub opening: Opening,
    /// Octets of all.
    pub carried: Carried,
    /// One measurement at a time.
    pub measuring: Arc<Semaphore>,
    /// Health and counters.
    pub status: ServiceStatus,
    /// Ends the streams.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl Gate17Entry for Service {
    type WatchCircuitsStream = Pin<Box<dyn Stream<Item = Result<CircuitEvent, Status>> + Send>>;

    type MeasureStream = Pin<Box<dyn Stream<Item = Result<MeasureEvent, Status>> + Send>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusReply>, Status> {
        let maps = self.opening.circuits.maps();
        let circuits: Vec<_> = self.opening.circuits.all().iter().map(wire::circuit).collect();
        Ok(Response::new(GetStatusReply {
            map: Some(maps.told()),
            streams_now: circuits
                .iter()
                .map(|circuit| u64::from(circuit.streams_now))
                .sum(),
            circuits,
            sent_bytes: self.carried.sent.get(),
            received_bytes: self.carried.received.get(),
        }))
    }

    async fn list_circuits(
        &self,
        _: Request<ListCircuitsRequest>,
    ) -> Result<Response<ListCircuitsReply>, Status> {
        let circuits = self.opening.circuits.all();
        Ok(Response::new(ListCircuitsReply {
            circuits: circuits.iter().map(wire::circuit).collect(),
        }))
    }

    async fn watch_circuits(
        &self,
        request: Request<WatchCircuitsRequest>,
    ) -> Result<Response<Self::WatchCircuitsStream>, Status> {
        let resume = match request.get_ref().resume_after.as_str() {
            "" => None,
            text => Some(Place::parse(text).ok_or_else(|| {
                Status::invalid_argument("resume_after: not an event_id of ours; begin without")
            })?),
        };
        let circuits = &self.opening.circuits;
        let history = circuits.history();
        let now = || {
            history
                .follow(None)
                .ok_or_else(|| Status::internal("there is no now"))
        };
        // those that are there are looked at afterwards: what changes meanwhile is told twice rather than not at all
        let (mut follower, known, dropped) = match history.follow(resume) {
            Some(follower) if resume.is_some() => (follower, Vec::new(), 0),
            Some(follower) => (follower, circuits.all(), 0),
            // how much was lost meanwhile nobody knows; it is not nothing
            None => (now()?, circuits.all(), 1),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let follow = async {
                let present = known.iter().map(|known| history::present(wire::circuit(known)));
                let mut events: Vec<_> = present.chain([follower.here(dropped)]).collect();
                loop {
                    for event in events {
                        if sender.send(Ok(event)).await.is_err() {
                            return;
                        }
                    }
                    events = follower.next().await;
                }
            };
            tokio::select! {
                () = follow => {}
                () = shutdown.cancelled() => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesReply>, Status> {
        Ok(Response::new(told::nodes(&self.opening.circuits)))
    }

    async fn route(&self, request: Request<RouteRequest>) -> Result<Response<RouteReply>, Status> {
        let RouteRequest { destination, profile } = request.into_inner();
        let route = told::route(&self.opening, &destination, &profile);
        route.map(Response::new).map_err(|no| match no {
            NoRoute::Malformed(text) => Status::invalid_argument(text),
            NoRoute::NoMap(text) => Status::unavailable(text),
        })
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        let node = request.into_inner().node;
        Ok(Response::new(told::ping(&self.opening.circuits, &node).await))
    }

    async fn measure(
        &self,
        request: Request<MeasureRequest>,
    ) -> Result<Response<Self::MeasureStream>, Status> {
        let request = request.into_inner();
        let want = self
            .opening
            .want(proto::gate17::v1::App::default(), &request.profile, "");
        let measurement = Measurement::new(&request, &want.options).map_err(Status::invalid_argument)?;
        let Ok(turn) = Arc::clone(&self.measuring).try_acquire_owned() else {
            return Err(Status::resource_exhausted(
                "a path is being measured already: wait for its end",
            ));
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
        let (circuits, shutdown) = (self.opening.circuits.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let _turn = turn;
            tokio::select! {
                () = measurement.run(&circuits, &sender) => {}
                () = shutdown.cancelled() => {}
            }
        });
        let events = tokio_stream::StreamExt::map(ReceiverStream::new(receiver), Ok);
        Ok(Response::new(Box::pin(events)))
    }

    async fn close_circuit(
        &self,
        request: Request<CloseCircuitRequest>,
    ) -> Result<Response<CloseCircuitReply>, Status> {
        let id = request.into_inner().id;
        if self.opening.circuits.close(id) {
            Ok(Response::new(CloseCircuitReply {}))
        } else {
            Err(Status::not_found(format!(
                "no circuit has the number {id}: `portmaster gate17 circuits` lists them"
            )))
        }
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveReply>, Status> {
        let ResolveRequest {
            app,
            profile,
            query,
            options,
        } = request.into_inner();
        // by the circuit that its connections will take: where sites are kept apart, their names are as well
        let name = asked::name(&query).unwrap_or_default();
        let want = self.opening.want(app.unwrap_or_default(), &profile, &name);
        let query = Bytes::from(query);
        let answered = async {
            let want = self.opening.want_by(want, options)?;
            let work = |circuit: Arc<Circuit>| {
                let query = query.clone();
                async move { circuit.resolve(query).await }
            };
            self.opening.circuits.through(&want, None, work).await
        }
        .await;
        Ok(Response::new(match answered {
            Ok(answer) => ResolveReply {
                answer,
                ..ResolveReply::default()
            },
            Err(refusal) => ResolveReply {
                answer: Vec::new(),
                cause: refusal.cause.into(),
                text: refusal.text,
            },
        }))
    }

    async fn get_state(&self, _: Request<GetStateRequest>) -> Result<Response<ServiceState>, Status> {
        Ok(Response::new(self.status.snapshot()))
    }
}
