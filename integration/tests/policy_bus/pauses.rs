//! Who may pause, and what is told of a pause.

use std::time::SystemTime;

use futures_util::{Stream, StreamExt as _};
use integration::{PATIENCE, binary, eventually};
use zbus::Connection;

use super::Scene;

/// What the bus tells of `PausedUntil`, from now on.
async fn ends(connection: &Connection) -> impl Stream<Item = u64> + Unpin {
    let properties = zbus::fdo::PropertiesProxy::builder(connection)
        .destination("org.portmaster.Policy1")
        .path("/org/portmaster/Policy1")
        .build()
        .await
        .unwrap();
    let changes = properties.receive_properties_changed().await.unwrap();
    Box::pin(changes.filter_map(async |change| {
        let args = change.args().unwrap();
        let value = args.changed_properties().get("PausedUntil")?;
        Some(u64::try_from(value).unwrap())
    }))
}

async fn next(ends: &mut (impl Stream<Item = u64> + Unpin), what: &str) -> u64 {
    let next = tokio::time::timeout(PATIENCE, ends.next()).await;
    assert!(next.is_ok(), "not told: {what}");
    next.unwrap().unwrap()
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[test]
fn root_pauses_without_polkit_and_everybody_is_told() {
    let mut scene = Scene::new("pbus-root", &[]);
    assert_eq!(scene.paused_until(), Some(0));
    let until = scene.on_the_bus(async |policy| {
        let mut ends = ends(policy.inner().connection()).await;
        let before = microseconds(SystemTime::now());
        let until = policy.pause(3600).await.unwrap();
        assert!((before..=before + 3_700_000_000).contains(&(until - 3_600_000_000 + 1)));
        assert_eq!(next(&mut ends, "the pause").await, until);
        // counted anew
        let later = policy.pause(7200).await.unwrap();
        assert!(later > until);
        assert_eq!(next(&mut ends, "the longer pause").await, later);
        later
    });
    assert_eq!(scene.paused_until(), Some(until));
    scene.world.bus().restart();
    eventually("the new bus knows of it", || {
        (scene.paused_until() == Some(until)).then_some(())
    });
    scene.on_the_bus(async |policy| {
        let mut ends = ends(policy.inner().connection()).await;
        assert!(policy.resume().await.unwrap());
        assert_eq!(policy.paused_until().await.unwrap(), 0);
        while next(&mut ends, "the end").await != 0 {}
        assert!(!policy.resume().await.unwrap());
    });
}

#[test]
fn a_pause_that_ends_by_itself_is_told_too() {
    let mut scene = Scene::new("pbus-end", &[]);
    scene.on_the_bus(async |policy| {
        let mut ends = ends(policy.inner().connection()).await;
        let until = policy.pause(2).await.unwrap();
        assert_eq!(next(&mut ends, "the pause").await, until);
        assert_eq!(next(&mut ends, "its end").await, 0);
        assert!(microseconds(SystemTime::now()) >= until);
        assert_eq!(policy.paused_until().await.unwrap(), 0);
    });
}

#[test]
fn a_length_without_sense_is_refused_and_changes_nothing() {
    let mut scene = Scene::new("pbus-len", &[]);
    scene.on_the_bus(async |policy| {
        for seconds in [0, 86_401, u64::MAX] {
            let error = policy.pause(seconds).await.unwrap_err().to_string();
            assert!(
                error.contains("InvalidArgs") && error.contains("24 hours"),
                "{error}"
            );
        }
        assert_eq!(policy.paused_until().await.unwrap(), 0);
    });
}

/// No polkit runs on this bus.
#[test]
fn where_there_is_no_polkit_others_are_refused_with_the_remedy() {
    let scene = Scene::new("pbus-none", &[]);
    for call in [
        &["org.portmaster.Policy1.Pause", "uint64:60"][..],
        &["org.portmaster.Policy1.Resume"],
    ] {
        let said = scene.call(call);
        assert!(
            said.contains("AccessDenied") && said.contains("install polkitd") && said.contains("sudo"),
            "{said}"
        );
    }
    let program = binary("portmaster");
    for words in [&["pause", "1m"][..], &["resume"]] {
        let output = scene.as_nobody(program.to_str().unwrap(), words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("install polkitd") && said.contains("sudo"),
            "{said}"
        );
    }
    assert_eq!(scene.paused_until(), Some(0));
}
