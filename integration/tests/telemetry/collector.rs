//! An OTLP collector that keeps what it is sent.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use integration::{Namespace, eventually};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Everything that came, as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector(Arc<Mutex<Received>>);

#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) traces: Vec<ExportTraceServiceRequest>,
    pub(crate) metrics: Vec<ExportMetricsServiceRequest>,
    pub(crate) logs: Vec<ExportLogsServiceRequest>,
}

impl Collector {
    /// Listens inside, until the test ends.
    pub(crate) fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let collector = Self::default();
        let listener = namespace.enter(|| TcpListener::bind(address)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let serves = collector.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
                tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(serves.clone()))
                    .add_service(MetricsServiceServer::new(serves.clone()))
                    .add_service(LogsServiceServer::new(serves))
                    .serve_with_incoming(incoming)
                    .await
            })
        });
        collector
    }

    /// Looks at all that came until there is an answer.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, look: impl Fn(&Received) -> Option<T>) -> T {
        eventually(what, || look(&self.0.lock().unwrap()))
    }
}

impl Received {
    /// Each span with the name of its service.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (&str, &Span)> {
        let resources = self.traces.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|of| {
            let service = service(of.resource.as_ref());
            let spans = of.scope_spans.iter().flat_map(|scope| &scope.spans);
            spans.map(move |span| (service, span))
        })
    }

    /// All of it as text, to look for what must not be there.
    pub(crate) fn text(&self) -> String {
        format!("{self:?}")
    }
}

/// The service that a resource is.
pub(crate) fn service(resource: Option<&Resource>) -> &str {
    resource.map_or("", |resource| {
        word(&resource.attributes, "service.name").unwrap_or("")
    })
}

/// An attribute that is a string.
pub(crate) fn word<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(word) => Some(word),
        _ => None,
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().traces.push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().unwrap().metrics.push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.0.lock().unwrap().logs.push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}
