use super::*;
use crate::filter::Lists as _;

struct Desk {
    folder: tempfile::TempDir,
    keeper: Keeper,
}

fn desk() -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let source: Source = toml::from_str("name = 'ads'\ncategories = ['ads']\nfile = 'ads.txt'").unwrap();
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
