//! `portmaster monitor`: connections as they are decided, changed and ended.
//!
//! It outlives the interceptor: says once that it is gone, once that it is back. It ends with status 0 on Ctrl-C, on
//! SIGTERM, and when nobody reads its output any more.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use proto::interceptor::v1::{
    ConnectionEvents, EventKind, Position, WatchEventsRequest, interceptor_client::InterceptorClient,
};
use tokio::signal::unix::{SignalKind, signal};
use tonic::{Status, Streaming};

use crate::{
    args::{KindArg, MonitorArgs},
    clock,
    event_json::EventJson,
    output::{Output, Writer},
    paint::{Paint, Tone},
    place::{Service, Trouble, trouble},
    words,
};

/// Between two attempts to reach the interceptor again.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// Runs until it is stopped.
pub(crate) async fn run(args: MonitorArgs, paint: Paint) -> Result<ExitCode> {
    let listen = |kind| signal(kind).context("listen to signals");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut output = Output::start()?;
    let printer = Printer {
        args,
        paint,
        writer: output.writer(),
    };
    let result = tokio::select! {
        result = printer.follow() => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = output.reader_left() => Ok(()),
    };
    drop(printer);
    let finished = output.finish().await;
    result.and(finished)
}

struct Printer {
    args: MonitorArgs,
    paint: Paint,
    writer: Writer,
}

impl Printer {
    /// Ends without an error when nobody reads any more.
    async fn follow(&self) -> Result<()> {
        // Lazy: every call connects again where the connection was lost.
        let mut client = InterceptorClient::new(self.args.place.channel(Service::Interceptor));
        let mut include_live = self.args.live;
        let mut resume_after = None;
        let mut reached = false;
        let mut outage = Outage::default();
        loop {
            let request = WatchEventsRequest {
                include_live,
                resume_after,
            };
            let end = match client.watch_events(request).await {
                Ok(reply) => {
                    (reached, include_live) = (true, false);
                    outage.over();
                    match self.drain(reply.into_inner(), &mut resume_after).await {
                        Drained::ReaderLeft => return Ok(()),
                        Drained::StreamEnded(end) => end,
                    }
                }
                Err(status) if !reached || trouble(&status) == Trouble::Forbidden => {
                    return Err(self.args.place.unreachable(Service::Interceptor, &status));
                }
                Err(status) => Some(status),
            };
            outage.wait(end.as_ref()).await;
        }
    }

    /// `place` is where the stream was when it ended: a restarted interceptor goes on there.
    async fn drain(&self, mut stream: Streaming<ConnectionEvents>, place: &mut Option<Position>) -> Drained {
        loop {
            match stream.message().await {
                Ok(Some(batch)) => {
                    *place = batch.position.or(*place);
                    let text = self.render(batch);
                    if !text.is_empty() && !self.writer.send(text).await {
                        return Drained::ReaderLeft;
                    }
                }
                Ok(None) => return Drained::StreamEnded(None),
                Err(status) => return Drained::StreamEnded(Some(status)),
            }
        }
    }

    fn render(&self, batch: ConnectionEvents) -> String {
        if batch.dropped > 0 {
            eprintln!(
                "portmaster: {} events are missing here: they came faster than they were read",
                batch.dropped
            );
        }
        let wanted = batch.events.into_iter().filter(|event| self.wants(event.kind()));
        let events = wanted
            .map(EventJson::from)
            .filter(|event| self.args.filter.matches(event));
        events.map(|event| self.line(&event)).collect()
    }

    fn wants(&self, kind: EventKind) -> bool {
        let kind = match kind {
            EventKind::Decided => KindArg::Decided,
            EventKind::Redecided => KindArg::Redecided,
            EventKind::Ended => KindArg::Ended,
            EventKind::Unspecified => return self.args.kind.is_empty(),
        };
        self.args.kind.is_empty() || self.args.kind.contains(&kind)
    }

    fn line(&self, event: &EventJson) -> String {
        if self.args.json {
            event.to_line()
        } else {
            text_line(event, self.paint)
        }
    }
}

enum Drained {
    ReaderLeft,
    StreamEnded(Option<Status>),
}

/// `14:03:59.125  allow  out tcp  curl[1234]  → example.com:443 (93.184.216.34)  default-action global#default_action`
fn text_line(event: &EventJson, paint: Paint) -> String {
    let time = paint.text(Tone::Faint, clock::time_of_day(&event.time), 12);
    let (tone, word) = words::fate(event);
    let fate = paint.text(tone, word, 6);
    let way = format!("{} {}", event.direction, event.protocol);
    let (app, remote, reason) = (words::app(event), words::remote(event), words::reason(event));
    let reason = paint.text(Tone::Faint, reason, 0);
    format!("{time}  {fate}  {way:<10}  {app:<24}  {remote:<46}  {reason}\n")
}

/// The time without an interceptor: said once, waited through with growing patience.
#[derive(Default)]
struct Outage {
    pause: Option<Duration>,
}

impl Outage {
    async fn wait(&mut self, end: Option<&Status>) {
        let pause = self.pause.unwrap_or_else(|| {
            let why = end.map_or("it stopped", Status::message);
            eprintln!(
                "portmaster: lost the interceptor ({}); waiting for it",
                crate::printable::printable(why)
            );
            *RETRY.start()
        });
        tokio::time::sleep(pause).await;
        self.pause = Some((pause * 2).min(*RETRY.end()));
    }

    fn over(&mut self) {
        if self.pause.take().is_some() {
            eprintln!("portmaster: the interceptor is back");
        }
    }
}
