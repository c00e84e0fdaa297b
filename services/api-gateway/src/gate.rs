//! May he? Asked for each call, whatever form it comes in.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use api::v1::{Access, Scope};
use daemon::status::{Counter, Status as OwnStatus};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, header};
use tokio::sync::OnceCell;
use tonic::{Status, body::Body, service::Routes, transport::Channel};
use tower::{Service, ServiceExt as _};
use zbus::{Connection, proxy::CacheProperties};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

use crate::{
    audit::{Audit, Note, Who},
    caller::{Caller, Peer, level_of},
    lasting::Lasting,
    limits::Limits,
    members::Members,
    methods::Methods,
    page::session::Sessions,
    tokens::Tokens,
};

/// In which a browser keeps a token for us.
pub const COOKIE: &str = "portmaster";
const DECIDE: &str = "org.portmaster.api.decide";
const ADMIN: &str = "org.portmaster.api.admin";
/// A password may be typed for so long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Before every method.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    methods: Methods,
    tokens: Arc<Tokens>,
    sessions: Sessions,
    limits: Limits,
    resolver: Channel,
    bus: OnceCell<Connection>,
    refused: Counter,
    calls: Counter,
    audit: Audit,
    members: Members,
}

impl Gate {
    /// With what it asks.
    pub fn new(
        methods: Methods,
        tokens: Arc<Tokens>,
        sessions: Sessions,
        limits: Limits,
        resolver: Channel,
        status: &OwnStatus,
        audit: Audit,
    ) -> Self {
        Self(Arc::new(Inner {
            methods,
            tokens,
            sessions,
            limits,
            resolver,
            bus: OnceCell::new(),
            refused: status.counter("calls_refused"),
            calls: status.counter("calls"),
            audit,
            members: Members::default(),
        }))
    }

    /// Who knows processes.
    pub fn resolver(&self) -> &Channel {
        &self.0.resolver
    }

    /// More than the method asks of everybody: for `what`, as it is called in a refusal.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, with what is missing.
    pub async fn require(&self, asked: Access, caller: &Caller, what: &str) -> Result<(), Status> {
        if caller.level >= asked {
            return Ok(());
        }
        self.ask_polkit(asked, caller, what).await
    }

    /// What a change came to.
    async fn record(&self, caller: Caller, path: &str, note: &Note, refused: Option<&str>) {
        let process = caller.peer.process(&self.0.resolver).await;
        let program = process.and_then(|process| process.executable.as_ref());
        let who = Who {
            uid: caller.peer.uid,
            pid: process.map(|process| process.pid),
            executable: program.map(|file| file.path.clone()).unwrap_or_default(),
            token: caller.token.map(|(name, _)| name).unwrap_or_default(),
        };
        self.0.audit.record(who, path, note, refused).await;
    }

    /// What can be called.
    pub fn methods(&self) -> &Methods {
        &self.0.methods
    }

    /// How browsers keep tokens.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Who calls, and whether he may call this; an error in words for him where he may not.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, `UNAUTHENTICATED`, `PERMISSION_DENIED`, `UNIMPLEMENTED`, with what is missing.
    pub async fn pass(&self, path: &str, headers: &HeaderMap, peer: &Arc<Peer>) -> Result<Caller, Status> {
        self.0.calls.add(1);
        let passed = self.look(path, headers, peer).await;
        if passed.is_err() {
            self.0.refused.add(1);
        }
        passed
    }

    async fn look(&self, path: &str, headers: &HeaderMap, peer: &Arc<Peer>) -> Result<Caller, Status> {
        let asked = self.0.methods.access(path);
        let asked = asked.ok_or_else(|| Status::unimplemented(format!("there is no method {path}")))?;
        if !self.0.limits.call(peer.uid, Instant::now()) {
            return Err(Status::resource_exhausted(
                "too many calls of this user in a second: call less often, or watch a stream",
            ));
        }
        let caller = self.caller(headers, peer)?;
        if caller.level < asked {
            self.ask_polkit(asked, &caller, path).await?;
        }
        if asked >= Access::Decide {
            self.note(&caller, path).await;
        }
        Ok(caller)
    }

