use super::*;
use crate::filter::Lists as _;

struct Desk {
    folder: tempfile::TempDir,
    keeper: Keeper,
}

fn desk() -> Desk {
    desk_with("")
}

fn desk_with(more: &str) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let source: Source = toml::from_str(&format!(
        "name = 'ads'\ncategories = ['ads']\nfile = 'ads.txt'\n{more}"
    ))
    .unwrap();
    let about = crate::ABOUT;
    let paths = Paths {
        config: folder.path().to_owned(),
        runtime: folder.path().join("run"),
        state: folder.path().join("state"),
    };
    let keeper = Keeper::new(&[source], &paths, Status::new(about));
    Desk { folder, keeper }
}

fn has(lists: &Lists, name: &str) -> bool {
    let mut any = false;
    lists.find(&name.parse().unwrap(), &mut |_, category| {
        any |= category == "ads";
    });
    any
}

#[test]
fn what_a_list_said_last_stays_in_force_when_its_file_is_broken() {
    let mut desk = desk();
    let file = desk.folder.path().join("ads.txt");
    let health = |desk: &Desk| desk.keeper.status.snapshot().problems.len();
    assert!(!has(&desk.keeper.load(), "a.test"));
    assert_eq!(health(&desk), 1, "there is no file");
    fs::write(&file, "||a.test^\n").unwrap();
    assert!(!desk.keeper.has_changed(), "it may be half of it");
    assert!(desk.keeper.has_changed());
    assert!(has(&desk.keeper.load(), "www.a.test"));
    assert_eq!(health(&desk), 0);
    for broken in ["", "<html>504 Gateway Time-out</html>\n"] {
        fs::write(&file, broken).unwrap();
        let lists = desk.keeper.load();
        assert!(has(&lists, "www.a.test"), "{broken:?}");
        assert_eq!(health(&desk), 1);
    }
    fs::write(&file, "b.test\n").unwrap();
    let lists = desk.keeper.load();
    assert!(has(&lists, "b.test") && !has(&lists, "a.test"));
    assert!(!desk.keeper.has_changed());
}

#[test]
fn a_file_that_grows_is_read_when_it_rests() {
    let mut desk = desk();
    let file = desk.folder.path().join("ads.txt");
    fs::write(&file, "a.test\n").unwrap();
    desk.keeper.load();
    let mut text = String::new();
    for number in 0..5 {
        text.push_str(&format!("{number}.test\n"));
        fs::write(&file, &text).unwrap();
        assert!(!desk.keeper.has_changed());
    }
    assert!(desk.keeper.has_changed());
    // back as it was: nothing to read
    desk.keeper.load();
    assert!(!desk.keeper.has_changed() && !desk.keeper.has_changed());
}

#[test]
fn a_file_that_is_gigantic_or_no_file_takes_nothing_away() {
    let mut desk = desk_with("max_size = 1");
    let file = desk.folder.path().join("ads.txt");
    fs::write(&file, "a.test\n").unwrap();
    assert!(has(&desk.keeper.load(), "a.test"));
    for (said, act) in [
        ("`max_size`", "truncate -s 1048577"),
        ("`max_size`", "truncate -s 5T"),
        ("no file", "rm -f \"$0\"; mkfifo"),
    ] {
        let done = std::process::Command::new("sh")
            .args(["-c", &format!("{act} \"$0\"")])
            .arg(&file)
            .status();
        assert!(done.unwrap().success());
        let lists = desk.keeper.load();
        assert!(has(&lists, "a.test"), "{act}");
        let problems = desk.keeper.status.snapshot().problems;
        assert!(
            problems[0].text.contains(said) && problems[0].text.contains("stays in force"),
            "{problems:?}"
        );
    }
}

#[test]
fn a_file_may_shrink_unless_its_owner_says_otherwise() {
    let long: String = (0..100).map(|number| format!("{number}.test\n")).collect();
    for (more, shrinks) in [("", true), ("min_percent = 50", false), ("min_percent = 1", true)] {
        let mut desk = desk_with(more);
        let file = desk.folder.path().join("ads.txt");
        fs::write(&file, &long).unwrap();
        desk.keeper.load();
        fs::write(&file, "0.test\n").unwrap();
        let lists = desk.keeper.load();
        assert_eq!(has(&lists, "99.test"), !shrinks, "{more}");
        assert_eq!(
            desk.keeper.status.snapshot().problems.len(),
            usize::from(!shrinks)
        );
    }
}
