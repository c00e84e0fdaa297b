//! An OTLP collector that keeps what it is sent.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::Path,
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
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status, transport::server::Connected};

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
            serve(serves, || {
                TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap())
            });
        });
        collector
    }

    /// Listens at a file too.
    pub(crate) fn also_at(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let serves = self.clone();
        thread::spawn(move || {
            serve(serves, || {
                UnixListenerStream::new(tokio::net::UnixListener::from_std(listener).unwrap())
            });
        });
    }

    /// Looks at all that came until there is an answer.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, look: impl Fn(&Received) -> Option<T>) -> T {
        eventually(what, || look(&self.0.lock().unwrap()))
    }
}

fn serve<S, I>(collector: Collector, incoming: impl FnOnce() -> S)
where
    S: tokio_stream::Stream<Item = std::io::Result<I>>,
    I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let served = runtime.block_on(async {
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector))
            .serve_with_incoming(incoming())
            .await
    });
    served.unwrap();
}

impl Received {
    /// The metrics of one service, by name.
    pub(crate) fn metrics(&self, of: &str) -> BTreeMap<String, Metric> {
        let resources = self.metrics.iter().flat_map(|request| &request.resource_metrics);
        let own = resources.filter(|own| service(own.resource.as_ref()) == of);
        own.flat_map(|own| &own.scope_metrics)
            .flat_map(|scope| &scope.metrics)
            .map(|metric| (metric.name.clone(), metric.clone()))
            .collect()
    }

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
