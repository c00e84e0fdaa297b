use verdict::policy::{file, model::Profile};

use super::*;

/// A keeper of an empty folder.
fn keeper(root: &std::path::Path) -> (Keeper, Board) {
    let about = daemon::About {
        name: "policy",
        version: "1",
    };
    let kept = Kept::new(&root.join("state"));
    Keeper::new(
        root.join("profiles.d"),
        Config::default(),
        kept,
        Status::new(about),
    )
    .unwrap()
}

fn hour(now: Clocks) -> Pause {
    Pause::new(now, Duration::from_secs(3600)).unwrap()
}

#[tokio::test]
async fn a_pause_is_in_force_once_it_is_told_and_ends_by_word_and_by_time() {
    let root = tempfile::tempdir().unwrap();
    let (mut keeper, board) = keeper(root.path());
    keeper.scan(Changed::All).await.unwrap();
    let now = daemon::clock::now();
    assert!(!keeper.pause(Some(hour(now)), now).unwrap());
    assert_eq!(board.paused(), Some(hour(now)));
    keeper.scan(Changed::All).await.unwrap();
    assert_eq!(board.paused(), Some(hour(now)));
    assert!(keeper.pause(None, now).unwrap());
    assert_eq!(board.paused(), None);

    let over = Pause {
        from: now.wall - Duration::from_secs(2),
        until: now.wall,
        began: None,
    };
    keeper.pause(Some(over), now).unwrap();
    let version = board.in_force.borrow().wire.version;
    keeper.scan(Changed::All).await.unwrap();
    assert!(
        board.in_force.borrow().wire.pause.is_none(),
        "its end is put in force"
    );
    assert!(board.in_force.borrow().wire.version > version);
}

#[tokio::test]
async fn a_pause_that_is_counted_outlives_the_keeper_and_every_setting_of_the_clock() {
    let root = tempfile::tempdir().unwrap();
    let now = daemon::clock::now();
    // asked for by a clock that has since been set back by ten hours, or ahead by as many
    for wall in [
        now.wall + Duration::from_secs(36_000),
        now.wall - Duration::from_secs(36_000),
    ] {
        let (mut before, _board) = keeper(root.path());
        let clocks = Clocks { wall, ..now };
        before.pause(Some(hour(clocks)), clocks).unwrap();
        before.scan(Changed::All).await.unwrap();

        let (mut keeper, board) = keeper(root.path());
        keeper.scan(Changed::All).await.unwrap();
        let until = board.paused().unwrap().until;
        let told = until.duration_since(now.wall).unwrap();
        assert!(
            told > Duration::from_secs(3590) && told < Duration::from_secs(3660),
            "told by the clock of today: {told:?}"
        );
    }
    // and over is over, although the clock says that it has not begun
    let (mut keeper, board) = keeper(root.path());
    let mut over = hour(Clocks {
        wall: now.wall + Duration::from_secs(30),
        ..now
    });
    over.until = over.from + Duration::from_secs(1);
    if let Some(began) = &mut over.began {
        began.elapsed = began.elapsed.saturating_sub(Duration::from_secs(1));
    }
    keeper.pause(Some(over), now).unwrap();
    keeper.scan(Changed::All).await.unwrap();
    assert_eq!((board.paused(), keeper.current.pause), (None, None));
}

#[tokio::test]
async fn a_pause_that_cannot_be_put_in_force_is_none_and_its_end_neither() {
    let root = tempfile::tempdir().unwrap();
    let (mut keeper, board) = keeper(root.path());
    let now = daemon::clock::now();
    let good = std::mem::replace(&mut keeper.current.profiles, twice());
    let version = keeper.current.version;
    assert!(keeper.pause(Some(hour(now)), now).is_err());
    assert_eq!((board.paused(), keeper.current.pause), (None, None));
    assert_eq!(board.in_force.borrow().wire.version, version);
    assert_eq!(problems(&keeper), [REFUSED]);

    keeper.current.profiles = good;
    keeper.pause(Some(hour(now)), now).unwrap();
    assert!(problems(&keeper).is_empty());
    keeper.current.profiles = twice();
    assert!(keeper.pause(None, now).is_err());
    assert_eq!(keeper.current.pause, board.paused());
    assert!(board.paused().is_some(), "it goes on, and is told so");
}

/// No snapshot has two of one name.
fn twice() -> Vec<Profile> {
    let profile = file::parse_profile("twice", "twice.toml", "[[match]]\nuser = 0\n", &|_| None);
    vec![profile.unwrap(); 2]
}

fn problems(keeper: &Keeper) -> Vec<String> {
    let problems = keeper.status.snapshot().problems;
    problems.into_iter().map(|problem| problem.code).collect()
}
