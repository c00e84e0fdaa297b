//! The events of a world, one JSON object per line.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use proto::interceptor::v1::{ConnectionEvents, WatchEventsRequest, interceptor_client::InterceptorClient};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Streaming, transport::Channel};

use crate::event_json::EventJson;

/// So long without an event, and those of a program that has ended are written.
const QUIET: Duration = Duration::from_millis(250);
/// A world may be busy for ever.
const LONGEST_SETTLING: Duration = Duration::from_secs(5);

/// Writes until it is closed.
pub(super) struct Log {
    writer: JoinHandle<Result<()>>,
    closing: watch::Sender<bool>,
    last: watch::Receiver<Instant>,
}

impl Log {
    /// Returns once the stream is open: nothing that happens from then on is missing.
    pub(super) async fn start(channel: Channel, path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
        let stream = open(&channel).await.context("follow the events")?;
        let (closing, closed) = watch::channel(false);
        let (tell, last) = watch::channel(Instant::now());
        let sink = Sink {
            file: BufWriter::new(file),
            shown: path.display().to_string(),
            tell,
            lost: 0,
        };
        let writer = tokio::spawn(sink.follow(channel, stream, closed));
        Ok(Self {
            writer,
            closing,
            last,
        })
    }

    /// Returns when no more events come for what has happened.
    pub(super) async fn settle(&self) {
        let start = Instant::now();
        while start.elapsed() < LONGEST_SETTLING
            && (start.elapsed() < QUIET || self.last.borrow().elapsed() < QUIET)
        {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes what is left of a stream that ends.
    pub(super) async fn close(mut self) -> Result<()> {
        self.closing.send_replace(true);
        match timeout(LONGEST_SETTLING, &mut self.writer).await {
            Ok(outcome) => outcome.context("write the events")?,
            Err(_) => {
                self.writer.abort();
                Ok(())
            }
        }
    }
}

async fn open(channel: &Channel) -> Result<Streaming<ConnectionEvents>> {
    let mut client = InterceptorClient::new(channel.clone());
    Ok(client
        .watch_events(WatchEventsRequest {
            include_live: true,
            resume_after: None,
        })
        .await?
        .into_inner())
}

struct Sink {
    file: BufWriter<File>,
    shown: String,
    tell: watch::Sender<Instant>,
    lost: u64,
}

impl Sink {
    async fn follow(
        mut self,
        channel: Channel,
        mut stream: Streaming<ConnectionEvents>,
        mut closed: watch::Receiver<bool>,
    ) -> Result<()> {
        loop {
            while let Ok(Some(batch)) = stream.message().await {
                self.write(&batch)?;
            }
            stream = loop {
                if *closed.borrow_and_update() {
                    if self.lost > 0 {
                        eprintln!(
                            "portmaster try: {} events are missing in {}: too many at once",
                            self.lost, self.shown
                        );
                    }
                    return Ok(());
                }
                // The interceptor was restarted under us.
                match open(&channel).await {
                    Ok(stream) => break stream,
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            };
        }
    }

    fn write(&mut self, batch: &ConnectionEvents) -> Result<()> {
        self.lost += batch.dropped;
        for event in &batch.events {
            let line = EventJson::from(event.clone()).to_line();
            self.file
                .write_all(line.as_bytes())
                .with_context(|| format!("write {}", self.shown))?;
        }
        self.file
            .flush()
            .with_context(|| format!("write {}", self.shown))?;
        self.tell.send_replace(Instant::now());
        Ok(())
    }
}