    /// By his socket, and the token that he shows.
    pub fn caller(&self, headers: &HeaderMap, peer: &Arc<Peer>) -> Result<Caller, Status> {
        let token = match shown(headers)? {
            Some(shown) => Some(self.token(&self.secret(shown, peer)?, peer)?),
            None => None,
        };
        let by_token = token
            .as_ref()
            .map_or(Access::Anybody, |(_, scope)| level_of(*scope));
        Ok(Caller {
            peer: Arc::clone(peer),
            token,
            level: by_token.max(self.0.members.level(peer.uid)),
        })
    }

    /// Whether he still may what he was let do with these headers. Costs nobody a wrong token: it was a right one.
    fn still(&self, asked: Access, headers: &HeaderMap, peer: &Peer) -> Result<(), Status> {
        let token = match shown(headers)? {
            Some(shown) => {
                let found = self.0.tokens.find(&self.secret(shown, peer)?, SystemTime::now());
                let found = found.ok_or_else(|| {
                    Status::unauthenticated(
                        "this token was revoked, or has expired: `portmaster token create` makes another",
                    )
                })?;
                level_of(found.1)
            }
            None => Access::Anybody,
        };
        if token.max(self.0.members.level(peer.uid)) >= asked {
            return Ok(());
        }
        Err(Status::permission_denied(
            "you may read no more: you have left group portmaster",
        ))
    }

    fn secret(&self, shown: &str, peer: &Peer) -> Result<String, Status> {
        self.0.sessions.open(shown, peer.uid).ok_or_else(|| {
            Status::unauthenticated(
                "this browser's session is another user's, or of another key: log in anew",
            )
        })
    }

    fn token(&self, secret: &str, peer: &Peer) -> Result<(String, Scope), Status> {
        let now = Instant::now();
        if !self.0.limits.may_show_token(peer.uid, now) {
            return Err(Status::resource_exhausted(
                "too many wrong tokens from this user: wait 10 seconds",
            ));
        }
        let found = self.0.tokens.find(secret, SystemTime::now());
        if found.is_some() && self.0.tokens.is_due(SystemTime::now()) {
            let tokens = Arc::clone(&self.0.tokens);
            // nobody waits for the disk
            drop(tokio::task::spawn_blocking(move || tokens.write_uses()));
        }
        found.ok_or_else(|| {
            if self.0.limits.wrong_token(peer.uid, now) {
                tracing::warn!(
                    uid = peer.uid,
                    "wrong tokens, again and again: none is looked at for a while"
                );
            }
            Status::unauthenticated(
                "this token is unknown, expired or revoked: `portmaster token create` makes another",
            )
        })
    }

    /// Who may not by himself may still be let by whoever administers the host.
    async fn ask_polkit(&self, asked: Access, caller: &Caller, path: &str) -> Result<(), Status> {
        let action = match asked {
            Access::Decide => DECIDE,
            Access::Admin => ADMIN,
            _ => return Err(missing(asked, caller, path)),
        };
        // who shows a token wants to be judged by it; and nobody is asked about a stranger
        let (None, Some(uid)) = (&caller.token, caller.peer.uid) else {
            return Err(missing(asked, caller, path));
        };
        let Some(process) = caller.peer.process(&self.0.resolver).await else {
            return Err(missing(asked, caller, path));
        };
        let ask = async {
            let bus = self
                .0
                .bus
                .get_or_try_init(|| async { zbus::connection::Builder::system().build().await });
            let authority = AuthorityProxy::builder(bus.await?)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            let subject = Subject::new_for_pid(process.pid, Some(process.start_time), Some(uid))
                .map_err(|error| zbus::Error::Failure(error.to_string()))?;
            let flags = CheckAuthorizationFlags::ALLOW_USER_INTERACTION;
            authority
                .check_authorization(&subject, action, &HashMap::new(), flags, "")
                .await
                .map_err(|error| zbus::Error::Failure(error.to_string()))
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Ok(answer)) if answer.is_authorized => Ok(()),
            Ok(Ok(_)) => Err(missing(asked, caller, path)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "polkit cannot be asked");
                Err(missing(asked, caller, path))
            }
            Err(_) => Err(Status::deadline_exceeded(
                "polkit did not answer in 5 minutes: ask again",
            )),
        }
    }

    /// Who changed what: for the journal.
    async fn note(&self, caller: &Caller, path: &str) {
        let process = caller.peer.process(&self.0.resolver).await;
        let program = process.and_then(|process| process.executable.as_ref());
        let program = program.map_or("an unknown program", |file| file.path.as_str());
        let user = caller
            .peer
            .uid
            .map_or_else(|| "?".to_owned(), |uid| uid.to_string());
        let token = caller.token.as_ref().map(|(name, _)| name.as_str());
        // the line says it all: who reads a journal sees no fields
        tracing::info!(
            target: "audit",
            pid = process.map(|process| process.pid),
            "{path} called by user {user}, {program}{}{}",
            if token.is_some() { ", token " } else { "" },
            token.unwrap_or_default(),
        );
    }
}

