//! An OTLP receiver on the host's side that counts what it is sent: real export, to somebody who takes all of it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use integration::Namespace;
use opentelemetry_proto::tonic::collector::{
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
};
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Where it listens.
const PLACE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Collector {
    spans: Arc<AtomicU64>,
    _end: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Counts(Arc<AtomicU64>);

impl Collector {
    pub(super) fn start(namespace: &Namespace) -> Self {
        let spans = Arc::new(AtomicU64::new(0));
        let (end, ended) = oneshot::channel::<()>();
        let listener = namespace.enter(|| TcpListener::bind(PLACE)).expect("listen");
        listener.set_nonblocking(true).expect("use a socket");
        let counts = Counts(Arc::clone(&spans));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("make a runtime");
            runtime.block_on(async {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
                let served = tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(counts.clone()))
                    .add_service(MetricsServiceServer::new(counts.clone()))
                    .add_service(LogsServiceServer::new(counts))
                    .serve_with_incoming(incoming);
                tokio::select! {
                    served = served => served.map_err(std::io::Error::other),
                    _ = ended => Ok(()),
                }
            })
        });
        Self { spans, _end: end }
    }

    /// Where services send to.
    pub(super) fn endpoint() -> String {
        format!("http://{PLACE}")
    }

    /// That came.
    pub(super) fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }
}

#[tonic::async_trait]
impl TraceService for Counts {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let scopes = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Counts {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Counts {
    async fn export(
        &self,
        _: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
