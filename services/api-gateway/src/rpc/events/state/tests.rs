use proto::common::v1::{Health, ServiceState};

use super::*;

fn found(health: Health, policy_version: u64) -> Found {
    let state = |name: &str| ServiceState {
        service: name.to_owned(),
        health: health.into(),
        policy_version,
        counters: [("calls".to_owned(), rand::random())].into(),
        ..ServiceState::default()
    };
    let service = |name: &str| WireService {
        name: name.to_owned(),
        state: Some(state(name)),
        problem: String::new(),
    };
    Found {
        services: vec![service("policy")],
        pause: Some(PauseState::default()),
    }
}

fn audit() -> (tempfile::TempDir, Audit) {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::load(folder.path());
    (folder, audit)
}

fn told(state: &State, place: Place) -> (Vec<What>, u64) {
    let said = state.after(place).unwrap();
    let what = said.events.into_iter().map(|event| event.what.unwrap());
    (what.collect(), said.dropped)
}

#[test]
fn what_is_otherwise_is_told_once_and_figures_are_no_news() {
    let (mut state, (_folder, audit)) = (State::default(), audit());
    state.take(found(Health::Ok, 1), &audit);
    let place = state.place();
    assert_eq!(state.all().len(), 3, "a service, the policy, the pause");
    state.take(found(Health::Ok, 1), &audit);
    assert_eq!(told(&state, place), (vec![], 0));
    state.take(found(Health::Degraded, 2), &audit);
    let (what, dropped) = told(&state, place);
    assert!(
        matches!(what.as_slice(), [What::Policy(policy), What::Service(_)] if policy.version == 2),
        "{what:?}"
    );
    assert_eq!(dropped, 0);
    let gone = Found {
        services: vec![WireService {
            name: "policy".into(),
            ..WireService::default()
        }],
        pause: None,
    };
    let place = state.place();
    state.take(gone, &audit);
    assert!(matches!(told(&state, place).0.as_slice(), [What::Service(service)] if service.state.is_none()));
}

#[tokio::test]
async fn changes_are_told_and_what_was_forgotten_is_counted() {
    let (mut state, (_folder, audit)) = (State::default(), audit());
    let record = async || {
        let (who, note) = (crate::audit::Who::default(), crate::audit::Note::default());
        audit.record(who, "/x.Y/Z", &note, None).await;
    };
    record().await;
    state.take(found(Health::Ok, 1), &audit);
    let place = state.place();
    record().await;
    state.take(found(Health::Ok, 1), &audit);
    assert!(matches!(told(&state, place).0.as_slice(), [What::Change(entry)] if entry.id == 2));
    for version in 2..u64::try_from(KEPT).unwrap() {
        state.take(found(Health::Ok, version), &audit);
    }
    // a policy, and its service, each time
    let lost = 2 * (u64::try_from(KEPT).unwrap() - 2) + 1 - u64::try_from(KEPT).unwrap();
    let (what, dropped) = told(&state, place);
    assert_eq!((what.len(), dropped), (KEPT, lost));
    let other = Place {
        numbering: place.numbering ^ 1,
        ..place
    };
    assert!(state.after(other).is_none());
}