/// What is missing, in words.
fn missing(asked: Access, caller: &Caller, path: &str) -> Status {
    let needs = match asked {
        Access::Anybody | Access::Unspecified => "nothing",
        Access::Read => "membership of group portmaster, or a token of scope `read`",
        Access::Decide => "root, polkit's consent (org.portmaster.api.decide), or a token of scope `decide`",
        Access::Admin => "root, polkit's consent (org.portmaster.api.admin), or a token of scope `admin`",
    };
    let who = match (&caller.token, caller.peer.uid) {
        (Some((name, _)), _) => format!("token {name:?} is not enough"),
        (None, Some(uid)) => format!("user {uid} has neither"),
        (None, None) => "your socket's owner is not known (it is closed already)".to_owned(),
    };
    let text = format!("{path} needs {needs}; {who}");
    match caller.token {
        None if caller.level == Access::Anybody => Status::unauthenticated(text),
        _ => Status::permission_denied(text),
    }
}

/// `Authorization: Bearer …`, else the cookie.
fn shown(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().ok();
        let secret = text
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return match secret {
            Some((_, secret)) => Ok(Some(secret.trim())),
            None => Err(Status::unauthenticated("`Authorization:` must be `Bearer TOKEN`")),
        };
    }
    let cookies = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    Ok(pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value))
}

/// Of a request, the headers by which its sender shows that he may.
pub fn credentials(headers: &HeaderMap) -> HeaderMap {
    let mut shown = HeaderMap::new();
    for name in [header::AUTHORIZATION, header::COOKIE] {
        for value in headers.get_all(&name) {
            shown.append(name.clone(), value.clone());
        }
    }
    shown
}

/// The methods behind the gate.
#[derive(Clone)]
pub struct Guarded {
    /// Who looks.
    pub gate: Gate,
    /// What is called.
    pub routes: Routes,
}

impl Service<Request<Body>> for Guarded {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Self { gate, routes } = self.clone();
        Box::pin(async move {
            let Some(peer) = request.extensions().get::<Arc<Peer>>().cloned() else {
                return Ok(Status::internal("the connection has no peer").into_http());
            };
            let path = request.uri().path().to_owned();
            match gate.pass(&path, request.headers(), &peer).await {
                Ok(caller) => {
                    let asked = gate.methods().access(&path);
                    let changes = asked >= Some(Access::Decide);
                    let lasts = gate.methods().get(&path).is_some_and(|method| method.is_stream);
                    let shown = lasts.then(|| credentials(request.headers()));
                    let note = changes.then(Arc::<Note>::default);
                    request.extensions_mut().insert(caller.clone());
                    if let Some(note) = &note {
                        request.extensions_mut().insert(Arc::clone(note));
                    }
                    // the routes cannot fail
                    let response = routes
                        .oneshot(request)
                        .await
                        .unwrap_or_else(|never| match never {});
                    if let Some(note) = note {
                        let status = Status::from_header_map(response.headers());
                        let refused = status.filter(|status| status.code() != tonic::Code::Ok);
                        let refused = refused.as_ref().map(Status::message);
                        gate.record(caller, &path, &note, refused).await;
                    }
                    Ok(match (shown, asked) {
                        (Some(shown), Some(asked)) => response.map(|body| {
                            let look = move || gate.still(asked, &shown, &peer);
                            Body::new(Lasting::new(body, look))
                        }),
                        _ => response,
                    })
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_token_is_read_from_header_or_cookie() {
        let bearer = headers(header::AUTHORIZATION, "bearer pm_x");
        assert_eq!(shown(&bearer).unwrap(), Some("pm_x"));
        assert!(shown(&headers(header::AUTHORIZATION, "Basic eDp5")).is_err());
        let cookie = headers(header::COOKIE, "a=b; portmaster=pm_y; c=d");
        assert_eq!(shown(&cookie).unwrap(), Some("pm_y"));
        assert_eq!(shown(&HeaderMap::new()).unwrap(), None);
    }
}
