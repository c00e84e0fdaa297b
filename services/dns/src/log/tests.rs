//! Followers, by what is written.

use std::time::SystemTime;

use super::*;

fn query(name: &str) -> Query {
    Query {
        time: SystemTime::UNIX_EPOCH,
        matter: Arc::new(Matter::of_nobody(name)),
        kind: 1,
        code: 0,
        origin: Origin::Cache,
        upstream: None,
        took: Duration::ZERO,
        tcp: false,
    }
}

#[tokio::test]
async fn who_reads_too_slowly_is_told_what_he_lost() {
    let log = Log::default();
    let mut follower = log.follow(Start::Now);
    for number in 0..MOST + 5 {
        log.write([query(&format!("n{number}.test"))]);
    }
    let (first, queries, dropped) = follower.next(BATCH).await;
    assert_eq!((first, queries.len(), dropped), (5, BATCH, 5));
    assert_eq!(queries[0].matter.name.to_string(), "n5.test");
    let (first, _, dropped) = follower.next(BATCH).await;
    assert_eq!((first, dropped), (5 + u64::try_from(BATCH).unwrap(), 0));
}

#[tokio::test]
async fn a_follower_waits_for_what_comes() {
    let log = Log::default();
    log.write([query("before.test")]);
    let mut follower = log.follow(Start::Now);
    let (read, ()) = tokio::join!(follower.next(BATCH), async { log.write([query("after.test")]) });
    assert_eq!((read.0, read.1.len(), read.2), (1, 1, 0));
    let (first, recent, _) = log.follow(Start::Recent).next(BATCH).await;
    assert_eq!((first, recent.len()), (0, 2));
}

#[tokio::test]
async fn who_comes_back_goes_on_where_he_was() {
    let log = Log::default();
    log.write([query("seen.test")]);
    let mut follower = log.follow(Start::Recent);
    follower.next(BATCH).await;
    let place = follower.place();
    log.write([query("missed.test")]);
    let (first, queries, dropped) = log.follow(Start::Behind(place)).next(BATCH).await;
    assert_eq!((first, queries.len(), dropped), (1, 1, 0));
    assert_eq!(queries[0].matter.name.to_string(), "missed.test");
    // of a service that was started anew meanwhile
    let other = Place {
        numbering: place.numbering ^ 1,
        ..place
    };
    let mut follower = log.follow(Start::Behind(other));
    let (first, queries, dropped) = follower.next(BATCH).await;
    assert_eq!((first, queries.len(), dropped), (0, 2, 1));
    log.write([query("later.test")]);
    assert_eq!(follower.next(BATCH).await.2, 0, "it is said once");
}
