//! The desktop's interface `org.portmaster.Policy1`: translates, no more.

mod authority;
mod question;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use daemon::bus::Desktop;
use proto::flow::v1;
use zbus::{Connection, OwnedVariant, Variant, fdo, interface, message::Header};

use crate::{explain::explain, in_force::Board, pause};
use authority::Authority;
use question::{End, Question, Subject};

/// A bus that takes no message for so long is left, and joined anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// At its object path, as long as there is a bus.
pub(crate) async fn serve(desktop: &Desktop, board: &Board) {
    let path = desktop.path();
    let register = async |connection: &Connection| {
        let interface = Interface {
            board: board.clone(),
            authority: Authority::default(),
        };
        connection.object_server().at(path, interface).await.map(drop)
    };
    let work = async |connection: &Connection| tell_pauses(connection, path, board).await;
    desktop.serve(register, work).await;
}

/// Whenever a pause begins, changes or ends; once at the beginning, since what came before the bus was there went unsaid.
async fn tell_pauses(connection: &Connection, path: &str, board: &Board) -> zbus::Result<()> {
    let interface = connection.object_server().interface::<_, Interface>(path).await?;
    let mut in_force = board.in_force.clone();
    let mut told = None;
    loop {
        in_force.mark_unchanged();
        let until = paused_until(board);
        if told != Some(until) {
            let tell = async {
                let emitter = interface.signal_emitter();
                interface.get().await.paused_until_changed(emitter).await
            };
            let stuck = || zbus::Error::Failure("the bus takes no messages".into());
            tokio::time::timeout(PATIENCE, tell)
                .await
                .map_err(|_| stuck())??;
            told = Some(until);
        }
        if in_force.changed().await.is_err() {
            // nobody keeps the policy any more: the service ends
            return std::future::pending().await;
        }
    }
}

#[derive(Debug)]
struct Interface {
    board: Board,
    authority: Authority,
}

#[interface(name = "org.portmaster.Policy1")]
impl Interface {
    /// Files that are not in force as they stand: path, and what is wrong with line and remedy.
    async fn list_refused(&self) -> Vec<(String, String)> {
        self.board
            .refused_files()
            .into_iter()
            .map(|file| (file.path, file.error))
            .collect()
    }

    /// What would happen to a connection, and by which rule. `uid` 4294967295 with no program: a process that could not be
    /// found. `direction`, `protocol`, ends and numbers as in `ConnectionsChanged`. `local` may have no address; `remote` may
    /// have none where there is a `domain` (`extra` then has `assumed_address`). `more`: `script`, `unit`, `cgroup`,
    /// `flatpak`, `snap`, `container` (s), `sha256` (ay).
    #[expect(
        clippy::too_many_arguments,
        reason = "the macro makes the method on the bus from these"
    )]
    #[zbus(out_args(
        "verdict",
        "why",
        "why_text",
        "rule",
        "profile",
        "permanent",
        "policy_version",
        "steps",
        "extra"
    ))]
    async fn explain(
        &self,
        executable: String,
        uid: u32,
        direction: u32,
        protocol: u32,
        local: End,
        remote: End,
        domain: String,
        more: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<(
        u32,
        u32,
        String,
        String,
        String,
        bool,
        u64,
        Vec<String>,
        HashMap<String, OwnedVariant>,
    )> {
        let subject = Subject {
            executable,
            uid,
            more,
        };
        let asked = Question::new(subject, direction, protocol, local, remote, &domain)
            .map_err(|error| fdo::Error::InvalidArgs(error.to_string()))?;
        let in_force = Arc::clone(&self.board.in_force.borrow());
        let explanation = explain(&in_force, asked.process.as_ref(), asked.flow, &domain);
        let decision = explanation.decision;
        Ok((
            number(v1::Verdict::from(decision.verdict)),
            number(v1::Why::from(decision.why)),
            decision.why.text().to_owned(),
            decision.source.to_string(),
            decision.profile.to_string(),
            decision.permanent,
            in_force.compiled.version(),
            explanation.steps,
            extra(asked.assumed)?,
        ))
    }

    /// Lets pass what would be refused, from now on for 1 to 86400 seconds; gives its end, as in `PausedUntil`. For root and
    /// whom polkit lets (action `org.portmaster.policy.pause`).
    #[zbus(out_args("until"))]
    async fn pause(
        &self,
        seconds: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<u64> {
        self.authority.require(connection, &header).await?;
        let paused = self.board.pause.pause(seconds).await;
        Ok(microseconds(paused.map_err(|error| refusal(&error))?.until))
    }

    /// Ends a pause, for whom `Pause` is for; false: there was none.
    #[zbus(out_args("was_paused"))]
    async fn resume(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> fdo::Result<bool> {
        self.authority.require(connection, &header).await?;
        self.board.pause.resume().await.map_err(|error| refusal(&error))
    }

    /// The end of the pause in force, in microseconds since 1970; 0: not paused.
    #[zbus(property)]
    async fn paused_until(&self) -> u64 {
        paused_until(&self.board)
    }
}

fn paused_until(board: &Board) -> u64 {
    board.paused().map_or(0, |pause| microseconds(pause.until))
}

fn refusal(error: &pause::Error) -> fdo::Error {
    let text = error.to_string();
    match error {
        pause::Error::Length(_) => fdo::Error::InvalidArgs(text),
        pause::Error::Stopping | pause::Error::Refused(_) => fdo::Error::Failed(text),
    }
}

fn extra(assumed: Option<IpAddr>) -> zbus::Result<HashMap<String, OwnedVariant>> {
    let Some(address) = assumed else {
        return Ok(HashMap::new());
    };
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let value = Variant::from(octets).try_into_owned()?;
    Ok(HashMap::from([("assumed_address".to_owned(), value)]))
}

fn number(word: impl Into<i32>) -> u32 {
    u32::try_from(word.into()).unwrap_or(0)
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
