//! Measures a path: round trips while nothing else is on it, then each direction for a while, and round trips meanwhile.

use std::{sync::Arc, time::Duration};

use proto::gate17::v1::{
    Cause, MeasureEvent, MeasureRequest, MeasuredPath, MeasuredWay, measure_event::Said,
};
use tokio::{sync::mpsc, time::sleep};
use verdict::policy::tunnel::{ExitChoice, Hops, TunnelOptions};

use crate::{
    circuit::{Circuit, Way},
    circuits::Circuits,
    refusal::Refusal,
};

/// Each direction.
const TIME: Duration = Duration::from_secs(5);
/// Nodes give up after 15.
const LONGEST: Duration = Duration::from_secs(10);
/// Round trips while nothing else is on the path.
const IDLE: usize = 7;
const BETWEEN: Duration = Duration::from_millis(20);
/// And while something is.
const BUSY: Duration = Duration::from_millis(100);

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// By one node of this name alone; None: by a path.
    direct: Option<String>,
    hops: Hops,
    exit: ExitChoice,
    time: Duration,
}

impl Measurement {
    /// Of a request, with what its profile says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(request: &MeasureRequest, options: &TunnelOptions) -> Result<Self, String> {
        let is_alone = !request.node.is_empty() && request.hops <= 1;
        let hops = match request.hops {
            0 => options.hops,
            hops => Hops::new(hops).ok_or_else(|| format!("{hops} hops: give 1 to 5"))?,
        };
        let time = match request.time {
            None => TIME,
            Some(time) => Duration::try_from(time).map_err(|_| "the time is none".to_owned())?,
        };
        if time.is_zero() || time > LONGEST {
            return Err(format!(
                "{time:?} for each direction: give more than 0 s, and {} s at most",
                LONGEST.as_secs()
            ));
        }
        Ok(Self {
            direct: is_alone.then(|| request.node.clone()),
            exit: if request.node.is_empty() {
                options.exit.clone()
            } else {
                ExitChoice::Among {
                    regions: Vec::new(),
                    nodes: vec![request.node.clone()],
                }
            },
            hops,
            time,
        })
    }

    /// Tells as it goes; ends when nobody listens any more.
    pub async fn run(&self, circuits: &Circuits, tell: &mpsc::Sender<MeasureEvent>) {
        let told = async {
            let circuit = self.circuit(circuits).await?;
            let measured = self.measure(&circuit, tell).await;
            circuit.close();
            measured
        };
        tokio::select! {
            done = told => if let Err(refusal) = done {
                let _ = tell.send(event(Said::Problem(refusal.text))).await;
            },
            () = tell.closed() => {}
        }
    }

    /// Of its own, and not kept: nobody else's streams are on it.
    async fn circuit(&self, circuits: &Circuits) -> Result<Arc<Circuit>, Refusal> {
        let circuit = match &self.direct {
            Some(node) => circuits.direct(node).await?,
            None => {
                let lone = circuits.lone(self.hops, self.exit.clone()).await;
                lone.map_err(|refusal| self.said_of_the_node(refusal))?
            }
        };
        Ok(Arc::new(circuit))
    }

    /// A path ends at an exit; that a node is none is no matter where it is measured alone.
    fn said_of_the_node(&self, refusal: Refusal) -> Refusal {
        match &self.exit {
            ExitChoice::Among { nodes, .. } if !nodes.is_empty() && refusal.cause == Cause::NoPath => {
                Refusal::new(
                    refusal.cause,
                    format!(
                        "no path of {} nodes ends at {}: paths end at exits; with one hop any node can be measured",
                        self.hops.get(),
                        nodes.join(", ")
                    ),
                )
            }
            _ => refusal,
        }
    }

    async fn measure(
        &self,
        circuit: &Arc<Circuit>,
        tell: &mpsc::Sender<MeasureEvent>,
    ) -> Result<(), Refusal> {
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            idle.extend(circuit.ping().await);
            sleep(BETWEEN).await;
        }
        let path = MeasuredPath {
            hops: circuit.hop_ids(),
            building: circuit.building.try_into().ok(),
            round_trip: median(&mut idle).and_then(|time| time.try_into().ok()),
        };
        let say = async |said| {
            let gone = |_| Refusal::new(Cause::Unspecified, "nobody listens any more");
            tell.send(event(said)).await.map_err(gone)
        };
        say(Said::Path(path)).await?;
        let received = busy(circuit, circuit.pour(self.time)).await?;
        say(Said::Received(received)).await?;
        let sent = busy(circuit, circuit.drench(self.time)).await?;
        say(Said::Sent(sent)).await
    }
}

/// What went, and the round trips meanwhile.
async fn busy(
    circuit: &Circuit,
    work: impl Future<Output = Result<Way, Refusal>>,
) -> Result<MeasuredWay, Refusal> {
    let mut trips = Vec::new();
    let way = {
        let asking = async {
            loop {
                sleep(BUSY).await;
                trips.extend(circuit.ping().await);
            }
        };
        tokio::select! {
            way = work => way?,
            () = asking => return Err(Refusal::new(Cause::Unspecified, "measuring ended by itself")),
        }
    };
    let longest = trips.iter().max().copied();
    Ok(MeasuredWay {
        octets: way.octets,
        time: way.time.try_into().ok(),
        round_trip: median(&mut trips).and_then(|time| time.try_into().ok()),
        longest_round_trip: longest.and_then(|time| time.try_into().ok()),
    })
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

const fn event(said: Said) -> MeasureEvent {
    MeasureEvent { said: Some(said) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(node: &str, hops: u32, seconds: u64) -> Result<Measurement, String> {
        let time = Duration::from_secs(seconds).try_into().ok();
        let request = MeasureRequest {
            node: node.to_owned(),
            hops,
            profile: String::new(),
            time,
        };
        Measurement::new(&request, &TunnelOptions::default())
    }

    #[test]
    fn a_node_alone_is_measured_directly_and_with_hops_as_the_last_one() {
        assert_eq!(of("a", 0, 1).unwrap().direct.as_deref(), Some("a"));
        assert_eq!(of("a", 1, 1).unwrap().direct.as_deref(), Some("a"));
        let path = of("a", 2, 1).unwrap();
        assert!(path.direct.is_none() && path.exit.admits("a", "") && !path.exit.admits("b", ""));
        let any = of("", 0, 10).unwrap();
        assert_eq!((any.hops, &any.exit), (Hops::SHIPPED, &ExitChoice::Any));
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_what_can() {
        assert!(of("", 6, 1).unwrap_err().contains("1 to 5"));
        assert!(of("", 1, 0).unwrap_err().contains("10 s at most"));
        assert!(of("", 1, 11).unwrap_err().contains("10 s at most"));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let of = |millis: &[u64]| {
            let mut times: Vec<_> = millis.iter().copied().map(Duration::from_millis).collect();
            median(&mut times)
        };
        assert_eq!(of(&[9, 1, 5]), Some(Duration::from_millis(5)));
        assert_eq!(of(&[]), None);
    }
}
