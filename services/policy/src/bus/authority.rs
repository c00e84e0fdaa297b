//! Who may pause: root, and whom polkit lets. Asked is about who called, never about this service.
//!
//! Invariant: nobody passes by an error. Whoever cannot be named by the bus, and whoever polkit cannot be asked about, is
//! refused.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use zbus::{
    Connection, fdo,
    message::{Flags, Header},
    names::BusName,
    proxy::CacheProperties,
};
use zbus_polkit::policykit1::{AuthorityProxy, AuthorizationResult, CheckAuthorizationFlags, Subject};

/// In `dbus/org.portmaster.policy`.
const ACTION: &str = "org.portmaster.policy.pause";
/// A password may be typed for so long.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
const AS_ROOT: &str = "or do it as root: sudo portmaster";

/// Asks the bus who calls, and polkit whether he may.
#[derive(Debug, Default)]
pub(super) struct Authority {
    /// Users about whom polkit is being asked: each at most once, so that nobody uses up what the bus lets us ask.
    asked: Arc<Mutex<HashSet<u32>>>,
}

impl Authority {
    /// An error, in words for the caller, where he may not.
    pub(super) async fn require(&self, connection: &Connection, header: &Header<'_>) -> fdo::Result<()> {
        let uid = caller(connection, header).await?;
        if uid == 0 {
            return Ok(());
        }
        let _turn = Turn::take(&self.asked, uid)?;
        let flags = header.primary().flags();
        let interactive = flags.contains(Flags::ALLOW_INTERACTIVE_AUTH);
        match tokio::time::timeout(PATIENCE, ask(connection, header, interactive)).await {
            Ok(answer) => judge(&answer?, interactive),
            Err(_) => {
                cancel(connection, header).await;
                let text = format!(
                    "polkit did not answer within {} s: ask again, {AS_ROOT}",
                    PATIENCE.as_secs()
                );
                Err(fdo::Error::TimedOut(text))
            }
        }
    }
}

/// His user, by the bus's own word.
async fn caller(connection: &Connection, header: &Header<'_>) -> fdo::Result<u32> {
    let unknown = || fdo::Error::AccessDenied("the bus does not say who calls".to_owned());
    let sender = header.sender().ok_or_else(unknown)?;
    let bus = fdo::DBusProxy::new(connection).await?;
    let credentials = bus
        .get_connection_credentials(BusName::from(sender.clone()))
        .await?;
    credentials.unix_user_id().ok_or_else(unknown)
}

/// A question of this user's is open. Ends when dropped.
struct Turn<'a> {
    asked: &'a Mutex<HashSet<u32>>,
    uid: u32,
}

impl<'a> Turn<'a> {
    fn take(asked: &'a Mutex<HashSet<u32>>, uid: u32) -> fdo::Result<Self> {
        if !lock(asked).insert(uid) {
            let text = "polkit is still being asked about another call of yours: answer that first";
            return Err(fdo::Error::LimitsExceeded(text.to_owned()));
        }
        Ok(Self { asked, uid })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(self.asked).remove(&self.uid);
    }
}

fn lock(asked: &Mutex<HashSet<u32>>) -> MutexGuard<'_, HashSet<u32>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn polkit(connection: &Connection) -> zbus::Result<AuthorityProxy<'_>> {
    AuthorityProxy::builder(connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
}

async fn ask(
    connection: &Connection,
    header: &Header<'_>,
    interactive: bool,
) -> fdo::Result<AuthorizationResult> {
    let subject = Subject::new_for_message_header(header).map_err(|error| refused(&error))?;
    let flags = match interactive {
        true => CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
        false => CheckAuthorizationFlags::empty(),
    };
    let (details, name) = (HashMap::new(), question_name(header));
    let polkit = polkit(connection).await.map_err(|error| refused(&error))?;
    let answer = polkit.check_authorization(&subject, ACTION, &details, flags, &name);
    answer.await.map_err(|error| refused(&error))
}

async fn cancel(connection: &Connection, header: &Header<'_>) {
    if let Ok(polkit) = polkit(connection).await {
        // it may have ended by itself
        let _ = polkit.cancel_check_authorization(&question_name(header)).await;
    }
}

/// A caller numbers his calls.
fn question_name(header: &Header<'_>) -> String {
    let sender = header.sender().map_or("", |sender| sender.as_str());
    format!("{sender}/{}", header.primary().serial_num())
}

fn refused(error: &dyn std::fmt::Display) -> fdo::Error {
    fdo::Error::AccessDenied(format!(
        "polkit, which decides who may pause the firewall, cannot be asked: {error}; install polkitd and start it, {AS_ROOT}"
    ))
}

fn judge(answer: &AuthorizationResult, interactive: bool) -> fdo::Result<()> {
    let dismissed = answer.details.contains_key("polkit.dismissed");
    let denied = |text: &str| fdo::Error::AccessDenied(format!("{text}, {AS_ROOT}"));
    match (answer.is_authorized, answer.is_challenge) {
        (true, _) => Ok(()),
        _ if dismissed => Err(denied("nobody authenticated: ask again")),
        (false, true) if !interactive => {
            let text = "polkit wants authentication: call again and allow it to ask";
            Err(fdo::Error::InteractiveAuthorizationRequired(text.to_owned()))
        }
        (false, true) => Err(denied(
            "polkit wants authentication, and no agent asks for it in this session: start one (pkttyagent)",
        )),
        (false, false) => Err(denied(
            "polkit does not let you pause the firewall: authentication failed, or who administers this host forbids it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(is_authorized: bool, is_challenge: bool, details: &[&str]) -> AuthorizationResult {
        let details = details.iter().map(|key| ((*key).to_owned(), "1".to_owned()));
        AuthorizationResult {
            is_authorized,
            is_challenge,
            details: details.collect(),
        }
    }

    #[test]
    fn only_who_is_authorised_passes_and_the_others_learn_what_to_do() {
        assert!(judge(&answer(true, false, &[]), true).is_ok());
        let text = |answer, interactive| judge(&answer, interactive).unwrap_err().to_string();
        assert!(text(answer(false, false, &[]), true).contains("does not let you"));
        assert!(text(answer(false, true, &[]), true).contains("pkttyagent"));
        assert!(text(answer(false, true, &[]), false).contains("allow it to ask"));
        assert!(text(answer(false, true, &["polkit.dismissed"]), true).contains("nobody authenticated"));
    }

    #[test]
    fn a_user_has_one_question_at_a_time() {
        let asked = Mutex::default();
        let turn = Turn::take(&asked, 7).ok();
        assert!(turn.is_some() && Turn::take(&asked, 7).is_err());
        assert!(Turn::take(&asked, 8).is_ok());
        drop(turn);
        assert!(Turn::take(&asked, 7).is_ok());
    }
}
